//! What is in an archive, as it is found out once and kept.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::fields;
use crate::scan::LeftOut;

/// The images of an archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// Bytes of the archive when it was indexed.
    pub(crate) size: u64,
    /// When it had last been written, in nanoseconds since 1970.
    pub(crate) modified: u64,
    pub(crate) contents: Contents,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Contents {
    /// In the order of the archive.
    pub entries: Vec<Entry>,
    /// The names of the classes, where the archive tells them; a label is an index here.
    pub names: Vec<String>,
    /// How many files of each kind are left out.
    pub left_out: LeftOut,
}

/// An image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Below the archive.
    pub name: PathBuf,
    /// Where it begins, as in [`Member`](super::Member).
    pub at: u64,
    pub packed: u64,
    /// Bytes.
    pub size: u64,
    /// Its label, where the archive tells it otherwise than by a folder.
    pub told: Option<Told>,
}

/// A label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Number(i64),
    Name(String),
}

impl Index {
    /// Whether it is that of an archive of this size and time.
    pub fn is_current(&self, size: u64, modified: u64) -> bool {
        (self.size, self.modified) == (size, modified)
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.contents.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.contents.entries.is_empty()
    }

    /// All of it: fields that end with a zero byte, which no name can hold.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { size, modified, contents: Contents { entries, names, left_out } } = self;
        let mut bytes = Vec::new();
        let mut field = |field: &[u8]| fields::push(&mut bytes, field);
        field(format!("{size} {modified} {} {} {}", entries.len(), names.len(), left_out.0.len()).as_bytes());
        names.iter().for_each(|name| field(name.as_bytes()));
        for (kind, count) in &left_out.0 {
            field(kind.as_bytes());
            field(count.to_string().as_bytes());
        }
        for Entry { name, at, packed, size, told } in entries {
            field(name.as_os_str().as_encoded_bytes());
            field(format!("{at} {packed} {size}").as_bytes());
            match told {
                None => field(b""),
                Some(Told::Number(number)) => field(format!("#{number}").as_bytes()),
                Some(Told::Name(name)) => field(format!("={name}").as_bytes()),
            }
        }
        bytes
    }

    /// The other way round: an index, and the bytes behind it. `None` where the bytes begin with none.
    pub fn from_bytes(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = bytes;
        let mut field = || {
            let end = rest.iter().position(|&byte| byte == 0)?;
            let (field, behind) = rest.split_at(end);
            rest = &behind[1..];
            Some(field)
        };
        let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
        let numbers = |field: &[u8]| {
            let numbers = str::from_utf8(field).ok()?.split(' ').map(|number| number.parse().ok());
            numbers.collect::<Option<Vec<u64>>>()
        };
        let &[size, modified, images, classes, kinds] = &numbers(field()?)?[..] else { return None };
        let names = (0..classes).map(|_| text(field()?)).collect::<Option<_>>()?;
        let left_out =
            (0..kinds).map(|_| Some((text(field()?)?, text(field()?)?.parse().ok()?))).collect::<Option<_>>()?;
        let mut entries = Vec::new();
        for _ in 0..images {
            let name = PathBuf::from(OsString::from_vec(field()?.to_vec()));
            let &[at, packed, size] = &numbers(field()?)?[..] else { return None };
            let told = match field()?.split_first() {
                None => None,
                Some((b'#', number)) => Some(Told::Number(text(number)?.parse().ok()?)),
                Some((b'=', name)) => Some(Told::Name(text(name)?)),
                Some(_) => return None,
            };
            entries.push(Entry { name, at, packed, size, told });
        }
        Some((Self { size, modified, contents: Contents { entries, names, left_out: LeftOut(left_out) } }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn there_and_back(
            names in proptest::collection::vec("[a-c é]{0,4}", 0..4),
            left_out in proptest::collection::btree_map("[.a-z]{1,4}", any::<u64>(), 0..3),
            entries in proptest::collection::vec(("[^\0]{1,9}", any::<[u64; 3]>(), 0..3u8, any::<i64>(), "[^\0]{0,5}"), 0..9),
            stamp: [u64; 2],
            behind: Vec<u8>,
        ) {
            let entry = |(name, [at, packed, size], kind, number, text): (String, [u64; 3], u8, i64, String)| {
                let told = [None, Some(Told::Number(number)), Some(Told::Name(text))][usize::from(kind)].clone();
                Entry { name: name.into(), at, packed, size, told }
            };
            let entries = entries.into_iter().map(entry).collect();
            let left_out = LeftOut(left_out);
            let index = Index { size: stamp[0], modified: stamp[1], contents: Contents { entries, names, left_out } };
            let bytes = [index.to_bytes(), behind.clone()].concat();
            prop_assert_eq!(Index::from_bytes(&bytes), Some((index, &behind[..])));
        }

        #[test]
        fn any_bytes_are_an_index_or_none(bytes: Vec<u8>) {
            let _ = Index::from_bytes(&bytes); // no panic, and nothing allocated for a mere number
        }
    }
}
