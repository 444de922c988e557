//! The pages of an LMDB file, version 1 of its format (liblmdb 0.9), as its `mdb.c` describes them: a tree of keys, whose values lie in
//! the leaves or, in one piece, in pages of their own.
//!
//! ```text
//! page 0, 1   head | what the tree is: the page of its root, how many keys; that of the later transaction counts
//! branch      head | places of nodes | … | nodes: a key, the page of those from it on
//! leaf        head | places of nodes | … | nodes: a key, and its value or the page that this begins in
//! overflow    head | value …
//! ```
//!
//! The library itself trusts what it maps; here no number of the file is.

use std::ops::Range;

use super::super::{Checked, Fault};

/// Bytes before what is in a page: its number, kind, and where its nodes are.
const HEAD: usize = 16;
/// The places of the two trees in a page that describes them: of free pages, and of what is kept.
const MAGIC: usize = HEAD;
const VERSION: usize = HEAD + 4;
const FREE: usize = HEAD + 24;
const MAIN: usize = FREE + 48;
const TRANSACTION: usize = MAIN + 48 + 8;
/// Kinds of pages.
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const OVERFLOW: u16 = 0x04;
const FIXED_LEAF: u16 = 0x20;
/// Kinds of nodes: a value in pages of its own, a tree, several values.
const IS_BIG: u16 = 0x01;
const IS_TREE: u16 = 0x02;
const HAS_DUPLICATES: u16 = 0x04;
/// A tree that sorts several values under a key.
const SORTS_DUPLICATES: u16 = 0x04;
/// Orders of keys: by their last byte first, and as numbers of this machine.
const REVERSED_KEYS: u16 = 0x02;
const NUMBERS_AS_KEYS: u16 = 0x08;
/// The library follows no more branches.
const DEEPEST: usize = 32;
const NO_PAGE: u64 = u64::MAX;

/// What lies under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// So many bytes of the file.
    Bytes(Range<usize>),
    /// A tree of its own.
    Named,
}

/// The tree of what is kept in a file.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    bytes: &'a [u8],
    page_size: usize,
    flags: u16,
    root: u64,
    /// How many keys it says that it has.
    pub keys: u64,
}

fn number<const BYTES: usize>(bytes: &[u8], at: usize) -> Option<[u8; BYTES]> {
    bytes.get(at..at.checked_add(BYTES)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    number(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}

impl<'a> Tree<'a> {
    /// The tree as the last transaction has left it.
    pub fn open(bytes: &'a [u8]) -> Checked<Self> {
        const OTHER: &str = "is no LMDB file of a 64-bit little-endian machine";
        if u32_at(bytes, MAGIC) != Some(0xbeef_c0de) {
            return Err(OTHER.to_owned());
        }
        match u32_at(bytes, VERSION) {
            Some(1) => {}
            version => return Err(format!("is an LMDB file of format {}; 1 is read", version.unwrap_or(0))),
        }
        let page_size = u32_at(bytes, FREE).ok_or(OTHER)? as usize;
        if !page_size.is_power_of_two() || !(256..=1 << 15).contains(&page_size) {
            return Err(format!("is no usable LMDB file: it says that a page has {page_size} bytes"));
        }
        let meta = |page: usize| {
            let page = bytes.get(page * page_size..(page + 1) * page_size)?;
            let is_one = u32_at(page, MAGIC) == Some(0xbeef_c0de) && u32_at(page, VERSION) == Some(1);
            is_one.then_some((u64_at(page, TRANSACTION)?, page))
        };
        let (_, meta) =
            [meta(0), meta(1)].into_iter().flatten().max_by_key(|(transaction, _)| *transaction).ok_or(CUT)?;
        let flags = u16_at(meta, MAIN + 4).ok_or(CUT)?;
        if flags & SORTS_DUPLICATES != 0 {
            return Err("keeps several values under a key (MDB_DUPSORT), which is not read here".to_owned());
        }
        let (keys, root) = (u64_at(meta, MAIN + 32).ok_or(CUT)?, u64_at(meta, MAIN + 40).ok_or(CUT)?);
        Ok(Self { bytes, page_size, flags, root, keys })
    }

    /// Gives each key and where its value is, in the order of the keys.
    ///
    /// # Errors
    /// A tree that leads out of the file, or in a circle, or has other keys than it says; what `take` returns.
    pub fn each(&self, mut take: impl FnMut(&'a [u8], Value) -> Result<(), Fault>) -> Result<(), Fault> {
        let most = self.bytes.len() / self.page_size;
        let (mut seen, mut keys, mut last) = (0, 0, None::<&[u8]>);
        // Pages on the way to where we are, each with the next of its nodes.
        let mut way = Vec::new();
        if self.root != NO_PAGE {
            way.push((self.page(self.root)?, 0));
        }
        while let Some((page, next)) = way.pop() {
            let Some(node) = self.node(page, next)? else { continue };
            way.push((page, next + 1));
            match node {
                Node::Below(number) => {
                    seen += 1;
                    if seen > most || way.len() >= DEEPEST {
                        return Err("is damaged: its pages lead in a circle".to_owned().into());
                    }
                    way.push((self.page(number)?, 0));
                }
                Node::Value(key, value) => {
                    // So none comes twice, however pages and nodes lead to it.
                    if last.is_some_and(|last| !self.is_before(last, key)) {
                        return Err("is damaged: its keys are not in their order".to_owned().into());
                    }
                    last = Some(key);
                    keys += 1;
                    take(key, value)?;
                }
            }
        }
        match keys == self.keys {
            true => Ok(()),
            false => Err(format!("is damaged: it says that it has {} keys, and has {keys}", self.keys).into()),
        }
    }

    fn is_before(&self, one: &[u8], other: &[u8]) -> bool {
        match self.flags & (REVERSED_KEYS | NUMBERS_AS_KEYS) {
            0 => one < other,
            _ => one.iter().rev().lt(other.iter().rev()), // numbers have their first bytes last, too
        }
    }

    /// A page by its number, which it must have, too.
    fn page(&self, number: u64) -> Checked<&'a [u8]> {
        let place = self.place(number)?;
        let page = self.bytes.get(place..place + self.page_size).ok_or_else(|| self.cut(number))?;
        let kind = u16_at(page, 10).unwrap_or(0);
        if kind & FIXED_LEAF != 0 || kind & (BRANCH | LEAF) == 0 || u64_at(page, 0) != Some(number) {
            return Err(format!("is damaged: page {number} is not that of a tree"));
        }
        Ok(page)
    }

    fn place(&self, number: u64) -> Checked<usize> {
        let place = usize::try_from(number).ok().and_then(|number| number.checked_mul(self.page_size));
        place.filter(|place| *place < self.bytes.len()).ok_or_else(|| self.cut(number))
    }

    fn cut(&self, number: u64) -> String {
        format!("{CUT}: it has {} pages, and page {number} is wanted", self.bytes.len() / self.page_size)
    }

    /// A node of a page; `None` behind the last.
    fn node(&self, page: &'a [u8], index: usize) -> Checked<Option<Node<'a>>> {
        let nodes = usize::from(u16_at(page, 12).unwrap_or(0)).saturating_sub(HEAD) / 2;
        if index >= nodes {
            return Ok(None);
        }
        let number = u64_at(page, 0).unwrap_or(0);
        let node = || {
            let at = usize::from(u16_at(page, HEAD + 2 * index)?);
            let [low, high, flags, length] =
                [u16_at(page, at)?, u16_at(page, at + 2)?, u16_at(page, at + 4)?, u16_at(page, at + 6)?];
            let key = page.get(at + 8..at + 8 + usize::from(length))?;
            let value = at + 8 + key.len();
            let size = u64::from(low) | u64::from(high) << 16;
            Some((flags, size, key, value))
        };
        let broken = || format!("is damaged: node {index} of page {number} is not within it");
        let (flags, size, key, value) = node().ok_or_else(broken)?;
        if u16_at(page, 10).unwrap_or(0) & BRANCH != 0 {
            return Ok(Some(Node::Below(size | u64::from(flags) << 32)));
        }
        let value = match flags {
            0 => {
                let end = value + size as usize;
                let start = self.place(number)?;
                page.get(value..end).ok_or_else(broken)?;
                Value::Bytes(start + value..start + end)
            }
            IS_BIG => Value::Bytes(self.overflow(u64_at(page, value).ok_or_else(broken)?, size as usize)?),
            IS_TREE => Value::Named,
            _ if flags & HAS_DUPLICATES != 0 => {
                return Err("keeps several values under a key, which is not read here".to_owned());
            }
            _ => return Err(broken()),
        };
        Ok(Some(Node::Value(key, value)))
    }

    /// Where a value of so many bytes lies that begins in page `number`.
    fn overflow(&self, number: u64, size: usize) -> Checked<Range<usize>> {
        let place = self.place(number)?;
        let head = self.bytes.get(place..place + HEAD).ok_or_else(|| self.cut(number))?;
        let pages = u32_at(head, 12).unwrap_or(0) as usize;
        let is_one = u64_at(head, 0) == Some(number) && u16_at(head, 10).is_some_and(|kind| kind & OVERFLOW != 0);
        if !is_one || pages.saturating_mul(self.page_size) < HEAD + size {
            return Err(format!("is damaged: page {number} is not that of a value of {size} bytes"));
        }
        let range = place + HEAD..place + HEAD + size;
        if range.end > self.bytes.len() {
            return Err(self.cut(number + pages as u64 - 1));
        }
        Ok(range)
    }
}

const CUT: &str = "is cut off";

enum Node<'a> {
    /// The page of the keys from this one on.
    Below(u64),
    Value(&'a [u8], Value),
}
