//! LMDB, as images are kept in it: in torchvision's LSUN, by Caffe and DIGITS, and by the scripts that put a folder into one for PyTorch.
//!
//! ```text
//! key            value                                label
//! any            an image file                        of the database, or that under the key with `label` for `image`
//! any            Caffe's Datum: file or bare bytes    in it
//! any            a pickled pair: file, label          in it
//! __keys__ …     anything else                        left out
//! ```
//!
//! A value lies in one piece, so an image is read where it lies, as of a tar file. The file is read as what it is (`tree.rs`); liblmdb wants
//! to write to a lock file beside it, and crashes at what is damaged.

mod datum;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use image::ImageFormat;
use memmap2::Advice;

use super::index::{Contents, Entry, Told};
use super::raster::Shape;
use super::{ArchiveSpec, Checked, Fault, below, labels, pickle};
use crate::limits::quote;
use crate::watch::Counter;
use crate::{Error, Result};
use datum::Datum;
use tree::{Tree, Value};

/// The longest text that is a label, in bytes.
const LONGEST_LABEL: usize = 1 << 10;
/// Most pixels along a side of an image of bare bytes.
const LONGEST_SIDE: u64 = 1 << 14;
/// What keys of images and labels have in common.
const IMAGE: &[u8] = b"image";
const LABEL: &[u8] = b"label";
/// What `--images` says of the order of bare bytes.
const ORDERS: [&str; 2] = ["bgr", "rgb"];

/// What is in the database at `path`. Of each value its head is read, and of a message its end.
pub(super) fn index(path: &Path, spec: &ArchiveSpec, counter: &Counter<'_>) -> Result<Contents> {
    let file = File::open(path).map_err(Error::io(path, "opening it"))?;
    let map = crate::file::map(&file).map_err(Error::io(path, "mapping it"))?;
    let _ = map.advise(Advice::Random); // or reading ahead brings the images, too; where it is refused, it does
    contents(&map, spec, counter).map_err(|fault| fault.of(path))
}

fn contents(bytes: &[u8], spec: &ArchiveSpec, counter: &Counter<'_>) -> std::result::Result<Contents, Fault> {
    if let Some(labels) = &spec.labels {
        let labels = quote(labels);
        return Err(
            format!("is a database of LMDB, which has no column or ending '{labels}'; leave --labels out").into()
        );
    }
    let is_bgr = match spec.images.as_deref().map(|order| ORDERS.iter().position(|known| *known == order)) {
        None | Some(Some(0)) => true,
        Some(Some(_)) => false,
        Some(None) => {
            let images = quote(spec.images.as_deref().unwrap_or_default());
            return Err(format!(
                "is a database of LMDB: --images says bgr or rgb there, for bare bytes, and not '{images}'"
            )
            .into());
        }
    };
    let mut contents = Contents::default();
    // What may be the label of an image under another key.
    let mut texts: HashMap<&[u8], Range<usize>> = HashMap::new();
    let mut keys: Vec<&[u8]> = Vec::new();
    let mut others = 0;
    Tree::open(bytes)?.each(|key, value| {
        counter.one()?;
        let Value::Bytes(range) = value else {
            contents.left_out.of_kind("databases with a name, in a database");
            return Ok(());
        };
        let value = &bytes[range.clone()];
        let is_of_label = value.len() <= LONGEST_LABEL && key.windows(LABEL.len()).any(|part| part == LABEL);
        if is_of_label && !is_image(value) {
            texts.insert(key, range);
            others += 1;
            return Ok(());
        }
        if let Ok(unread @ (ImageFormat::Avif | ImageFormat::Dds | ImageFormat::OpenExr | ImageFormat::Hdr)) =
            image::guess_format(value)
        {
            contents.left_out.of_kind(format!(".{}", unread.extensions_str().first().unwrap_or(&"?")));
            return Ok(());
        }
        match image_of(value, is_bgr).map_err(|reason| format!("under the key {} {reason}", shown(key)))? {
            Some(image) => {
                contents.entries.push(image.entry(name_of(key)?, range.start));
                keys.push(key);
            }
            None => others += 1,
        }
        Ok(())
    })?;
    for (entry, key) in contents.entries.iter_mut().zip(&keys).filter(|(entry, _)| entry.told.is_none()) {
        if let Some(label) = labels_key(key).and_then(|key| texts.get(&key[..])) {
            let told = labels::of_text(&bytes[label.clone()]);
            entry.told = Some(told.map_err(|reason| format!("the label of the key {} {reason}", shown(key)))?);
            others -= 1;
        }
    }
    if others > 0 {
        contents.left_out.0.insert("values that are no image".to_owned(), others);
    }
    if contents.entries.is_empty() {
        return Err(format!(
            "has no images: {}; its values are to be image files, Caffe's Datums, or pickled pairs of a file and a label",
            match contents.left_out.0.iter().next() {
                None => "it is empty".to_owned(),
                Some((kind, count)) => format!("{count} {kind}"),
            }
        )
        .into());
    }
    Ok(contents)
}

/// An image in a value.
#[derive(Debug)]
struct Image {
    /// Where in the value.
    place: Range<usize>,
    /// What it is, where it is no file.
    shape: Option<Shape>,
    told: Option<Told>,
}

impl Image {
    fn entry(self, name: PathBuf, start: usize) -> Entry {
        let head = self.shape.map_or(0, |shape| shape.head().len());
        let size = (head + self.place.len()) as u64;
        let packed = self.shape.map_or(0, Shape::packed);
        Entry { name, at: (start + self.place.start) as u64, packed, size, told: self.told }
    }
}

/// The image that a value is or holds; `None` where it is something else.
fn image_of(value: &[u8], is_bgr: bool) -> Checked<Option<Image>> {
    if is_image(value) {
        return Ok(Some(Image { place: 0..value.len(), shape: None, told: None }));
    }
    if value.starts_with(b"\x80") && value.ends_with(b".") {
        return of_pickle(value);
    }
    datum::parse(value).map_or(Ok(None), |datum| of_datum(value, datum, is_bgr).map(Some))
}

fn of_datum(value: &[u8], datum: Datum, is_bgr: bool) -> Checked<Image> {
    let Datum { shape: [channels, height, width], data, label, floats, is_encoded } = datum;
    let Some(place) = data.filter(|_| floats == 0) else {
        return Err(format!("lies a Datum of {floats} numbers (float_data), which are not read here"));
    };
    let told = Some(Told::Number(label));
    let is_bare = [channels, height, width]
        .into_iter()
        .try_fold(1_u64, u64::checked_mul)
        .is_some_and(|bytes| bytes > 0 && bytes == place.len() as u64);
    if is_encoded || !is_bare {
        if !is_image(&value[place.clone()]) {
            let bytes = place.len();
            return Err(format!(
                "lies a Datum of {bytes} bytes, which are neither an image file nor {channels} channels of {height}×{width}"
            ));
        }
        return Ok(Image { place, shape: None, told });
    }
    if !matches!(channels, 1 | 3) || height > LONGEST_SIDE || width > LONGEST_SIDE {
        return Err(format!("lies a Datum of {channels} channels of {height}×{width}; 1 and 3 channels are read"));
    }
    let [width, height, channels] = [width, height, channels].map(|side| side as usize);
    Ok(Image { place, shape: Some(Shape { width, height, channels, is_bgr: is_bgr && channels == 3 }), told })
}

/// A pickled pair of an image file and a number; no pickle is run.
fn of_pickle(value: &[u8]) -> Checked<Option<Image>> {
    let Ok(found) = pickle::texts_and_numbers(value) else { return Ok(None) };
    // Others are names, which may begin as an image does: P1040023.JPG.
    let longest = found.texts.into_iter().max_by_key(ExactSizeIterator::len);
    let Some(place) = longest.filter(|text| is_image(&value[text.clone()])) else { return Ok(None) };
    match found.numbers[..] {
        [label] => Ok(Some(Image { place, shape: None, told: Some(Told::Number(label)) })),
        ref numbers => Err(format!(
            "lies a pickle of an image file and {} numbers, of which one is to be the label",
            if numbers.is_empty() { "no".to_owned() } else { numbers.len().to_string() }
        )),
    }
}

/// Whether these bytes begin as an image file does of a kind that is read; texts begin with two letters, too: BMW, P1040023.
fn is_image(bytes: &[u8]) -> bool {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Gif | ImageFormat::WebP | ImageFormat::Tiff) => true,
        Ok(ImageFormat::Bmp) => bytes.get(6..10) == Some(&[0; 4]),
        Ok(ImageFormat::Pnm) => bytes.get(2).is_some_and(u8::is_ascii_whitespace) && bytes.len() > 8,
        _ => false,
    }
}

/// The key that the label of an image lies under: of `image-000000001`, `label-000000001`.
fn labels_key(key: &[u8]) -> Option<Vec<u8>> {
    let at = key.windows(IMAGE.len()).position(|part| part == IMAGE)?;
    Some([&key[..at], LABEL, &key[at + IMAGE.len()..]].concat())
}

/// A key as the path of a file; one that is none, as numbers are, in hexadecimal.
fn name_of(key: &[u8]) -> Checked<PathBuf> {
    if key.contains(&0) || key.is_empty() {
        return Ok(format!("0x{}", key.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).into());
    }
    let name = below(key).filter(|name| !name.as_os_str().is_empty());
    name.ok_or_else(|| format!("has a key that is a path which leads out of it: {}", shown(key)))
}

fn shown(key: &[u8]) -> String {
    quote(Path::new(OsStr::from_bytes(key)).display())
}
