//! Arrays of an `.npz` file, as `numpy.savez` writes it.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use archives::{Budget, Header, LONGEST_HEADER, ZipFile};

use super::{Array, Bytes, Checked, Container, Element, Memory};

/// Most arrays of a file.
const MOST_ARRAYS: usize = 1 << 12;
/// Bytes of an array before the text of its header, at most.
const PREFIX: usize = 12;
/// An array that is compressed is inflated by every rank: more than so many bytes are not.
const MOST_INFLATED: usize = 8 << 30;

/// Whether the file begins as a zip archive does.
pub(super) fn is_archive(path: &Path) -> bool {
    let mut start = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"PK\x03\x04"
}

/// An open archive.
pub(super) struct Npz(Rc<Archive>);

#[derive(Debug)]
struct Archive {
    path: PathBuf,
    zip: ZipFile,
}

pub(super) fn open(path: &Path, length: u64) -> Checked<Npz> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let map = crate::file::map(&file).map_err(|error| format!("cannot be mapped: {error}"))?;
    let budget = Budget::of_file(length as usize, "64 MB and 4 times the file");
    let zip = ZipFile::open(&archives::Bytes::new(map), &budget, MOST_ARRAYS)?;
    Ok(Npz(Rc::new(Archive { path: path.to_owned(), zip })))
}

impl Container for Npz {
    fn array(&self, name: &str) -> Checked<Option<Box<dyn Array>>> {
        let name = format!("{name}.npy");
        if !self.0.zip.names().contains(&name) {
            return Ok(None);
        }
        let read = || {
            let (is_stored, place) = self.0.zip.place(&name)?;
            let header = match is_stored {
                true => Header::parse(&self.0.zip.bytes().as_slice()[place.clone()])?,
                false => Header::parse(&self.0.zip.inflate_start(&name, PREFIX + LONGEST_HEADER)?)?,
            };
            let element = Element::of_descr(&header.descr)?;
            let count = header.shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
            let size = count.and_then(|count| count.checked_mul(element.width())?.checked_add(header.length));
            let size = size.ok_or_else(|| format!("claims the shape {:?}", header.shape))?;
            if is_stored && size != place.len() {
                return Err(format!("has {} bytes, and its shape {:?} takes {size}", place.len(), header.shape));
            }
            Ok(InArchive {
                archive: Rc::clone(&self.0),
                name: name.clone(),
                place: is_stored.then(|| place.start + header.length..place.end),
                header,
                element,
                size,
            })
        };
        let array = read().map_err(|reason: String| format!("{name} {reason}"))?;
        Ok(Some(Box::new(array)))
    }

    fn texts(&self, name: &str, _: &mut Memory) -> Option<Checked<Vec<String>>> {
        let name = format!("{name}.npy");
        self.0.zip.names().contains(&name).then(|| texts(&self.0.zip, &name))
    }

    fn members(&self) -> Vec<String> {
        self.0.zip.names().iter().map(|name| name.strip_suffix(".npy").unwrap_or(name).to_owned()).collect()
    }
}

/// A list of texts: `<U12`, UTF-32 of a fixed length.
fn texts(zip: &ZipFile, name: &str) -> Checked<Vec<String>> {
    const LONGEST: usize = 1 << 24;
    let (is_stored, place) = zip.place(name)?;
    let bytes = match is_stored {
        true => zip.bytes().as_slice()[place].to_vec(),
        false => {
            let start = zip.inflate_start(name, LONGEST)?;
            zip.inflate(name, start.len())?
        }
    };
    let header = Header::parse(&bytes)?;
    let width = header.descr.strip_prefix("<U").and_then(|width| width.parse::<usize>().ok());
    let width = width.filter(|&width| width > 0).ok_or_else(|| format!("has values of type '{}'", header.descr))?;
    let texts = bytes[header.length..].chunks_exact(width.saturating_mul(4));
    if header.shape != [texts.len()] {
        return Err(format!("has the shape {:?}, and is not a list", header.shape));
    }
    let letter = |bytes: &[u8; 4]| char::from_u32(u32::from_le_bytes(*bytes)).unwrap_or(char::REPLACEMENT_CHARACTER);
    Ok(texts
        .map(|text| text.as_chunks::<4>().0.iter().map(letter).take_while(|&letter| letter != '\0').collect())
        .collect())
}

/// An array of the archive.
struct InArchive {
    archive: Rc<Archive>,
    name: String,
    header: Header,
    element: Element,
    /// Where its numbers lie, if they are not compressed.
    place: Option<Range<usize>>,
    /// Bytes of header and numbers.
    size: usize,
}

impl InArchive {
    fn inflate(&self) -> Checked<Vec<u8>> {
        if self.size > MOST_INFLATED {
            return Err(format!(
                "{} would inflate to {} bytes on every rank; numpy.savez does not compress, and what it saves is mapped",
                self.name, self.size
            ));
        }
        let mut bytes =
            self.archive.zip.inflate(&self.name, self.size).map_err(|reason| format!("{} {reason}", self.name))?;
        bytes.drain(..self.header.length);
        Ok(bytes)
    }
}

impl Array for InArchive {
    fn name(&self) -> String {
        self.name.strip_suffix(".npy").unwrap_or(&self.name).to_owned()
    }

    fn shape(&self) -> Vec<usize> {
        self.header.shape.clone()
    }

    fn element(&self) -> Checked<Element> {
        Ok(self.element)
    }

    fn rows(&self, _: usize) -> Checked<(Bytes, Element)> {
        let bytes = match &self.place {
            Some(place) => {
                let part = place.start as u64..place.end as u64;
                Bytes::of_file(&self.archive.path, part).map_err(|error| error.to_string())?
            }
            None => Bytes::Memory(self.inflate()?),
        };
        Ok((bytes, self.element))
    }

    fn numbers(&self) -> Checked<Vec<f64>> {
        let mut numbers = Vec::with_capacity(self.header.shape.iter().product());
        match &self.place {
            Some(place) => {
                self.element.each(&self.archive.zip.bytes().as_slice()[place.clone()], |number| numbers.push(number));
            }
            None => self.element.each(&self.inflate()?, |number| numbers.push(number)),
        }
        Ok(numbers)
    }
}
