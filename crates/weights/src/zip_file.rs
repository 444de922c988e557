//! A zip file as names and places. What hides something (a name twice, entries over each other) is refused.

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use crate::error::Checked;
use crate::tensor::Bytes;

/// Most entries: the largest state dicts have a few thousand tensors.
const MOST_ENTRIES: usize = 1 << 16;

/// One entry.
#[derive(Clone, Debug)]
struct Entry {
    place: Range<usize>,
    method: CompressionMethod,
    size: u64,
}

/// The entries of a zip file, below the folder that holds them all.
#[derive(Debug)]
pub(crate) struct ZipFile {
    bytes: Bytes,
    entries: HashMap<String, Entry>,
    names: Vec<String>,
    /// The folder with `data.pkl`, as `archive/`, or nothing.
    folder: String,
}

impl ZipFile {
    pub(crate) fn open(bytes: &Bytes) -> Checked<Self> {
        let broken = |error: zip::result::ZipError| format!("is a broken zip file: {error}");
        let whole = bytes.as_slice();
        let mut archive = ZipArchive::new(Cursor::new(whole)).map_err(broken)?;
        if archive.len() > MOST_ENTRIES {
            return Err(format!("is a zip file of {} entries; no file of weights has so many", archive.len()));
        }
        let directory = usize::try_from(archive.central_directory_start()).map_err(|error| error.to_string())?;
        if listed(whole.get(directory..).unwrap_or_default()) != archive.len() {
            return Err("is a zip file that has a name twice".to_owned());
        }
        let (mut entries, mut names) = (HashMap::new(), Vec::new());
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(broken)?;
            let name = entry.name().map_err(broken)?.into_owned();
            let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
            let place = start
                .zip(usize::try_from(entry.compressed_size()).ok())
                .and_then(|(start, size)| Some(start..start.checked_add(size)?))
                .filter(|place| place.end <= directory)
                .ok_or_else(|| format!("is cut off in {name}"))?;
            if entry.encrypted() {
                return Err(format!("has an encrypted entry, {name}"));
            }
            entries.insert(name.clone(), Entry { place, method: entry.compression(), size: entry.size() });
            names.push(name);
        }
        refuse_overlaps(&entries)?;
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
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether there is an entry `name` in the folder.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(&format!("{}{name}", self.folder))
    }

    /// Where the entry `name` of the folder lies, uncompressed.
    pub(crate) fn stored(&self, name: &str) -> Checked<Range<usize>> {
        let entry = self.entry(&format!("{}{name}", self.folder))?;
        if entry.method != CompressionMethod::Stored || entry.size != entry.place.len() as u64 {
            return Err(format!("{name} is compressed, which torch.save never does"));
        }
        Ok(entry.place.clone())
    }

    /// Whether the entry is stored as it is, and where.
    pub(crate) fn place(&self, name: &str) -> Checked<(bool, Range<usize>)> {
        let entry = self.entry(name)?;
        match entry.method {
            CompressionMethod::Stored if entry.size == entry.place.len() as u64 => Ok((true, entry.place.clone())),
            CompressionMethod::Deflated => Ok((false, entry.place.clone())),
            other => Err(format!("{name} is compressed in a way that is not read here ({other:?})")),
        }
    }

    /// Inflates at most `most` bytes of a deflated entry.
    pub(crate) fn inflate(&self, name: &str, most: usize) -> Checked<Vec<u8>> {
        let mut archive = ZipArchive::new(Cursor::new(self.bytes.as_slice())).map_err(|error| error.to_string())?;
        let entry = archive.by_name(name).map_err(|error| format!("{name}: {error}"))?;
        let mut bytes = Vec::new();
        entry.take(most as u64).read_to_end(&mut bytes).map_err(|error| format!("{name} is broken: {error}"))?;
        Ok(bytes)
    }

    fn entry(&self, name: &str) -> Checked<&Entry> {
        self.entries.get(name).ok_or_else(|| format!("has no {name}"))
    }
}

/// How many entries a central directory lists, those with a name that was there before too.
fn listed(mut directory: &[u8]) -> usize {
    let mut count = 0;
    while let Some(record) = directory.get(..46).filter(|record| record.starts_with(b"PK\x01\x02")) {
        let field = |at: usize| usize::from(u16::from_le_bytes([record[at], record[at + 1]]));
        count += 1;
        directory = directory.get(46 + field(28) + field(30) + field(32)..).unwrap_or_default();
    }
    count
}

/// A small file can claim a large content by using the same bytes again and again.
fn refuse_overlaps(entries: &HashMap<String, Entry>) -> Checked<()> {
    let mut places: Vec<_> = entries.iter().map(|(name, entry)| (entry.place.clone(), name)).collect();
    places.sort_by_key(|(place, _)| (place.start, place.end));
    match places.windows(2).find(|pair| pair[0].0.end > pair[1].0.start) {
        Some(pair) => Err(format!("has entries that lie over each other: {} and {}", pair[0].1, pair[1].1)),
        None => Ok(()),
    }
}
