//! The header of NumPy's arrays.

use crate::Checked;

/// Longest header, in bytes. NumPy's own are below 128.
pub const LONGEST_HEADER: usize = 1 << 12;
/// Most axes of an array. NumPy has at most 64, and no layer and no image has more than 6.
pub const MOST_AXES: usize = 16;

/// The header of a `.npy` array: magic, version, length, and the text of a Python dict.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// The type of the values, as NumPy writes it: `<f4`.
    pub descr: String,
    /// How many there are along each axis, in row-major order.
    pub shape: Vec<usize>,
    /// Bytes before the values.
    pub length: usize,
}

impl Header {
    /// The header that an array begins with.
    ///
    /// # Errors
    /// What is none, and arrays in Fortran's order.
    pub fn parse(bytes: &[u8]) -> Checked<Self> {
        let short = || "is cut off".to_owned();
        let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("is not an array of NumPy")?;
        let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
        let (prefix, text_length) = match version[0] {
            1 => (10, rest.first_chunk().map(|&length| usize::from(u16::from_le_bytes(length)))),
            2 | 3 => (12, rest.first_chunk().map(|&length| u32::from_le_bytes(length) as usize)),
            other => return Err(format!("has version {other} of the format")),
        };
        let text_length = text_length.ok_or_else(short)?;
        if text_length > LONGEST_HEADER {
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
        let sides = field("shape")?.strip_prefix('(').and_then(|text| text.split_once(')')).map(|(sides, _)| sides);
        let sides = sides.ok_or("has no shape in its header")?.split(',').map(str::trim);
        let shape = sides.filter(|side| !side.is_empty()).map(str::parse::<usize>).collect::<Result<_, _>>();
        let shape: Vec<_> = shape.map_err(|error| format!("has a broken shape: {error}"))?;
        if shape.len() > MOST_AXES {
            return Err(format!("has {} axes", shape.len()));
        }
        Ok(Self { descr: descr.to_owned(), shape, length: prefix + text_length })
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
        let expected = Header { descr: "<f4".to_owned(), shape: vec![16, 3, 3, 3], length: 10 + text.len() };
        assert_eq!(Header::parse(&header(text)), Ok(expected));
        let scalar = "{'descr': '<i8', 'fortran_order': False, 'shape': (), }\n";
        assert_eq!(Header::parse(&header(scalar)).unwrap().shape, Vec::<usize>::new());
        let row = "{'descr': '<f2', 'fortran_order': False, 'shape': (5,), }\n";
        assert_eq!(Header::parse(&header(row)).unwrap().shape, [5]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, words) in [
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
