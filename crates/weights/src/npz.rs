//! `.npz`: a zip file of NumPy arrays, stored or deflated.

use archives::{Budget, Bytes, Checked, Header, LONGEST_HEADER, ZipFile, quote};

use crate::state_dict::StateDict;
use crate::tensor::{Dtype, Tensor, elements};

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
        let dtype = dtype_of(&header.descr)?;
        return Tensor::new(dtype, header.shape, zip.bytes().clone(), place.start + header.length..place.end);
    }
    let header = Header::parse(&zip.inflate_start(name, PREFIX + LONGEST_HEADER)?)?;
    let dtype = dtype_of(&header.descr)?;
    let size = elements(&header.shape)?.saturating_mul(dtype.size()).saturating_add(header.length);
    budget.take(size).map_err(|reason| {
        format!("would inflate to {size} bytes, and so the file {reason}, or numpy.savez, which does not compress")
    })?;
    let bytes = zip.inflate(name, size)?;
    Tensor::new(dtype, header.shape, Bytes::new(bytes), header.length..size)
}

fn dtype_of(descr: &str) -> Checked<Dtype> {
    match descr {
        "|b1" => Ok(Dtype::Bool),
        "|u1" => Ok(Dtype::U8),
        "|i1" => Ok(Dtype::I8),
        "<i2" => Ok(Dtype::I16),
        "<i4" => Ok(Dtype::I32),
        "<i8" => Ok(Dtype::I64),
        "<f2" => Ok(Dtype::F16),
        "<f4" => Ok(Dtype::F32),
        "<f8" => Ok(Dtype::F64),
        other => Err(format!("has values of type '{}', which is not read here", quote(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_are_not_understood_are_refused() {
        assert_eq!(dtype_of("<f4"), Ok(Dtype::F32));
        for descr in [">f4", "|O"] {
            assert!(dtype_of(descr).unwrap_err().contains(descr));
        }
    }
}
