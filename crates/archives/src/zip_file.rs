//! A zip file as names and places. What hides something (a name twice, entries over each other) is refused.
//!
//! The directory at the end is read here and not by the crate that writes such files: that one makes half a kilobyte of
//! each entry before anybody can count them, and takes some of torch's directories for others.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::str::Utf8Chunk;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use crate::{Budget, Bytes, Checked, quote};

/// The record at the end of the file, without the comment behind it.
const END: usize = 22;
/// The record before it that says where a third lies, with the numbers that do not fit into 32 bits.
const LOCATOR: usize = 20;
const END_64: usize = 56;
/// The longest comment.
const LONGEST_COMMENT: usize = u16::MAX as usize;
/// A record of the directory, and the one before an entry's bytes, without what follows each.
const RECORD: usize = 46;
const LOCAL: usize = 30;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// One entry.
#[derive(Clone, Debug)]
struct Entry {
    place: Range<usize>,
    method: u16,
    /// Bytes when it is inflated, as the directory says.
    size: usize,
    checksum: u32,
}

/// The entries of a zip file, below the folder that holds them all.
#[derive(Debug)]
pub struct ZipFile {
    bytes: Bytes,
    entries: HashMap<String, Entry>,
    names: Vec<String>,
    /// The folder with `data.pkl`, as `archive/`, or nothing.
    folder: String,
}

impl ZipFile {
    /// The archive that `bytes` are, of at most so many entries.
    ///
    /// # Errors
    /// What is none, or hides something.
    pub fn open(bytes: &Bytes, budget: &Budget, most: usize) -> Checked<Self> {
        let whole = bytes.as_slice();
        let directory = Directory::find(whole).ok_or("is a broken zip file, or is cut off: it has no directory")?;
        if directory.entries > most {
            return Err(format!("is a zip file of {} entries; at most {most} are read", directory.entries));
        }
        let (mut entries, mut names, mut places) = (HashMap::new(), Vec::new(), Vec::new());
        let mut rest = &whole[directory.place.clone()];
        for _ in 0..directory.entries {
            let (record, after) = Record::parse(rest).ok_or("is a broken zip file: its directory is none")?;
            rest = after;
            let name = quote(&record.name);
            let (from, place) =
                record.find(whole, directory.place.start).ok_or_else(|| format!("is cut off in {name}"))?;
            if record.is_encrypted {
                return Err(format!("has an encrypted entry, {name}"));
            }
            // The name is kept twice, in a list and in a table; the rest is what these add.
            budget.take(2 * (record.name.len() + 2 * size_of::<(String, Entry)>()))?;
            places.push((from..place.end, names.len()));
            let entry = Entry { place, method: record.method, size: record.size, checksum: record.checksum };
            if entries.insert(record.name.clone().into_owned(), entry).is_some() {
                return Err(format!("is a zip file that has a name twice: {name}"));
            }
            names.push(record.name.into_owned());
        }
        if !rest.is_empty() {
            return Err("is a broken zip file: its directory is longer than its entries".to_owned());
        }
        refuse_overlaps(places, &names)?;
        let folders = names.iter().filter_map(|name| name.strip_suffix("data.pkl"));
        let folders: Vec<_> = folders.filter(|folder| folder.is_empty() || folder.ends_with('/')).collect();
        let folder = match folders.as_slice() {
            [] => String::new(),
            [folder] => (*folder).to_owned(),
            _ => return Err("has several data.pkl".to_owned()),
        };
        Ok(Self { bytes: bytes.clone(), entries, names, folder })
    }

    /// The names, in the order of the directory.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All of the archive.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether there is an entry `name` in the folder.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(&format!("{}{name}", self.folder))
    }

    /// Where the entry `name` of the folder lies, uncompressed.
    ///
    /// # Errors
    /// An entry that is not there, or is otherwise.
    pub fn stored(&self, name: &str) -> Checked<Range<usize>> {
        let entry = self.entry(&format!("{}{name}", self.folder))?;
        if entry.method != STORED || entry.size != entry.place.len() {
            return Err(format!("{} is compressed, which torch.save never does", quote(name)));
        }
        Ok(entry.place.clone())
    }

    /// Whether the entry is stored as it is, and where.
    ///
    /// # Errors
    /// An entry that is not there, or is otherwise.
    pub fn place(&self, name: &str) -> Checked<(bool, Range<usize>)> {
        let entry = self.entry(name)?;
        match entry.method {
            STORED if entry.size == entry.place.len() => Ok((true, entry.place.clone())),
            DEFLATED => Ok((false, entry.place.clone())),
            other => Err(format!("is compressed in a way that is not read here (method {other})")),
        }
    }

    /// The bytes that an entry has when it is inflated, as the directory says.
    ///
    /// # Errors
    /// An entry that is not there.
    pub fn size(&self, name: &str) -> Checked<usize> {
        Ok(self.entry(name)?.size)
    }

    /// Inflates the start of a deflated entry: `most` bytes, or fewer where it ends before.
    ///
    /// # Errors
    /// An entry that is not there, or is otherwise.
    pub fn inflate_start(&self, name: &str, most: usize) -> Checked<Vec<u8>> {
        let place = self.entry(name)?.place.clone();
        let mut bytes = Vec::with_capacity(most);
        let start = DeflateDecoder::new(&self.bytes.as_slice()[place]).take(most as u64).read_to_end(&mut bytes);
        start.map_err(|error| format!("is broken: {error}"))?;
        Ok(bytes)
    }

    /// Inflates a deflated entry of `size` bytes, no more and no fewer, and compares its checksum.
    ///
    /// # Errors
    /// An entry that is not there, or is otherwise.
    pub fn inflate(&self, name: &str, size: usize) -> Checked<Vec<u8>> {
        let entry = self.entry(name)?;
        let mut decoder = DeflateDecoder::new(&self.bytes.as_slice()[entry.place.clone()]);
        let mut bytes = vec![0; size];
        decoder.read_exact(&mut bytes).map_err(|error| format!("is broken: {error}"))?;
        let more = decoder.read(&mut [0]).map_err(|error| format!("is broken: {error}"))?;
        let mut checksum = Crc::new();
        checksum.update(&bytes);
        if more > 0 || entry.size != size || checksum.sum() != entry.checksum {
            return Err(format!("is broken: it does not inflate to the {size} bytes that were written"));
        }
        Ok(bytes)
    }

    fn entry(&self, name: &str) -> Checked<&Entry> {
        self.entries.get(name).ok_or_else(|| format!("has no {}", quote(name)))
    }
}

/// Where the directory lies, and how many entries it says it has.
struct Directory {
    place: Range<usize>,
    entries: usize,
}

impl Directory {
    fn find(whole: &[u8]) -> Option<Self> {
        let last = whole.len().checked_sub(END)?;
        // Whatever ends in its comment exactly where the file ends.
        let is_end = |&at: &usize| {
            whole[at..].starts_with(b"PK\x05\x06") && number(whole, at + 20, 2) == Some((whole.len() - at - END) as u64)
        };
        let end = (last.saturating_sub(LONGEST_COMMENT)..=last).rev().find(is_end)?;
        let (disk, with_directory) = (number(whole, end + 4, 2)?, number(whole, end + 6, 2)?);
        let mut entries = number(whole, end + 10, 2)?;
        let (mut size, mut start) = (number(whole, end + 12, 4)?, number(whole, end + 16, 4)?);
        let mut limit = end;
        let locator = end.checked_sub(LOCATOR).filter(|&at| whole[at..].starts_with(b"PK\x06\x07"));
        if let Some(locator) = locator {
            let at = usize::try_from(number(whole, locator + 8, 8)?).ok()?;
            let is_whole = at.checked_add(END_64).is_some_and(|end| end <= locator);
            if !is_whole || !whole[at..].starts_with(b"PK\x06\x06") {
                return None;
            }
            entries = number(whole, at + 32, 8)?;
            (size, start) = (number(whole, at + 40, 8)?, number(whole, at + 48, 8)?);
            limit = at;
        } else if disk != 0 || with_directory != 0 {
            return None; // a file in several volumes
        }
        let start = usize::try_from(start).ok()?;
        let stop = start.checked_add(usize::try_from(size).ok()?).filter(|&stop| stop <= limit)?;
        Some(Self { place: start..stop, entries: usize::try_from(entries).ok()? })
    }
}

/// What the directory says of an entry.
struct Record<'a> {
    /// Bytes that are not UTF-8, as of an old code page, stand there as `\xe9`.
    name: Cow<'a, str>,
    raw_name: &'a [u8],
    is_encrypted: bool,
    method: u16,
    checksum: u32,
    compressed: usize,
    size: usize,
    /// Where the entry begins.
    offset: usize,
}

impl<'a> Record<'a> {
    /// The record at the start of `bytes`, and what follows it.
    fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = |at| number(bytes, at, 2).map(|length| length as usize);
        let (flags, method) = (number(bytes, 8, 2)?, number(bytes, 10, 2)? as u16);
        let checksum = number(bytes, 16, 4)? as u32;
        let fields = [24, 20, 42].map(|at| number(bytes, at, 4)); // in the order of the wide ones
        let (name, extra, comment) = (length(28)?, length(30)?, length(32)?);
        let rest = bytes.starts_with(b"PK\x01\x02").then(|| bytes.get(RECORD..)).flatten()?;
        let (name, rest) = rest.split_at_checked(name)?;
        let (extra, rest) = rest.split_at_checked(extra)?;
        let (_, rest) = rest.split_at_checked(comment)?;
        let mut wide = wide_numbers(extra);
        let mut wanted = |field: Option<u64>| match field? {
            narrow if narrow < u64::from(u32::MAX) => usize::try_from(narrow).ok(),
            _ => {
                let (field, rest) = wide.split_first_chunk::<8>()?;
                wide = rest;
                usize::try_from(u64::from_le_bytes(*field)).ok()
            }
        };
        let (size, compressed, offset) = (wanted(fields[0])?, wanted(fields[1])?, wanted(fields[2])?);
        let (raw_name, name) = (name, text(name));
        Some((Self { name, raw_name, is_encrypted: flags & 1 != 0, method, checksum, compressed, size, offset }, rest))
    }

    /// Where the entry begins, and where its bytes lie: before the directory, and under the same name.
    fn find(&self, whole: &[u8], directory: usize) -> Option<(usize, Range<usize>)> {
        let local = whole.get(self.offset..directory).filter(|local| local.starts_with(b"PK\x03\x04"))?;
        let (name, extra) = (number(local, 26, 2)? as usize, number(local, 28, 2)? as usize);
        if local.get(LOCAL..LOCAL + name)? != self.raw_name {
            return None;
        }
        let start = self.offset + LOCAL + name + extra;
        let end = start.checked_add(self.compressed).filter(|&end| end <= directory)?;
        Some((self.offset, start..end))
    }
}

/// A name as text.
fn text(name: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(name) {
        Ok(name) => name.into(),
        Err(_) => {
            let escaped = |chunk: Utf8Chunk<'_>| {
                let invalid: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
                chunk.valid().to_owned() + &invalid
            };
            name.utf8_chunks().map(escaped).collect::<String>().into()
        }
    }
}

/// The numbers of a record that do not fit into 32 bits, or nothing.
fn wide_numbers(mut extra: &[u8]) -> &[u8] {
    while let (Some(kind), Some(length)) = (number(extra, 0, 2), number(extra, 2, 2)) {
        let Some(field) = extra.get(4..4 + length as usize) else { break };
        if kind == 1 {
            return field;
        }
        extra = &extra[4 + length as usize..];
    }
    &[]
}

/// The little-endian number of `length` bytes at `at`.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(length)?)?;
    Some(field.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// A small file can claim a large content by using the same bytes again and again.
fn refuse_overlaps(mut places: Vec<(Range<usize>, usize)>, names: &[String]) -> Checked<()> {
    places.sort_by_key(|(place, _)| (place.start, place.end));
    match places.windows(2).find(|pair| pair[0].0.end > pair[1].0.start) {
        Some(pair) => {
            let (one, other) = (quote(&names[pair[0].1]), quote(&names[pair[1].1]));
            Err(format!("has entries that lie over each other: {one} and {other}"))
        }
        None => Ok(()),
    }
}
