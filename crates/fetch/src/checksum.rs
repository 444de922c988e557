//! What a file's content must be.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// A SHA-256, whole or only its first digits, as torchvision has them in its file names (`resnet18-f37072fd.pth`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum(String);

impl FromStr for Checksum {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let lower = text.trim().to_ascii_lowercase();
        if (8..=64).contains(&lower.len()) && lower.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(lower))
        } else {
            Err(format!("invalid SHA-256 '{text}': 64 hexadecimal digits, or at least its first 8"))
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Checksum {
    /// That of the file at `path`, whole.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        of_file(path, &|_| Ok(())).map(Self)
    }

    /// The digits in a name like `resnet18-f37072fd.pth`, if there are at least eight between the last dash and a dot, and
    /// they are no date.
    pub fn in_file_name(name: &str) -> Option<Self> {
        let (_, tail) = name.rsplit_once('-')?;
        let (digits, _) = tail.split_once('.')?;
        // torch writes them in lower case; anything else is a word that happens to be hexadecimal.
        let is_hash = digits.len() >= 8 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_hash && !is_date(digits) { digits.parse().ok() } else { None }
    }

    /// Whether it says at least what `other` says.
    pub(crate) fn implies(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Whether the whole hash `hex` is this one.
    pub fn matches(&self, hex: &str) -> bool {
        hex.starts_with(&self.0)
    }
}

/// Whether digits are a day of this century or the last: `20261126`.
fn is_date(digits: &str) -> bool {
    let number = |range| digits.get(range).and_then(|part: &str| part.parse::<u32>().ok()).unwrap_or_default();
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    digits.len() == 8 && (1900..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// The SHA-256 of a file, as 64 hexadecimal digits. `progress` is told how many bytes have been read.
pub(crate) fn of_file(path: &Path, progress: &dyn Fn(u64) -> Result<()>) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).map_err(Error::io(path, "reading the file"))?;
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                done += count as u64;
                progress(done)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path, "reading the file")(error)),
        }
    }
    Ok(in_digits(&hasher.finalize()))
}

/// The SHA-256 of a text, as 64 hexadecimal digits.
pub(crate) fn of_text(text: &str) -> String {
    in_digits(&Sha256::digest(text))
}

fn in_digits(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_in_names() {
        let cases = [
            ("resnet18-f37072fd.pth", Some("f37072fd")),
            ("a-b-0123456789abcdef.tar.gz", Some("0123456789abcdef")),
            ("resnet18-F37072FD.pth", None),
            ("resnet18-f37072f.pth", None),
            ("resnet18.pth", None),
            ("model-facade.bin", None),
            ("model-20240131.bin", None),
            ("model-20241331.bin", Some("20241331")),
            ("model-20240131ab.bin", Some("20240131ab")),
        ];
        for (name, expected) in cases {
            assert_eq!(Checksum::in_file_name(name).map(|sum| sum.to_string()).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn the_hash_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2
        assert_eq!(of_file(file.path(), &|_| Ok(())).unwrap(), expected);
        assert!("ba7816bf".parse::<Checksum>().unwrap().matches(expected));
        assert!(!"ba7816b0".parse::<Checksum>().unwrap().matches(expected));
        assert!("xyz".parse::<Checksum>().is_err());
    }
}
