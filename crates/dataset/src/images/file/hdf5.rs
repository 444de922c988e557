//! Arrays of an HDF5 file, which netCDF 4 is, too.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use hdf5::{Dataset, File, Hyperslab, SliceOrIndex};

use super::{Array, Bytes, Checked, Container, Element, Memory, Packing};
use crate::h5::{self, bytes_of, chunk_bytes, texts_within};

/// The first of the names that a pattern of a virtual array stands for: `part%b.h5` for part0.h5, part1.h5 and so on.
fn first_of_many(name: &str) -> String {
    name.replace("%b", "0")
}

/// Where HDF5 finds a file that a virtual array in `file` names.
fn find_source(file: &Path, name: &str) -> Option<PathBuf> {
    let prefix = std::env::var_os("HDF5_VDS_PREFIX").map(|prefix| match prefix.to_str() {
        Some(text) if text.starts_with("${ORIGIN}") => {
            let below = text.trim_start_matches("${ORIGIN}").trim_start_matches('/');
            file.with_file_name("").join(below).join(name)
        }
        _ => PathBuf::from(prefix).join(name),
    });
    let candidates = [prefix, Some(file.with_file_name(name)), Some(PathBuf::from(name))];
    candidates.into_iter().flatten().find(|path| path.is_file())
}

/// An open file, and those that are a set with it.
pub(super) struct Hdf5 {
    file: File,
    set: Vec<PathBuf>,
}

pub(super) fn open(path: &Path, set: &[PathBuf]) -> Checked<Hdf5> {
    let file = h5::open(path);
    file.map(|file| Hdf5 { file, set: set.to_vec() })
        .map_err(|error| format!("cannot be opened as HDF5: {error}; a folder, an HDF5 file or an .npz file is needed"))
}

impl Container for Hdf5 {
    fn array(&self, name: &str) -> Checked<Option<Box<dyn Array>>> {
        let dataset = match self.file.dataset(name) {
            Ok(dataset) => dataset,
            Err(_) if let Some((parent, error)) = self.closed_group(name) => {
                return Err(format!("{parent} cannot be opened: {error}"));
            }
            // A group of that name, and a link to nothing, are no array.
            Err(_) if self.file.group(name).is_ok() || !self.is_there(name) => return Ok(None),
            Err(error) => {
                return Err(format!(
                    "{name} cannot be read: {error}; written for a later HDF5 than the one here, {}? h5py writes for \
                     all with libver=None",
                    h5::hdf5_version()
                ));
            }
        };
        let array = InFile(dataset);
        array.refuse_missing_parts(&self.set)?;
        Ok(Some(Box::new(array)))
    }

    fn texts(&self, name: &str, memory: &mut Memory) -> Option<Checked<Vec<String>>> {
        if !self.file.link_exists(name) {
            return None;
        }
        let names = self.file.dataset(name).map_err(|error| error.to_string());
        Some(names.and_then(|names| texts_within(&names, &mut memory.0)))
    }

    fn members(&self) -> Vec<String> {
        self.file.member_names().unwrap_or_default()
    }
}

impl Hdf5 {
    /// The group that an array of this name would lie in, where there is one that cannot be opened: a link to another file, say.
    fn closed_group<'n>(&self, name: &'n str) -> Option<(&'n str, hdf5::Error)> {
        let (parent, _) = name.rsplit_once('/')?;
        let error = self.file.group(parent).err()?;
        (self.file.link_exists(parent) && self.file.dataset(parent).is_err()).then_some((parent, error))
    }

    /// Whether a link of this name leads to something, whatever that is.
    fn is_there(&self, name: &str) -> bool {
        self.file.link_exists(name) && self.file.loc_info_by_name(name).is_ok()
    }
}

/// An array in the file.
struct InFile(Dataset);

impl InFile {
    /// Refuses an array of which some lies in other files that are not there: of a virtual one HDF5 then gives zeros, and says nothing.
    /// And one of files of its own `set`, whose images would come twice.
    fn refuse_missing_parts(&self, set: &[PathBuf]) -> Checked<()> {
        let words = |error: hdf5::Error| format!("{}: {error}", self.name());
        let file = h5::file_of(&self.0);
        let mut opened: HashMap<PathBuf, File> = HashMap::new();
        for (name, dataset) in h5::virtual_sources(&self.0).map_err(words)? {
            let (name, dataset) = (first_of_many(&name), first_of_many(&dataset));
            let found = if name == "." { Some(file.clone()) } else { find_source(&file, &name) };
            let of = || format!("{} is made of {dataset} in {name}", self.name());
            let Some(found) = found else { return Err(format!("{}, which is not there", of())) };
            let is_found = |other: &&PathBuf| other.canonicalize().ok() == found.canonicalize().ok();
            if name != "." && set.iter().any(|other| is_found(&other)) {
                let file = file.display();
                return Err(format!("{}, which is in the same folder and would count twice; name {file} alone", of()));
            }
            let source = match opened.entry(found) {
                Entry::Occupied(source) => source.into_mut(),
                Entry::Vacant(place) => {
                    // HDF5 may have it open in its own way by now.
                    let source = h5::open(place.key()).or_else(|_| File::open(place.key()));
                    place.insert(source.map_err(|error| format!("{}: {error}", of()))?)
                }
            };
            if source.dataset(&dataset).is_err() {
                return Err(format!("{}, which has no such array", of()));
            }
        }
        if !self.0.create_plist().map_err(words)?.external().is_empty() && self.0.ndim() > 0 && self.0.size() > 0 {
            let mut first = vec![SliceOrIndex::from(..); self.0.ndim()];
            first[0] = SliceOrIndex::from(0..1);
            let read = self.0.read_slice::<f64, _, ndarray::IxDyn>(Hyperslab::from(first));
            read.map_err(|error| {
                format!(
                    "{} lies in other files: {error}; HDF5 looks for them where the program is started, or in \
                     HDF5_EXTFILE_PREFIX, in which ${{ORIGIN}} is the folder of the file",
                    self.name()
                )
            })?;
        }
        Ok(())
    }

    /// Whether its numbers are those of this machine, in its order of bytes.
    fn is_native(&self, element: Element) -> bool {
        let Ok(dtype) = self.0.dtype() else { return false };
        match element {
            Element::U8 => dtype.is::<u8>(),
            Element::I8 => dtype.is::<i8>(),
            Element::U16 => dtype.is::<u16>(),
            Element::I16 => dtype.is::<i16>(),
            Element::U32 => dtype.is::<u32>(),
            Element::I32 => dtype.is::<i32>(),
            Element::U64 => dtype.is::<u64>(),
            Element::I64 => dtype.is::<i64>(),
            Element::F32 => dtype.is::<f32>(),
            Element::F64 => dtype.is::<f64>(),
        }
    }

    /// A number of its attributes, which netCDF writes as a list of one.
    fn attribute(&self, name: &str) -> Option<f64> {
        let attribute = self.0.attr(name).ok()?;
        (attribute.size() == 1).then(|| attribute.read_raw::<f64>().ok()).flatten()?.first().copied()
    }
}

impl Array for InFile {
    fn name(&self) -> String {
        self.0.name()
    }

    fn shape(&self) -> Vec<usize> {
        self.0.shape()
    }

    fn element(&self) -> Checked<Element> {
        use hdf5::types::{FloatSize, IntSize, TypeDescriptor};
        let descriptor = self.0.dtype().and_then(|dtype| dtype.to_descriptor());
        Ok(match descriptor {
            Ok(TypeDescriptor::Unsigned(IntSize::U1)) => Element::U8,
            Ok(TypeDescriptor::Unsigned(IntSize::U2)) => Element::U16,
            Ok(TypeDescriptor::Unsigned(IntSize::U4)) => Element::U32,
            Ok(TypeDescriptor::Unsigned(IntSize::U8)) => Element::U64,
            Ok(TypeDescriptor::Integer(IntSize::U1)) => Element::I8,
            Ok(TypeDescriptor::Integer(IntSize::U2)) => Element::I16,
            Ok(TypeDescriptor::Integer(IntSize::U4)) => Element::I32,
            Ok(TypeDescriptor::Integer(IntSize::U8)) => Element::I64,
            // What h5py calls bool.
            Ok(TypeDescriptor::Boolean) => Element::U8,
            Ok(TypeDescriptor::Float(FloatSize::U8)) => Element::F64,
            Ok(TypeDescriptor::Float(_)) => Element::F32,
            Ok(
                text @ (TypeDescriptor::FixedAscii(_)
                | TypeDescriptor::FixedUnicode(_)
                | TypeDescriptor::VarLenAscii
                | TypeDescriptor::VarLenUnicode),
            ) => {
                let name = self.name();
                return Err(format!("{name} holds {text}: number the classes, and write their names as /classes"));
            }
            Ok(other) => return Err(format!("{} holds {other}, and not numbers", self.name())),
            // The one type of two bytes that the binding has no name for is half precision.
            Err(_) if self.0.dtype().is_ok_and(|dtype| dtype.size() == 2) => Element::F32,
            Err(error) => return Err(format!("{} holds no numbers that are read: {error}", self.name())),
        })
    }

    fn packing(&self) -> Packing {
        let fill = self.attribute("_FillValue").or_else(|| self.attribute("missing_value"));
        Packing {
            scale: self.attribute("scale_factor"),
            offset: self.attribute("add_offset"),
            fill: fill.filter(|fill| !fill.is_nan()), // which is none already
        }
    }

    fn rows(&self, count: usize) -> Checked<(Bytes, Element)> {
        if let Some(missing) = self.0.filters().iter().find(|filter| !filter.is_available()) {
            return Err(format!(
                "{} is compressed by HDF5's filter {}, which is not here: pip install hdf5plugin, and export \
                 HDF5_PLUGIN_PATH=$(python3 -c 'import hdf5plugin; print(hdf5plugin.PLUGIN_PATH)')",
                self.name(),
                missing.id()
            ));
        }
        let element = self.element()?;
        let path = h5::file_of(&self.0);
        let bytes = match bytes_of(&self.0) {
            Some(place) if self.0.filters().is_empty() && self.is_native(element) => {
                Bytes::of_file(&path, place).map_err(|error| error.to_string())?
            }
            _ => Bytes::Rows { dataset: self.0.clone(), path, element, row_bytes: count * element.width() },
        };
        Ok((bytes, element))
    }

    fn numbers(&self) -> Checked<Vec<f64>> {
        let words = |error: hdf5::Error| error.to_string();
        if self.0.dtype().is_ok_and(|dtype| dtype.is::<bool>()) {
            let flags = self.0.read_raw::<bool>().map_err(words)?;
            return Ok(flags.into_iter().map(f64::from).collect());
        }
        self.0.read_raw::<f64>().map_err(words)
    }

    fn piece(&self) -> Option<u64> {
        let is_mapped = bytes_of(&self.0).is_some() && self.0.filters().is_empty();
        if is_mapped { None } else { Some(chunk_bytes(&self.0).unwrap_or(0)) }
    }
}
