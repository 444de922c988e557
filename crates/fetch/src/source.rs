//! Where a file comes from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use crate::hub::{self, HubModel};
use crate::{Error, checksum};

/// The longest name that a file is given, in bytes: file systems have names of 255, and there are hidden ones around it.
const LONGEST_NAME: usize = 150;

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An `http://` or `https://` address.
    Url(String),
    /// A file on this machine: a path, or a `file://` address.
    File(PathBuf),
    /// A model on the Hugging Face Hub: its files have addresses once they are [listed](HubModel::list).
    Hub(HubModel),
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Source { text: text.to_owned(), reason };
        if hub::is_one(text) {
            return text.parse().map(Self::Hub);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() { Err(refuse("it is empty")) } else { Ok(Self::File(text.into())) };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" if rest.is_empty() || rest.starts_with('/') => Err(refuse("it names no server")),
            "http" | "https" => {
                let source = Self::Url(text.to_owned());
                if source.file_name().is_empty() {
                    return Err(refuse("it names no file"));
                }
                if Url::parse(text).is_err() { Err(refuse("it is not an address")) } else { Ok(source) }
            }
            // `file:///path`, or with a host name that means this machine.
            "file" => match rest.strip_prefix("localhost").unwrap_or(rest) {
                path if path.starts_with('/') => Ok(Self::File(path.into())),
                _ => Err(refuse("a file:// address needs a whole path")),
            },
            _ => Err(refuse("unknown scheme")),
        }
    }
}

impl Source {
    /// The last part of the path, in harmless characters: what people, and mirrors, call the file.
    pub fn file_name(&self) -> String {
        match self {
            Self::Url(url) => {
                let path = url.split(['?', '#']).next().unwrap_or_default();
                let path = path.split_once("://").map_or(path, |(_, rest)| rest);
                // What comes before the first slash is the server.
                let name = path.split_once('/').and_then(|(_, path)| path.rsplit('/').next()).unwrap_or_default();
                // Only harmless characters: the name comes from elsewhere.
                let harmless = |letter: char| letter.is_ascii_alphanumeric() || "._-+".contains(letter);
                let name: String = name.chars().map(|letter| if harmless(letter) { letter } else { '_' }).collect();
                // The end says what kind of file it is.
                let name = &name[name.len().saturating_sub(LONGEST_NAME)..];
                name.trim_start_matches('.').to_owned()
            }
            Self::File(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            Self::Hub(_) => String::new(),
        }
    }

    /// What tells this source from any other, and can be shown to anybody: the address without its fragment, its password
    /// and its signature, which is another each time; of what else is asked for behind `?` only the hash.
    pub(crate) fn origin(&self) -> String {
        let url = match self {
            Self::Url(text) => Url::parse(text),
            Self::File(_) | Self::Hub(_) => Err(url::ParseError::RelativeUrlWithoutBase),
        };
        let Ok(mut url) = url else { return self.to_string() };
        let query = url.query().map(unsigned).unwrap_or_default();
        // Neither can fail for an address with a host.
        let _ = url.set_password(None);
        url.set_fragment(None);
        url.set_query(None);
        if query.is_empty() { url.into() } else { format!("{url}?sha256={}", &checksum::of_text(&query)[..16]) }
    }

    /// A short name for [`origin`](Self::origin).
    pub(crate) fn key(&self) -> String {
        checksum::of_text(&self.origin())[..16].to_owned()
    }
}

/// A query without what only shows that whoever asks may have the file. Such parameters come together, so that one of
/// them alone is taken for something that the server looks for.
fn unsigned(query: &str) -> String {
    const AMAZON: [&str; 7] =
        ["algorithm", "credential", "date", "expires", "security-token", "signature", "signedheaders"];
    const SIGNED: [&str; 8] = [
        "awsaccesskeyid",
        "expires",
        "googleaccessid",
        "hash-algorithm",
        "key-pair-id",
        "policy",
        "signature",
        "x-amz-security-token",
    ];
    const AZURE: [&str; 14] =
        ["se", "sig", "sip", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "sr", "st", "sv"];
    let pieces: Vec<(String, &str)> = query
        .split('&')
        .map(|piece| (piece.split('=').next().unwrap_or_default().to_ascii_lowercase(), piece))
        .collect();
    let has = |names: &[&str]| names.iter().all(|name| pieces.iter().any(|(known, _)| known == name));
    let is_signature = |name: &str| {
        let of = |prefix: &str| {
            name.strip_prefix(prefix).is_some_and(|rest| AMAZON.contains(&rest))
                && has(&[&format!("{prefix}signature")])
        };
        of("x-amz-")
            || of("x-goog-")
            || (SIGNED.contains(&name) && has(&["signature"]) && (has(&["expires"]) || has(&["policy"])))
            || (AZURE.contains(&name) && has(&["sig", "sv"]))
    };
    let kept: Vec<&str> = pieces.iter().filter(|(name, _)| !is_signature(name)).map(|(_, piece)| *piece).collect();
    kept.join("&")
}

/// An address as it may be shown: without a password, and without what may be a signature.
pub(crate) fn without_secrets(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = shown.set_password(None); // there is a host, or it is not shown for long
    shown.set_query(url.query().map(|_| "…"));
    shown.set_fragment(None);
    // The url crate writes what is not ASCII in digits.
    shown.as_str().replace("?%E2%80%A6", "?…")
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(text) => match Url::parse(text) {
                Ok(mut url) if url.password().is_some() => {
                    let _ = url.set_password(None);
                    write!(f, "{url}")
                }
                _ => f.write_str(text),
            },
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Hub(model) => write!(f, "{model}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sources_and_their_names() {
        let url = |text: &str| Ok(Source::Url(text.to_owned()));
        let file = |path: &str| Ok(Source::File(path.into()));
        let cases = [
            (
                "https://example.org/models/r18-f37072fd.pth",
                url("https://example.org/models/r18-f37072fd.pth"),
                "r18-f37072fd.pth",
            ),
            ("http://[::1]:80/a/b.bin?token=x/y#z", url("http://[::1]:80/a/b.bin?token=x/y#z"), "b.bin"),
            ("http://host/%2e%2e", url("http://host/%2e%2e"), "_2e_2e"),
            ("file:///data/w.safetensors", file("/data/w.safetensors"), "w.safetensors"),
            ("file://localhost/data/w", file("/data/w"), "w"),
            ("w.safetensors", file("w.safetensors"), "w.safetensors"),
            ("hf:o/n@v1", "hf:o/n@v1".parse().map(Source::Hub).map_err(|_: Error| ""), ""),
            ("hf:n", Err("hf:ORG/NAME"), ""),
            ("", Err("it is empty"), ""),
            ("http://", Err("it names no server"), ""),
            ("http:///x", Err("it names no server"), ""),
            ("http://host", Err("it names no file"), ""),
            ("http://host/", Err("it names no file"), ""),
            ("http://host/..", Err("it names no file"), ""),
            ("file://host/x", Err("a file:// address needs a whole path"), ""),
            ("s3://bucket/x", Err("unknown scheme"), ""),
            ("http://a b/x", Err("it is not an address"), ""),
            ("https://host:99999/x", Err("it is not an address"), ""),
        ];
        for (text, expected, name) in cases {
            match (text.parse::<Source>(), expected) {
                (Ok(source), Ok(expected)) => {
                    assert_eq!(source, expected, "{text}");
                    assert_eq!(source.file_name(), name, "{text}");
                }
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn what_tells_sources_apart() {
        let origin = |text: &str| text.parse::<Source>().unwrap().origin();
        let same = [
            ("https://host/a/m.bin", "HTTPS://Host:443/a/m.bin#part"),
            ("https://host/a/m.bin", "https://host/a/m.bin?"),
            (
                "https://host/m",
                "https://host/m?X-Amz-Algorithm=A&X-Amz-Credential=K%2F1&X-Amz-Date=D&X-Amz-Expires=9&X-Amz-SignedHeaders=host&X-Amz-Signature=1",
            ),
            ("https://host/m?X-Amz-Signature=1&X-Amz-Date=2", "https://host/m?X-Amz-Signature=3&X-Amz-Date=4"),
            ("https://host/m?versionId=7", "https://host/m?versionId=7&X-Goog-Signature=1&X-Goog-Date=2"),
            ("https://host/m", "https://host/m?Expires=1&Signature=2&Key-Pair-Id=3"),
            ("https://host/m", "https://host/m?Policy=1&Signature=2&Key-Pair-Id=3"),
            ("https://host/m", "https://host/m?sv=2020&sr=b&sig=x%3D&se=2030&sp=r"),
            ("https://me:one@host/m", "https://me:two@host/m"),
        ];
        for (one, other) in same {
            assert_eq!(origin(one), origin(other), "{one} {other}");
        }
        let different = [
            "https://host/orgA/m.bin",
            "https://host/orgB/m.bin",
            "http://host/orgA/m.bin",
            "https://host:444/orgA/m.bin",
            "https://else/orgA/m.bin",
            "https://host/orga/m.bin",
            "https://me@host/orgA/m.bin",
            "https://you@host/orgA/m.bin",
            "https://host/orgA/m.bin?version=1",
            "https://host/orgA/m.bin?version=2",
            "https://host/orgA/m.bin?Expires=1", // no signature
            "https://host/orgA/m.bin?X-Amz-Date=1",
            "https://host/orgA/m.bin?sig=1",
            "https://host/orgA/m.bin?sv=1",
            "https://host/orgA%2Fm.bin",
        ];
        let keys: std::collections::HashSet<String> =
            different.iter().map(|text| text.parse::<Source>().unwrap().key()).collect();
        assert_eq!(keys.len(), different.len());
        for text in ["https://me:secret@host/m?token=secret", "https://host/m?X-Amz-Signature=secret"] {
            assert!(!origin(text).contains("secret"), "{}", origin(text));
        }
        let shown = "https://me:secret@host/m?x=1".parse::<Source>().unwrap().to_string();
        assert_eq!(shown, "https://me@host/m?x=1");
    }

    #[test]
    fn names_fit() {
        let url = format!("https://host/{}-f37072fd.safetensors", "x".repeat(400));
        let name = url.parse::<Source>().unwrap().file_name();
        assert!(name.len() <= LONGEST_NAME && name.ends_with("-f37072fd.safetensors"), "{name}");
    }

    proptest! {
        #[test]
        fn a_name_never_leaves_the_folder(text in "https?://[ -~]{0,30}") {
            if let Ok(source @ Source::Url(_)) = text.parse::<Source>() {
                let name = source.file_name();
                prop_assert!(!name.is_empty() && !name.contains('/') && !name.starts_with('.'), "{}", name);
            }
        }
    }
}
