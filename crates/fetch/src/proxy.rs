//! Which proxy the environment names for an address.

use std::env;
use std::net::IpAddr;

use url::Url;

use crate::{Error, Result};

/// The proxy for `url`, from `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy`, in lower or upper case.
///
/// # Errors
/// A variable whose value names no proxy: going past it would only time out later.
pub(crate) fn of_environment(url: &Url) -> Result<Option<Url>> {
    choose(url, &|name| env::var(name).ok())
}

fn choose(url: &Url, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Url>> {
    let value = |name: &str| {
        let upper = name.to_ascii_uppercase();
        let set = |name: String| variable(&name).filter(|text| !text.trim().is_empty()).map(|text| (name, text));
        set(name.to_owned()).or_else(|| set(upper))
    };
    let Some((name, text)) = value(&format!("{}_proxy", url.scheme())).or_else(|| value("all_proxy")) else {
        return Ok(None);
    };
    if value("no_proxy").is_some_and(|(_, list)| is_excepted(url, &list)) {
        return Ok(None);
    }
    // As curl has it, a proxy without a scheme speaks HTTP.
    let text = text.trim();
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let refuse = |reason| Error::Proxy { variable: name.clone(), reason };
    match Url::parse(&text) {
        Ok(proxy) if !matches!(proxy.scheme(), "http" | "https") => {
            Err(refuse("only proxies that speak HTTP are known: http://HOST:PORT"))
        }
        Ok(proxy) if proxy.has_host() => Ok(Some(proxy)),
        _ => Err(refuse("this is not the address of a proxy: http://HOST:PORT")),
    }
}

/// Whether `list` (hosts, domains, networks, between commas or blanks) says that `url` is reached without a proxy.
fn is_excepted(url: &Url, list: &str) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    list.split([',', ' ', '\t', '\n']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let (Some(address), Some((network, bits))) = (address, entry.split_once('/')) {
            return contains(network, bits, address);
        }
        // Only a name or an IPv4 address can carry a port without brackets.
        let (entry, port) = match entry.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port.parse::<u16>().ok()),
            _ => (entry.as_str(), None),
        };
        if port.is_some() && port != url.port_or_known_default() {
            return false;
        }
        let domain = entry.trim_matches(['[', ']']).trim_start_matches('*').trim_start_matches('.');
        host == domain || (address.is_none() && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
    })
}

fn contains(network: &str, bits: &str, address: IpAddr) -> bool {
    let numbers = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32u32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let (Ok(network), Ok(bits)) = (network.trim_matches(['[', ']']).parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let ((network, width), (address, other)) = (numbers(network), numbers(address));
    width == other && bits <= width && (bits == 0 || (network ^ address) >> (128 - bits) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, variables: &[(&str, &str)]) -> Result<Option<String>> {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
        Ok(choose(&Url::parse(url).unwrap(), &variable)?.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn the_scheme_decides() {
        let both = [("https_proxy", "http://secure:3128"), ("HTTP_PROXY", "plain:8080")];
        let cases = [
            ("https://host/x", &both[..], Some("http://secure:3128/")),
            ("http://host/x", &both, Some("http://plain:8080/")),
            ("http://host/x", &both[..1], None),
            ("https://host/x", &[("HTTPS_PROXY", "http://upper:1")], Some("http://upper:1/")),
            ("https://host/x", &[("https_proxy", ""), ("HTTPS_PROXY", "http://upper:1")], Some("http://upper:1/")),
            ("https://host/x", &[("all_proxy", "any:1")], Some("http://any:1/")),
            ("https://host/x", &[], None),
        ];
        for (url, variables, expected) in cases {
            assert_eq!(chosen(url, variables).unwrap().as_deref(), expected, "{url} {variables:?}");
        }
        for (value, words) in [("socks5://host:1", "only proxies that speak HTTP"), ("http://", "not the address")] {
            let error = chosen("https://host/x", &[("https_proxy", value), ("no_proxy", "else")]).unwrap_err();
            assert!(error.to_string().contains(words) && error.to_string().contains("https_proxy"), "{error}");
            assert!(error.is_bad_input());
        }
    }

    #[test]
    fn exceptions() {
        let cases = [
            ("https://host.site.org/x", "site.org", true),
            ("https://host.site.org/x", ".site.org", true),
            ("https://host.site.org/x", "*.site.org", true),
            ("https://site.org/x", ".site.org", true),
            ("https://mysite.org/x", "site.org", false),
            ("https://HOST.site.org/x", "localhost, Host.Site.ORG", true),
            ("https://host/x", "localhost,", false), // an empty entry excepts nothing
            ("https://host/x", " ", false),
            ("https://host/x", "other host", true),
            ("https://host/x", "*", true),
            ("https://host:8443/x", "host:8443", true),
            ("https://host:8443/x", "host:443", false),
            ("https://host/x", "host:443", true),
            ("http://10.1.2.3/x", "10.0.0.0/8", true),
            ("http://11.1.2.3/x", "10.0.0.0/8", false),
            ("http://10.1.2.3/x", "10.1.2.3", true),
            ("http://10.1.2.3/x", "2.3", false),
            ("http://[fd00::1]/x", "fd00::/8", true),
            ("http://[fd00::1]/x", "fd00::1", true),
            ("http://[fd00::1]:81/x", "[fd00::1]:81", true),
            ("http://[fe00::1]/x", "0.0.0.0/0", false),
        ];
        for (url, list, expected) in cases {
            let proxies = [("http_proxy", "p:1"), ("https_proxy", "p:1"), ("NO_PROXY", list)];
            assert_eq!(chosen(url, &proxies).unwrap().is_none(), expected, "{url} {list:?}");
        }
    }
}
