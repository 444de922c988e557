//! Arrays of an HDF5 file, which netCDF 4 is, too.

use std::path::Path;

use hdf5::{Dataset, File};

use super::{Array, Bytes, Checked, Container, Element, Memory, Packing};
use crate::h5::{self, bytes_of, chunk_bytes, texts_within};

/// An open file.
pub(super) struct Hdf5(File);

pub(super) fn open(path: &Path) -> Checked<Hdf5> {
    let file = h5::open(path);
    file.map(Hdf5)
        .map_err(|error| format!("cannot be opened as HDF5: {error}; a folder, an HDF5 file or an .npz file is needed"))
}

impl Container for Hdf5 {
    fn array(&self, name: &str) -> Checked<Option<Box<dyn Array>>> {
        // A link to nothing is not there, either.
        let found = self.0.dataset(name).ok();
        Ok(found.map(|dataset| Box::new(InFile(dataset)) as Box<dyn Array>))
    }

    fn texts(&self, name: &str, memory: &mut Memory) -> Option<Checked<Vec<String>>> {
        if !self.0.link_exists(name) {
            return None;
        }
        let names = self.0.dataset(name).map_err(|error| error.to_string());
        Some(names.and_then(|names| texts_within(&names, &mut memory.0)))
    }

    fn members(&self) -> Vec<String> {
        self.0.member_names().unwrap_or_default()
    }
}

/// An array in the file.
struct InFile(Dataset);

impl InFile {
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
