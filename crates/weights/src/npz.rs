//! `.npz`: a zip file of NumPy arrays, stored or deflated.

use crate::error::Checked;
use crate::limits::{Budget, LONGEST_ARRAY_HEADER, MOST_AXES, quote};
use crate::state_dict::StateDict;
use crate::tensor::{Bytes, Dtype, Tensor, elements};
use crate::zip_file::ZipFile;

/// Bytes of an array before the text of its header, at most.
const PREFIX: usize = 12;

pub(crate) fn read(zip: &ZipFile, budget: &Budget) -> Checked<StateDict> {
    let mut entries = Vec::new();
    for name in zip.names() {
        let shown = quote(name);
        let key = name.strip_suffix(".npy").ok_or_else(|| {
            format!("is a zip file that holds no weights: it has {shown}, and neither data.pkl nor only .npy arrays")
        })?;
        budget.take(key.len())?;
        entries.push((key.to_owned(), array(zip, name, budget).map_err(|reason| format!("{shown}: {reason}"))?));
    }
    StateDict::new(entries)
}

fn array(zip: &ZipFile, name: &str, budget: &Budget) -> Checked<Tensor> {
    let (is_stored, place) = zip.place(name)?;
    if is_stored {
        let header = Header::parse(&zip.bytes().as_slice()[place.clone()])?;
        return Tensor::new(header.dtype, header.shape, zip.bytes().clone(), place.start + header.length..place.end);
    }
    let header = Header::parse(&zip.inflate_start(name, PREFIX + LONGEST_ARRAY_HEADER)?)?;
    let size = elements(&header.shape)?.saturating_mul(header.dtype.size()).saturating_add(header.length);
    budget.take(size).map_err(|reason| {
        format!("would inflate to {size} bytes, and so the file {reason}, or numpy.savez, which does not compress")
    })?;
    let bytes = zip.inflate(name, size)?;
    Tensor::new(header.dtype, header.shape, Bytes::new(bytes), header.length..size)
}

/// The header of a `.npy` array: magic, version, length, and the text of a Python dict.
#[derive(Debug, PartialEq)]
struct Header {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Bytes before the values.
    length: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Checked<Self> {
        let short = || "is cut off".to_owned();
        let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("is not an array of NumPy")?;
        let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
        let (prefix, text_length) = match version[0] {
            1 => (10, rest.first_chunk().map(|&length| usize::from(u16::from_le_bytes(length)))),
            2 | 3 => (12, rest.first_chunk().map(|&length| u32::from_le_bytes(length) as usize)),
            other => return Err(format!("has version {other} of the format")),
        };
        let text_length = text_length.ok_or_else(short)?;
        if text_length > LONGEST_ARRAY_HEADER {
            return Err(format!("has a header of {text_length} bytes"));
        }
        let text = bytes.get(prefix..prefix + text_length).ok_or_else(short)?;
        let text = std::str::from_utf8(text).map_err(|error| format!("has a broken header: {error}"))?;
        let field = |key: &str| {
            let after = text.split_once(&format!("'{key}':")).map(|(_, after)| after.trim_start());
            after.ok_or_else(|| format!("has no '{key}' in its header"))
        };
        if !field("fortran_order")?.starts_with("False") {
            return Err("is in Fortran's order; save it with numpy.ascontiguousarray".to_owned());
        }
        let descr = field("descr")?.split(['\'', '"']).nth(1).unwrap_or_default();
        let dtype = match descr {
            "|b1" => Dtype::Bool,
            "|u1" => Dtype::U8,
            "|i1" => Dtype::I8,
            "<i2" => Dtype::I16,
            "<i4" => Dtype::I32,
            "<i8" => Dtype::I64,
            "<f2" => Dtype::F16,
            "<f4" => Dtype::F32,
            "<f8" => Dtype::F64,
            other => return Err(format!("has values of type '{}', which is not read here", quote(other))),
        };
        let sides = field("shape")?.strip_prefix('(').and_then(|text| text.split_once(')')).map(|(sides, _)| sides);
        let sides = sides.ok_or("has no shape in its header")?.split(',').map(str::trim);
        let shape = sides.filter(|side| !side.is_empty()).map(str::parse::<usize>).collect::<Result<_, _>>();
        let shape: Vec<_> = shape.map_err(|error| format!("has a broken shape: {error}"))?;
        if shape.len() > MOST_AXES {
            return Err(format!("has {} axes", shape.len()));
        }
        Ok(Self { dtype, shape, length: prefix + text_length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Vec<u8> {
        let length = (text.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], text.as_bytes()].concat()
    }

    #[test]
    fn headers_of_numpy_are_read() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (16, 3, 3, 3), }   \n";
        let expected = Header { dtype: Dtype::F32, shape: vec![16, 3, 3, 3], length: 10 + text.len() };
        assert_eq!(Header::parse(&header(text)), Ok(expected));
        let scalar = "{'descr': '<i8', 'fortran_order': False, 'shape': (), }\n";
        assert_eq!(Header::parse(&header(scalar)).unwrap().shape, Vec::<usize>::new());
        let row = "{'descr': '<f2', 'fortran_order': False, 'shape': (5,), }\n";
        assert_eq!(Header::parse(&header(row)).unwrap().shape, [5]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, words) in [
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", "'>f4'"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "'|O'"),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", "Fortran"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "broken shape"),
            ("{'descr': '<f4', 'fortran_order': False}", "no 'shape'"),
        ] {
            let error = Header::parse(&header(text)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(Header::parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").is_err());
    }
}
