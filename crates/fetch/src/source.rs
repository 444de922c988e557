//! Where a file comes from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// Where a file comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An `http://` or `https://` address.
    Url(String),
    /// A file on this machine: a path, or a `file://` address.
    File(PathBuf),
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Source { text: text.to_owned(), reason };
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() { Err(refuse("it is empty")) } else { Ok(Self::File(text.into())) };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" if rest.is_empty() || rest.starts_with('/') => Err(refuse("it names no server")),
            "http" | "https" => {
                let source = Self::Url(text.to_owned());
                if source.file_name().is_empty() { Err(refuse("it names no file")) } else { Ok(source) }
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
    /// The name that the file has in a store.
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
                name.trim_start_matches('.').to_owned()
            }
            Self::File(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::File(path) => write!(f, "{}", path.display()),
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
            ("", Err("it is empty"), ""),
            ("http://", Err("it names no server"), ""),
            ("http:///x", Err("it names no server"), ""),
            ("http://host", Err("it names no file"), ""),
            ("http://host/", Err("it names no file"), ""),
            ("http://host/..", Err("it names no file"), ""),
            ("file://host/x", Err("a file:// address needs a whole path"), ""),
            ("s3://bucket/x", Err("unknown scheme"), ""),
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
