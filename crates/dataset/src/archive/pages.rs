//! The pages of a TIFF file, where each is an image: a stack of a microscope, say. Each is given on as a file of its own, with the tags and
//! the strips or tiles of its page, as they are.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use super::{Checked, fault};
use crate::decode::tiff::{DESCRIPTION, FIRST_OF_OTHERS, Form, GDAL_NODATA, XMP, check_pages, is_tiff, size_of};
use crate::limits::LONGEST_IMAGE_FILE;
use crate::{Error, Result};

/// Where strips and tiles begin, and how long they are.
const PLACES: [(u16, u16); 2] = [(273, 279), (324, 325)];
/// Texts, and what leads to other directories.
const LEFT_OUT: [u16; 3] = [DESCRIPTION, 330, XMP];
/// Types of numbers as wide as places are, in the two formats.
const LONG: u16 = 4;
const LONG8: u16 = 16;

/// A page that is an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Where its directory begins.
    pub at: u64,
    /// How long the file of it is.
    pub size: u64,
}

/// Whether a file is called as a TIFF file is.
pub(crate) fn is_stack(path: &Path) -> bool {
    let ending = path.extension().map(OsStr::to_ascii_lowercase);
    ending.is_some_and(|ending| ending == "tif" || ending == "tiff")
}

/// The pages of the file at `path` that are images, and not smaller copies or masks of others; none where there is but one, or it is something
/// else under this name, which is its decoder's to say.
///
/// # Errors
/// A file that cannot be read, or whose directories are broken.
pub(crate) fn index(path: &Path) -> Result<Vec<Page>> {
    let file = File::open(path).map_err(Error::io(path, "opening it"))?;
    let map = crate::file::map(&file).map_err(Error::io(path, "mapping it"))?;
    pages(&map).map_err(|reason| fault(path, reason))
}

fn pages(bytes: &[u8]) -> Checked<Vec<Page>> {
    if !is_tiff(bytes) {
        return Ok(Vec::new());
    }
    let all = check_pages(&mut Cursor::new(bytes), bytes.len() as u64)?;
    let images: Vec<_> = all.iter().filter(|page| !page.is_of_another()).map(|page| page.at).collect();
    if let [only] = images[..] {
        refuse_hidden(bytes, only)?;
    }
    if images.len() < 2 {
        return Ok(Vec::new());
    }
    let page = |(number, &at): (usize, &u64)| {
        let page = Directory::read(bytes, at).and_then(|page| Ok(Page { at, size: page.check(bytes)?.length }));
        page.map_err(|reason| format!("page {number}: {reason}"))
    };
    images.iter().enumerate().map(page).collect()
}

/// Refuses a stack with one directory for all of its planes, which lie one behind the other: ImageJ writes such, and so does tifffile.
fn refuse_hidden(bytes: &[u8], at: u64) -> Checked<()> {
    let Some(description) = Directory::read_all(bytes, at).ok().and_then(|page| page.text(bytes, DESCRIPTION)) else {
        return Ok(());
    };
    let of_imagej = description.starts_with("ImageJ=").then(|| {
        let count = description.lines().find_map(|line| line.strip_prefix("images="));
        count.and_then(|count| count.trim().parse::<u64>().ok())
    });
    let planes = of_imagej.flatten().unwrap_or(1);
    match description.contains("\"truncated\": true") || planes > 1 {
        true => {
            Err("its planes have one directory for all, which is not taken apart; save it with a directory for each"
                .to_owned())
        }
        false => Ok(()),
    }
}

/// Makes the file of the page whose directory begins at byte `at`, which is of `length` bytes.
pub(super) fn file_of(bytes: &[u8], at: u64, length: usize, file: &mut Vec<u8>) -> Checked<()> {
    let page = Directory::read(bytes, at)?;
    match page.check(bytes)?.length == length as u64 {
        true => page.write(bytes, file),
        false => Err("was listed otherwise; start again".to_owned()),
    }
}

/// A directory whose entries go into another file.
struct Directory {
    form: Form,
    entries: Vec<Entry>,
}

struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// Where its values are.
    values: Range<usize>,
}

/// What a page consists of, and takes.
struct Parts {
    /// Its strips or tiles.
    parts: Vec<Range<usize>>,
    /// The tag that says where they are.
    tag: u16,
    /// Bytes of its file.
    length: u64,
}

/// Appends a number in the form of a file.
fn push(form: Form, number: u64, length: usize, out: &mut Vec<u8>) {
    match form.is_little {
        true => out.extend_from_slice(&number.to_le_bytes()[..length]),
        false => out.extend_from_slice(&number.to_be_bytes()[8 - length..]),
    }
}

/// Bytes of what stands before the directory.
fn head(form: Form) -> usize {
    2 * form.wide()
}

const CUT: &str = "it is cut off";

fn part(bytes: &[u8], start: u64, length: u64) -> Checked<Range<usize>> {
    let end = start.checked_add(length).filter(|end| *end <= bytes.len() as u64).ok_or(CUT)?;
    Ok(start as usize..end as usize)
}

impl Directory {
    /// The entries that go into a file of its own.
    fn read(bytes: &[u8], at: u64) -> Checked<Self> {
        let mut page = Self::read_all(bytes, at)?;
        page.entries
            .retain(|Entry { tag, .. }| !LEFT_OUT.contains(tag) && (*tag < FIRST_OF_OTHERS || *tag == GDAL_NODATA));
        let mut seen = HashSet::new();
        match page.entries.iter().find(|entry| !seen.insert(entry.tag)) {
            Some(Entry { tag, .. }) => Err(format!("it has the tag {tag} twice")),
            None => Ok(page),
        }
    }

    /// All entries whose values are in the file.
    fn read_all(bytes: &[u8], at: u64) -> Checked<Self> {
        let form = Form::of(bytes);
        let count_length = if form.is_big { 8 } else { 2 };
        let count = form.number(&bytes[part(bytes, at, count_length)?]);
        let entry_length = 4 + 2 * form.wide() as u64;
        let all = part(bytes, at + count_length, count.checked_mul(entry_length).ok_or(CUT)?)?;
        let mut entries = Vec::new();
        for (index, entry) in bytes[all.clone()].chunks_exact(entry_length as usize).enumerate() {
            let (tag, kind) = (form.number(&entry[..2]) as u16, form.number(&entry[2..4]) as u16);
            let count = form.number(&entry[4..4 + form.wide()]);
            let is_wanted = tag < FIRST_OF_OTHERS || tag == GDAL_NODATA;
            let length = count.saturating_mul(size_of(kind.into()));
            let values = match length <= form.wide() as u64 {
                true => {
                    let start = all.start + index * entry_length as usize + 4 + form.wide();
                    start..start + length as usize
                }
                false => match part(bytes, form.number(&entry[4 + form.wide()..]), length) {
                    Err(_) if !is_wanted || LEFT_OUT.contains(&tag) => continue,
                    values => values?,
                },
            };
            entries.push(Entry { tag, kind, count, values });
        }
        Ok(Self { form, entries })
    }

    fn numbers(&self, bytes: &[u8], tag: u16) -> Option<Vec<u64>> {
        let Entry { kind, values, .. } = self.entries.iter().find(|entry| entry.tag == tag)?;
        let width = size_of((*kind).into()) as usize;
        Some(bytes[values.clone()].chunks_exact(width).map(|value| self.form.number(value)).collect())
    }

    fn text(&self, bytes: &[u8], tag: u16) -> Option<String> {
        let Entry { values, .. } = self.entries.iter().find(|entry| entry.tag == tag)?;
        Some(String::from_utf8_lossy(&bytes[values.start..values.end.min(values.start + (1 << 16))]).into_owned())
    }

    /// Finds the parts of the page, which together are in the file but once.
    fn check(&self, bytes: &[u8]) -> Checked<Parts> {
        let found = PLACES.iter().find_map(|(places, lengths)| {
            Some((*places, self.numbers(bytes, *places)?, self.numbers(bytes, *lengths)?))
        });
        let (tag, places, lengths) = found.ok_or("it has no strips or tiles, or does not say how long they are")?;
        if places.len() != lengths.len() {
            return Err(format!("it has {} strips or tiles, and the lengths of {}", places.len(), lengths.len()));
        }
        let parts = places.iter().zip(&lengths).map(|(place, length)| part(bytes, *place, *length));
        let parts = parts.collect::<Checked<Vec<_>>>()?;
        let of_parts: u64 = lengths.iter().sum();
        let of_values: u64 = self.entries.iter().map(|entry| self.outside(entry, tag)).sum();
        if of_parts > bytes.len() as u64 || of_values > bytes.len() as u64 + 8 * parts.len() as u64 {
            return Err("its parts take more bytes than the file has".to_owned());
        }
        let length = (head(self.form) + self.length()) as u64 + of_values + of_parts;
        let most = if self.form.is_big { u64::MAX } else { u32::MAX.into() };
        if length > most.min(LONGEST_IMAGE_FILE) {
            return Err(format!("it takes {length} bytes, which are too many for one image"));
        }
        Ok(Parts { parts, tag, length })
    }

    /// Bytes of the directory.
    fn length(&self) -> usize {
        let count_length = if self.form.is_big { 8 } else { 2 };
        count_length + self.entries.len() * (4 + 2 * self.form.wide()) + self.form.wide()
    }

    /// Bytes of an entry's values that do not stand in it; the places of the parts are as wide as can be.
    fn outside(&self, entry: &Entry, places: u16) -> u64 {
        let wide = self.form.wide() as u64;
        let length = if entry.tag == places { entry.count * wide } else { entry.values.len() as u64 };
        if length > wide { length.next_multiple_of(2) } else { 0 }
    }

    fn write(&self, bytes: &[u8], file: &mut Vec<u8>) -> Checked<()> {
        let Self { form, entries } = self;
        let (parts, wide) = (self.check(bytes)?, form.wide());
        file.clear();
        file.reserve(parts.length as usize);
        file.extend_from_slice(bytes.get(..4).ok_or(CUT)?);
        if form.is_big {
            push(*form, 8, 2, file);
            push(*form, 0, 2, file);
        }
        push(*form, head(*form) as u64, wide, file);
        push(*form, entries.len() as u64, if form.is_big { 8 } else { 2 }, file);
        let mut outside = (head(*form) + self.length()) as u64;
        let of_values: u64 = entries.iter().map(|entry| self.outside(entry, parts.tag)).sum();
        let mut next = outside + of_values;
        let mut behind = Vec::new();
        for entry in entries {
            let mut values = Vec::new();
            let kind = match entry.tag == parts.tag {
                true => {
                    for part in &parts.parts {
                        push(*form, next, wide, &mut values);
                        next += part.len() as u64;
                    }
                    if form.is_big { LONG8 } else { LONG }
                }
                false => {
                    values.extend_from_slice(&bytes[entry.values.clone()]);
                    entry.kind
                }
            };
            push(*form, entry.tag.into(), 2, file);
            push(*form, kind.into(), 2, file);
            push(*form, entry.count, wide, file);
            if values.len() <= wide {
                values.resize(wide, 0);
                file.extend(values);
            } else {
                push(*form, outside, wide, file);
                values.resize(values.len().next_multiple_of(2), 0);
                outside += values.len() as u64;
                behind.extend(values);
            }
        }
        push(*form, 0, wide, file); // no other page
        file.extend(behind);
        parts.parts.iter().for_each(|part| file.extend_from_slice(&bytes[part.clone()]));
        debug_assert_eq!(file.len() as u64, parts.length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Source;
    use crate::{Decoder, Decoding, Listing, OnBadImage, Split, unwatched};
    use ::tiff::encoder::{TiffEncoder, TiffKind, colortype};
    use ::tiff::tags::Tag;
    use proptest::prelude::*;

    /// A stack of pages of 3×2 pixels of 16 bits, each of one number, of this kind of page.
    fn stack<K: TiffKind>(mut encoder: TiffEncoder<&mut Cursor<Vec<u8>>, K>, pages: &[(u16, u32)]) {
        for (number, kind) in pages {
            let mut image = encoder.new_image::<colortype::Gray16>(3, 2).unwrap();
            image.encoder().write_tag(Tag::NewSubfileType, *kind).unwrap();
            image.encoder().write_tag(Tag::ImageDescription, "a page of a stack").unwrap();
            image.encoder().write_tag(Tag::Unknown(GDAL_NODATA), "-9999").unwrap();
            image.write_data(&[*number; 6]).unwrap();
        }
    }

    fn classic(pages: &[(u16, u32)]) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        stack(TiffEncoder::new(&mut file).unwrap(), pages);
        file.into_inner()
    }

    #[test]
    fn each_page_is_an_image_with_the_label_of_its_file() {
        let mut big = Cursor::new(Vec::new());
        stack(TiffEncoder::new_big(&mut big).unwrap(), &[(7, 0), (8, 0)]);
        let root = tempfile::tempdir().unwrap();
        for (name, file) in [
            ("train/ant/1.tif", classic(&[(1, 0), (2, 0), (99, 1), (3, 0)])), // the third is a smaller copy
            ("train/ant/2.tif", classic(&[(4, 0)])),
            ("train/bee/1.TIFF", big.into_inner()),
        ] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        let mut listing = Listing::scan(root.path(), None).unwrap();
        listing.pages_apart(OnBadImage::Fail, &unwatched).unwrap();
        let listing = Listing::from_bytes(root.path(), &listing.to_bytes()).unwrap();
        let (files, mut decoder) = (listing.files(), Decoder::new(Decoding::default()));
        let found = listing.split(Split::Train).iter().map(|sample| {
            let mut bytes = Vec::new();
            files.read(&sample.path, sample.size, sample.member, &mut bytes).unwrap();
            let (layout, numbers) = decoder.numbers(Source::Memory(&bytes)).unwrap();
            assert_eq!((layout.size.width, layout.numbers.channels), (3, 1));
            format!("{} {} {}", listing.classes[sample.class], sample.path.display(), numbers[0])
        });
        let expected = [
            "ant train/ant/1.tif/page 0 1",
            "ant train/ant/1.tif/page 1 2",
            "ant train/ant/1.tif/page 2 3",
            "ant train/ant/2.tif 4",
            "bee train/bee/1.TIFF/page 0 7",
            "bee train/bee/1.TIFF/page 1 8",
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);

        // What has changed since, or is broken, is named.
        std::fs::write(root.path().join("train/ant/1.tif"), &classic(&[(1, 0), (2, 0)])[..200]).unwrap();
        let sample = &listing.train[0];
        let error = listing.files().read(&sample.path, sample.size, sample.member, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("has changed since the images were listed"), "{error}");
        let mut listing = Listing::scan(root.path(), None).unwrap();
        let error = listing.pages_apart(OnBadImage::Fail, &unwatched).unwrap_err().to_string();
        assert!(error.contains("train/ant/1.tif: ") && error.contains("cut off"), "{error}");
    }

    #[test]
    fn pages_that_are_none_are_refused() {
        let file = classic(&[(1, 0), (2, 0)]);
        let at = pages(&file).unwrap();
        let entry = |tag: u16| {
            let directory = at[0].at as usize;
            (directory + 2..).step_by(12).find(|place| file[*place..][..2] == tag.to_le_bytes()).unwrap()
        };
        let with = |place: usize, bytes: &[u8]| {
            let mut file = file.clone();
            file[place..place + bytes.len()].copy_from_slice(bytes);
            file
        };
        for (file, words) in [
            (with(entry(273) + 8, &[0xff, 0xff, 0xff, 0x7f]), "page 0: it is cut off"),
            (with(entry(279) + 8, &[0xff, 0xff, 0xff, 0x7f]), "page 0: it is cut off"),
            (with(entry(279), &[0x31, 1]), "page 0: it has no strips or tiles, or does not say how long they are"),
        ] {
            assert_eq!(pages(&file).unwrap_err(), words);
        }
        let twice = with(entry(258), &273_u16.to_le_bytes());
        assert!(pages(&twice).unwrap_err().contains("it has the tag 273 twice"));
        let mut hidden = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut hidden).unwrap();
        let mut image = encoder.new_image::<colortype::Gray16>(3, 2).unwrap();
        image.encoder().write_tag(Tag::ImageDescription, "ImageJ=1.53c\nimages=7\nframes=7\n").unwrap();
        image.write_data(&[0; 6]).unwrap();
        assert!(pages(&hidden.into_inner()).unwrap_err().contains("have one directory for all"));
        let other = file_of(&file, at[1].at, at[1].size as usize + 1, &mut Vec::new());
        assert_eq!(other.unwrap_err(), "was listed otherwise; start again");
        assert_eq!((pages(b"no TIFF at all"), pages(&classic(&[(1, 0)]))), (Ok(Vec::new()), Ok(Vec::new())));
    }

    proptest! {
        #[test]
        fn any_damage_is_refused_or_bounded(changes in proptest::collection::vec((8..600_usize, any::<u8>()), 1..20)) {
            let mut file = classic(&[(1, 0), (2, 0)]);
            let length = file.len();
            for (at, byte) in changes {
                file[at % length] = byte;
            }
            for page in pages(&file).unwrap_or_default() {
                let mut out = Vec::new();
                file_of(&file, page.at, page.size as usize, &mut out).unwrap();
                prop_assert!(out.len() <= 3 * length + 64);
            }
        }
    }
}
