//! What a TIFF file claims, before its decoder believes it: that takes memory for as many values of a tag as its directory
//! says, 32 bytes each, and looks at the file and at the image's size only later.

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};

/// Most entries of a directory: the classic format has no room for more.
const MOST_ENTRIES: u64 = u16::MAX as u64;
/// Most entries of all directories together.
const MOST_ENTRIES_OF_ALL: u64 = 1 << 18;
/// Most values of a tag: a table of colours has 196,608.
const MOST_VALUES: u64 = 1 << 18;
/// Beyond that one for so many pixels, as a long image has in strips.
const PIXELS_PER_VALUE: u64 = 16;

/// The largest side of a tile, in pixels, unless the image is larger.
const LARGEST_TILE: u64 = 4096;
/// Most pages of a file.
const MOST_PAGES: usize = 1 << 12;

const SUBFILE: u16 = 254;
const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const TILE_WIDTH: u16 = 322;
const TILE_LENGTH: u16 = 323;
const EXTRA_SAMPLES: u16 = 338;
/// What no decoder reads, however long it is: descriptions, and all tags that others have added.
pub(crate) const DESCRIPTION: u16 = 270;
pub(crate) const XMP: u16 = 700;
pub(crate) const FIRST_OF_OTHERS: u16 = 1 << 15;
/// But for the number that stands for none.
pub(crate) const GDAL_NODATA: u16 = 42113;

/// Kinds of compression that are undone as they are read; a strip of any other is in memory as it is stored.
const STREAMED: [u64; 6] = [1, 5, 8, 32773, 32946, 50000];

/// Whether the bytes begin as a TIFF file does.
pub(crate) fn is_tiff(start: &[u8]) -> bool {
    matches!(start.get(..4), Some(b"II*\0" | b"MM\0*" | b"II+\0" | b"MM\0+"))
}

/// Checks what the first directory of a file of `length` bytes claims. Gives whether the decoder reads pixels as they come.
pub(super) fn check(reader: &mut (impl Read + Seek), length: u64) -> Result<bool, String> {
    check_directory(&mut File::open(reader)?, length).map(|directory| directory.is_streamed)
}

/// Checks what all directories of a file of `length` bytes claim.
pub(crate) fn check_pages(reader: &mut (impl Read + Seek), length: u64) -> Result<Vec<Directory>, String> {
    let mut file = File::open(reader)?;
    let (mut pages, mut entries, mut seen) = (Vec::new(), 0, HashSet::new());
    loop {
        let at = file.place()?;
        let directory = Directory { at, ..check_directory(&mut file, length)? };
        entries += directory.entries;
        pages.push(directory);
        let next = file.offset()?;
        if next == 0 {
            return Ok(pages);
        }
        if pages.len() == MOST_PAGES || entries > MOST_ENTRIES_OF_ALL {
            return Err(format!("it has more than {MOST_PAGES} pages, or too many tags"));
        }
        if !seen.insert(next) {
            return Err("its pages go round in a circle".to_owned());
        }
        file.go_to(next)?;
    }
}

/// What the directory of a page says.
pub(crate) struct Directory {
    /// Where it begins.
    pub at: u64,
    is_streamed: bool,
    entries: u64,
    kind: u64,
    pub compression: u64,
    /// What its samples are as colours, and where in the file that stands.
    pub photometric: Option<(u64, u64)>,
    pub is_little: bool,
    /// Whether the sample behind the colours is transparency, and not a channel of its own.
    pub has_alpha: bool,
}

impl Directory {
    /// Whether it is a smaller copy or a mask of another page.
    pub fn is_of_another(&self) -> bool {
        self.kind & (1 | 4) != 0
    }
}

fn check_directory<R: Read + Seek>(file: &mut File<'_, R>, length: u64) -> Result<Directory, String> {
    let (mut count, entry) = match file.form.is_big {
        true => (file.number(8)?, 20),
        false => (file.number(2)?, 12),
    };
    if count > MOST_ENTRIES {
        return Err(format!("its directory has {count} entries, and at most {MOST_ENTRIES} are read"));
    }
    count = count.min(length / entry); // what is not there is the decoder's to say
    let (mut sides, mut compression, mut kind_of_page, mut most) = ([0; 2], 1, 0, (0, 0));
    let (mut photometric, mut has_alpha, mut tile) = (None, false, [0; 2]);
    for _ in 0..count {
        let (tag, kind) = (file.number(2)? as u16, file.number(2)?);
        let values = file.number(file.form.wide())?;
        let (place, value) = (file.place()?, file.inline(kind)?);
        match tag {
            WIDTH => sides[0] = value,
            HEIGHT => sides[1] = value,
            COMPRESSION => compression = value,
            SUBFILE => kind_of_page = value,
            TILE_WIDTH => tile[0] = value,
            TILE_LENGTH => tile[1] = value,
            EXTRA_SAMPLES => has_alpha = matches!(value, 1 | 2),
            PHOTOMETRIC => photometric = Some((value, place)),
            _ => {}
        }
        if tag == GDAL_NODATA || tag < FIRST_OF_OTHERS && tag != DESCRIPTION && tag != XMP {
            if values.saturating_mul(size_of(kind)) > length {
                return Err(format!("its tag {tag} has {values} values, for which the file is too small"));
            }
            most = most.max((values, tag));
        }
    }
    // A row of a tile is in memory as a whole.
    if let Some((tile, side)) =
        tile.into_iter().zip(sides).find(|(tile, side)| *tile > LARGEST_TILE.max(side.saturating_mul(2)))
    {
        return Err(format!("its tiles have a side of {tile} pixels, and the image one of {side}"));
    }
    let pixels = sides[0].saturating_mul(sides[1]);
    if most.0 > MOST_VALUES + pixels / PIXELS_PER_VALUE {
        let (values, tag) = most;
        return Err(format!("its tag {tag} has {values} values, too many for {}×{} pixels", sides[0], sides[1]));
    }
    let is_streamed = STREAMED.contains(&compression);
    Ok(Directory {
        at: 0, // whoever has come to it knows
        is_streamed,
        entries: count,
        kind: kind_of_page,
        compression,
        photometric,
        is_little: file.form.is_little,
        has_alpha,
    })
}

/// Bytes of a value of a tag.
pub(crate) fn size_of(kind: u64) -> u64 {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}

/// How numbers stand in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub is_little: bool,
    /// BigTIFF.
    pub is_big: bool,
}

impl Form {
    /// That of a file that begins so.
    pub fn of(start: &[u8]) -> Self {
        Self { is_little: start.starts_with(b"I"), is_big: start.get(..4).is_some_and(|start| start.contains(&b'+')) }
    }

    /// Bytes of a place in the file.
    pub fn wide(self) -> usize {
        if self.is_big { 8 } else { 4 }
    }

    pub fn number(self, bytes: &[u8]) -> u64 {
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        if self.is_little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) }
    }
}

/// A file that is read from its directory on.
struct File<'r, R> {
    reader: &'r mut R,
    form: Form,
}

impl<'r, R: Read + Seek> File<'r, R> {
    fn open(reader: &'r mut R) -> Result<Self, String> {
        let mut start = [0; 4];
        let read = reader.seek(SeekFrom::Start(0)).and_then(|_| reader.read_exact(&mut start));
        read.map_err(|error| error.to_string())?;
        let mut file = Self { reader, form: Form::of(&start) };
        if file.form.is_big {
            file.number(4)?; // how long an offset is, and nothing
        }
        let directory = file.offset()?;
        file.go_to(directory)?;
        Ok(file)
    }

    fn offset(&mut self) -> Result<u64, String> {
        self.number(self.form.wide())
    }

    fn place(&mut self) -> Result<u64, String> {
        self.reader.stream_position().map_err(|error| error.to_string())
    }

    fn go_to(&mut self, offset: u64) -> Result<(), String> {
        self.reader.seek(SeekFrom::Start(offset)).map(drop).map_err(|error| error.to_string())
    }

    fn number(&mut self, length: usize) -> Result<u64, String> {
        let mut bytes = [0; 8];
        self.reader.read_exact(&mut bytes[..length]).map_err(|_| "the file is cut off in its directory".to_owned())?;
        Ok(self.form.number(&bytes[..length]))
    }

    /// The first value of an entry, if it stands in it.
    fn inline(&mut self, kind: u64) -> Result<u64, String> {
        let mut bytes = [0; 8];
        let field = self.form.wide();
        let read = self.reader.read_exact(&mut bytes[..field]);
        read.map_err(|_| "the file is cut off in its directory".to_owned())?;
        Ok(self.form.number(&bytes[..(size_of(kind) as usize).min(field)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A file of these (tag, kind, number of values, first value), in any of the four forms, padded to 200 kB.
    fn file(entries: &[(u16, u16, u64, u32)], is_little: bool, is_big: bool) -> Vec<u8> {
        let number = |number: u64, length: usize| match is_little {
            true => number.to_le_bytes()[..length].to_vec(),
            false => number.to_be_bytes()[8 - length..].to_vec(),
        };
        let wide = if is_big { 8 } else { 4 };
        let mut file = if is_little { b"II".to_vec() } else { b"MM".to_vec() };
        file.extend(number(if is_big { 43 } else { 42 }, 2));
        if is_big {
            file.extend([number(8, 2), number(0, 2), number(16, 8), number(entries.len() as u64, 8)].concat());
        } else {
            file.extend([number(8, 4), number(entries.len() as u64, 2)].concat());
        }
        for &(tag, kind, count, value) in entries {
            file.extend([number(tag.into(), 2), number(kind.into(), 2), number(count, wide)].concat());
            let length = (size_of(kind.into()) as usize).min(4);
            let mut field = number(value.into(), length);
            field.resize(wide, 0);
            file.extend(field);
        }
        file.resize(200_000, 0);
        file
    }

    #[test]
    fn what_a_directory_claims_is_in_the_file() {
        let sides = |height| [(WIDTH, 3, 1, 8), (HEIGHT, 4, 1, height)];
        for (is_little, is_big) in [(true, false), (false, false), (true, true), (false, true)] {
            let checked = |more: &[(u16, u16, u64, u32)]| {
                let file = file(&[&sides(9)[..], more].concat(), is_little, is_big);
                assert!(is_tiff(&file));
                check(&mut Cursor::new(&file), file.len() as u64)
            };
            assert_eq!(checked(&[(COMPRESSION, 3, 1, 8)]), Ok(true));
            assert_eq!(checked(&[(COMPRESSION, 3, 1, 7), (273, 4, 9, 8), (DESCRIPTION, 2, 1 << 30, 8)]), Ok(false));
            assert_eq!(checked(&[(34675, 7, 1 << 30, 8)]), Ok(true), "nobody reads the profile");
            let reason = checked(&[(TILE_WIDTH, 4, 1, 1 << 30), (TILE_LENGTH, 4, 1, 16)]).unwrap_err();
            assert!(reason.contains("its tiles have a side of 1073741824 pixels, and the image one of 8"), "{reason}");
            let reason = checked(&[(273, 4, 1 << 28, 8)]).unwrap_err();
            assert!(reason.contains("its tag 273 has 268435456 values, for which the file is too small"), "{reason}");
        }
        let mut long = file(&[&sides(9)[..], &[(279, 3, 300_000, 8)]].concat(), true, false);
        long.resize(1 << 20, 0);
        let reason = check(&mut Cursor::new(&long), long.len() as u64).unwrap_err();
        assert!(reason.contains("its tag 279 has 300000 values, too many for 8×9 pixels"), "{reason}");
        let mut tall = file(&[&sides(600_000)[..], &[(279, 3, 300_000, 8)]].concat(), true, false);
        tall.resize(1 << 20, 0);
        assert_eq!(check(&mut Cursor::new(&tall), tall.len() as u64), Ok(true));
        let mut circle = file(&sides(9), true, false);
        let next = 8 + 2 + 12 * 2;
        circle[next..next + 4].copy_from_slice(&8_u32.to_le_bytes());
        let reason = check_pages(&mut Cursor::new(&circle), circle.len() as u64).map(drop).unwrap_err();
        assert!(reason.contains("go round in a circle"), "{reason}");
        let mut many = file(&[], true, true);
        many[16..24].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        assert!(check(&mut Cursor::new(&many), 1 << 41).unwrap_err().contains("1099511627776 entries"));
        assert!(check(&mut Cursor::new(b"II*\0\x08\0\0\0"), 8).unwrap_err().contains("cut off in its directory"));
    }
}
