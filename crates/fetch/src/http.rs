//! HTTP/1.1, over TLS for https://, and through the proxy of the environment if it names one.

use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use attohttpc::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, IF_RANGE,
    LAST_MODIFIED, LOCATION, RANGE, RETRY_AFTER, TRANSFER_ENCODING,
};
use attohttpc::{Method, ProxySettings, RequestBuilder, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use url::Url;

use crate::limits::Limits;
use crate::transport::{Ask, Failure, Reply, Transport, io_words};
use crate::{Error, proxy, source, trust};

/// How often a server may send on to another address.
const REDIRECTS: usize = 10;

/// The way to real servers.
#[derive(Debug)]
pub(crate) struct Http {
    limits: Limits,
    /// Of whoever asks, for the server that is asked and no other.
    token: Option<Token>,
    /// Read when the first https:// address is asked: without one nobody needs them.
    authorities: OnceLock<Vec<CertificateDer<'static>>>,
}

/// What shows who asks. It is not shown itself.
struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Whether nobody on the way sees what is asked: over https, or on this machine and by no proxy.
fn is_private(url: &Url) -> bool {
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    url.scheme() == "https" || is_here && matches!(proxy::of_environment(url), Ok(None))
}

impl Transport for Http {
    fn get(&self, ask: &Ask) -> Result<Reply, Failure> {
        let asked = Url::parse(&ask.url).map_err(|error| Failure::Lasting(redirected(ask, &error.to_string())))?;
        let mut url = asked.clone();
        for _ in 0..=REDIRECTS {
            // Where a server sends on to, another one may listen.
            let is_asked = self.token.is_some() && url.origin() == asked.origin();
            let token = self.token.as_ref().filter(|_| is_asked && is_private(&url));
            if is_asked && token.is_none() {
                log::warn!("{}: the token is not sent, because the address is not https", ask.shown);
            }
            let (status, headers, body) = self.send(&url, ask, token)?.split();
            let is_redirect = matches!(
                status,
                StatusCode::MOVED_PERMANENTLY
                    | StatusCode::FOUND
                    | StatusCode::SEE_OTHER
                    | StatusCode::TEMPORARY_REDIRECT
                    | StatusCode::PERMANENT_REDIRECT
            );
            if !is_redirect {
                return Ok(reply(status, &headers, Box::new(body)));
            }
            // The address that was asked for stays the one to ask: where it leads to may hold for a while only.
            url = next(&url, header(&headers, &LOCATION), ask).map_err(Failure::Lasting)?;
        }
        Err(Failure::Lasting(redirected(ask, &format!("the server sent on to another address {REDIRECTS} times"))))
    }
}

impl Http {
    pub(crate) fn new(limits: Limits, token: Option<String>) -> Self {
        Self { limits, token: token.map(Token), authorities: OnceLock::new() }
    }

    /// One request and the head of its answer.
    fn send(&self, url: &Url, ask: &Ask, token: Option<&Token>) -> Result<Response, Failure> {
        let proxy = proxy::of_environment(url).map_err(Failure::Lasting)?;
        let request = || -> attohttpc::Result<RequestBuilder> {
            let proxies = ProxySettings::builder().http_proxy(proxy.clone()).https_proxy(proxy.clone()).build();
            let mut request = RequestBuilder::try_new(Method::GET, url.as_str())?
                .proxy_settings(proxies)
                .follow_redirects(false)
                .connect_timeout(self.limits.connect_timeout)
                .read_timeout(self.limits.stall_timeout)
                // What is counted and resumed are the bytes of the file.
                .try_header(ACCEPT_ENCODING, "identity")?;
            if let Some(Token(token)) = token {
                request = request.try_header(AUTHORIZATION, format!("Bearer {token}"))?;
            }
            if ask.from > 0 {
                request = request.try_header(RANGE, format!("bytes={}-", ask.from))?;
                if let Some(version) = &ask.version {
                    request = request.try_header(IF_RANGE, version)?;
                }
            }
            Ok(request)
        };
        let mut request = request().map_err(|error| Failure::Lasting(redirected(ask, &error.to_string())))?;
        if url.scheme() == "https" {
            for authority in self.authorities().map_err(Failure::Lasting)? {
                request = request.add_root_certificate(authority.clone());
            }
        }
        request.send().map_err(|error| self.failure(error, url, proxy.as_ref(), ask))
    }

    fn authorities(&self) -> crate::Result<&[CertificateDer<'static>]> {
        if self.authorities.get().is_none() {
            let _ = self.authorities.set(trust::authorities()?); // whoever was quicker read the same
        }
        Ok(self.authorities.get().map(Vec::as_slice).unwrap_or_default())
    }

    /// Why there is no answer from `url`, in words.
    fn failure(&self, error: attohttpc::Error, url: &Url, proxy: Option<&Url>, ask: &Ask) -> Failure {
        let host = url.host_str().unwrap_or_default();
        // Said when it is not the server of the address that was asked for.
        let asked = Url::parse(&ask.url).ok();
        let elsewhere = match asked.as_ref().and_then(Url::host_str) {
            Some(asked) if asked == host => String::new(),
            _ => format!("sent on to {host}: "),
        };
        let through = proxy.map(|proxy| {
            let port = proxy.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}{port}", proxy.host_str().unwrap_or_default())
        });
        let lasting = |error: &rustls::Error| {
            let reason = trust::lasting(error, host)?;
            Some(Failure::Lasting(Error::Untrusted { url: ask.shown.clone(), reason: format!("{elsewhere}{reason}") }))
        };
        match error.into_kind() {
            attohttpc::ErrorKind::ConnectError { status_code, .. } => {
                let proxy = through.unwrap_or_default();
                let reason = format!("{elsewhere}the proxy {proxy} answered {status_code} to CONNECT");
                match status_code.as_u16() {
                    408 | 425 | 429 | 500..=599 => Failure::Passing(reason),
                    _ => Failure::Lasting(redirected(ask, &reason)),
                }
            }
            attohttpc::ErrorKind::Io(error) => {
                let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                tls.and_then(lasting).unwrap_or_else(|| {
                    let through = through.map(|proxy| format!("through the proxy {proxy}: ")).unwrap_or_default();
                    Failure::Passing(format!("{elsewhere}{through}{}", io_words(&error, &self.limits)))
                })
            }
            attohttpc::ErrorKind::Tls(error) => {
                lasting(&error).unwrap_or_else(|| Failure::Passing(format!("{elsewhere}{error}")))
            }
            attohttpc::ErrorKind::InvalidDNSName(name) => {
                let reason = format!("{elsewhere}no certificate can be for the name {name}");
                Failure::Lasting(Error::Untrusted { url: ask.shown.clone(), reason })
            }
            other => Failure::Passing(format!("{elsewhere}{}", attohttpc::Error::from(other))),
        }
    }
}

fn redirected(ask: &Ask, reason: &str) -> Error {
    Error::Unusable { url: ask.shown.clone(), reason: reason.to_owned() }
}

/// Where a server sends on to.
fn next(url: &Url, location: Option<&str>, ask: &Ask) -> crate::Result<Url> {
    let location = location.ok_or_else(|| redirected(ask, "the server sends on, but does not say where to"))?;
    let next = url.join(location);
    let next = next.map_err(|error| redirected(ask, &format!("the server sends on to '{location}': {error}")))?;
    let shown = source::without_secrets(&next);
    match (url.scheme(), next.scheme()) {
        ("https", "http") => {
            let reason =
                format!("the server sends on to {shown}, where anybody on the way could change the file; refused");
            Err(redirected(ask, &reason))
        }
        (_, "http" | "https") => Ok(next),
        _ => Err(redirected(ask, &format!("the server sends on to {shown}, which is neither http nor https"))),
    }
}

fn reply(status: StatusCode, headers: &HeaderMap, body: Box<dyn io::Read>) -> Reply {
    let (start, total) = match content_range(headers) {
        Some((start, total)) if status.as_u16() == 206 => (start, total),
        Some((_, total)) => (0, total),
        None => (0, header(headers, &CONTENT_LENGTH).and_then(|text| text.parse().ok())),
    };
    let is_chunked =
        header(headers, &TRANSFER_ENCODING).is_some_and(|text| text.to_ascii_lowercase().contains("chunked"));
    Reply {
        status: status.as_u16(),
        start,
        // What is sent in chunks has an end of its own, whatever the length said.
        total: if is_chunked && status.as_u16() != 206 { None } else { total },
        has_end: is_chunked || header(headers, &CONTENT_LENGTH).is_some(),
        version: version(headers),
        retry_after: header(headers, &RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs),
        body,
    }
}

/// What tells one version of a file from another for certain, in the form that `If-Range` has: a strong ETag, else the
/// date of the last change if another change in the same second would have been seen (RFC 9110, 8.8.2.2).
fn version(headers: &HeaderMap) -> Option<String> {
    let strong = header(headers, &ETAG).filter(|tag| tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'));
    let changed = || {
        let changed = header(headers, &LAST_MODIFIED)?;
        header(headers, &DATE).filter(|now| *now != changed && changed.len() == now.len()).map(|_| changed)
    };
    strong.or_else(changed).map(str::to_owned)
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// `bytes 5-9/10`, `bytes 5-9/*`, `bytes */10`: the first byte and the size of the whole.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = header(headers, &CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split('-').next().and_then(|first| first.parse().ok()).unwrap_or(0);
    Some((start, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_versions_apart() {
        let (then, now) = ("Thu, 26 Nov 2026 10:00:00 GMT", "Thu, 26 Nov 2026 10:00:01 GMT");
        let cases: [(&[(HeaderName, &str)], Option<&str>); 7] = [
            (&[(ETAG, "\"abc\""), (LAST_MODIFIED, then)], Some("\"abc\"")),
            (&[(ETAG, "W/\"abc\""), (LAST_MODIFIED, then), (DATE, now)], Some(then)),
            (&[(ETAG, "\"\""), (DATE, now)], None),
            (&[(LAST_MODIFIED, then), (DATE, now)], Some(then)),
            (&[(LAST_MODIFIED, then), (DATE, then)], None), // it may change again in this second
            (&[(LAST_MODIFIED, then)], None),
            (&[(ETAG, "unquoted")], None),
        ];
        for (headers, expected) in cases {
            let headers: HeaderMap = headers.iter().map(|(name, text)| (name.clone(), text.parse().unwrap())).collect();
            assert_eq!(version(&headers).as_deref(), expected, "{headers:?}");
        }
    }

    #[test]
    fn where_a_server_sends_on_to() {
        let at = |url: &str, location| {
            let ask = Ask { url: url.to_owned(), shown: url.to_owned(), from: 0, version: None };
            next(&Url::parse(url).unwrap(), location, &ask)
                .map(|url| url.to_string())
                .map_err(|error| error.to_string())
        };
        let good = [
            ("https://a/x/y", "z?s=1", "https://a/x/z?s=1"),
            ("https://a/x/y", "/z", "https://a/z"),
            ("https://a/x/y", "//b/z", "https://b/z"),
            ("https://a/x/y", "https://b/z?X-Amz-Signature=%2F1&b", "https://b/z?X-Amz-Signature=%2F1&b"),
            ("http://a/x", "https://b/z", "https://b/z"),
            ("http://a/x", "http://b/z", "http://b/z"),
        ];
        for (url, location, expected) in good {
            assert_eq!(at(url, Some(location)).as_deref(), Ok(expected), "{location}");
        }
        let bad = [
            ("https://a/x", Some("http://b/z?secret=1"), "sends on to http://b/z?…, where anybody"),
            ("https://a/x", Some("file:///etc/passwd"), "neither http nor https"),
            ("https://a/x", Some("https://"), "sends on to 'https://': "),
            ("https://a/x", None, "does not say where"),
        ];
        for (url, location, words) in bad {
            let error = at(url, location).unwrap_err();
            assert!(
                error.contains(words) && error.starts_with("https://a/x: ") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
