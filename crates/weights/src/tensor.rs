//! A tensor as a file has it: type, shape, bytes.

use std::ops::Range;

use archives::{Bytes, Checked};

/// The type of a tensor's values, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// One byte, zero or one.
    Bool,
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// 16-bit integer.
    I16,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// Half precision.
    F16,
    /// bfloat16.
    BF16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl Dtype {
    /// Whether its values are numbers with a fraction.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }
}

/// A tensor, dense and in row-major order.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes,
    range: Range<usize>,
}

impl Tensor {
    /// The same values in another shape; as it is, where that has not as many.
    #[must_use]
    pub fn reshaped(self, shape: Vec<usize>) -> Self {
        let is_same = elements(&shape).is_ok_and(|count| Ok(count) == elements(&self.shape));
        if is_same { Self { shape, ..self } } else { self }
    }

    /// The tensor whose values are `range` of `bytes`.
    pub(crate) fn new(dtype: Dtype, shape: Vec<usize>, bytes: Bytes, range: Range<usize>) -> Checked<Self> {
        let expected = elements(&shape)?.checked_mul(dtype.size());
        if expected != Some(range.len()) || bytes.as_slice().get(range.clone()).is_none() {
            return Err(format!("{} bytes are no {dtype:?} of shape {shape:?}", range.len()));
        }
        Ok(Self { dtype, shape, bytes, range })
    }

    /// The tensor with these values, in row-major order.
    ///
    /// # Panics
    /// If `bytes` are not as many as `dtype` and `shape` say.
    pub fn from_bytes(dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self::new(dtype, shape.to_vec(), Bytes::new(bytes), range).unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// The type of the values.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The sides; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, little-endian, in row-major order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes.as_slice()[self.range.clone()]
    }

    /// The same values as single precision.
    pub fn to_f32(&self) -> Vec<f32> {
        let bytes = self.bytes();
        match self.dtype {
            Dtype::F32 => each(bytes, f32::from_le_bytes),
            Dtype::F64 => each(bytes, |value| f64::from_le_bytes(value) as f32),
            Dtype::F16 => each(bytes, |value| half::f16::from_le_bytes(value).to_f32()),
            Dtype::BF16 => each(bytes, |value| half::bf16::from_le_bytes(value).to_f32()),
            Dtype::Bool | Dtype::U8 => each(bytes, |[value]| f32::from(value)),
            Dtype::I8 => each(bytes, |value| f32::from(i8::from_le_bytes(value))),
            Dtype::I16 => each(bytes, |value| f32::from(i16::from_le_bytes(value))),
            Dtype::I32 => each(bytes, |value| i32::from_le_bytes(value) as f32),
            Dtype::I64 => each(bytes, |value| i64::from_le_bytes(value) as f32),
        }
    }
}

/// Each value of `N` bytes, in single precision.
fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| value(bytes)).collect()
}

/// Values in a tensor of this shape.
pub(crate) fn elements(shape: &[usize]) -> Checked<usize> {
    let product = shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
    product.ok_or_else(|| format!("a shape of {shape:?} has more values than memory has addresses"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_becomes_single_precision() {
        let half = |value| half::f16::from_f32(value).to_le_bytes();
        let brain = |value| half::bf16::from_f32(value).to_le_bytes();
        let cases: [(Dtype, Vec<u8>); 8] = [
            (Dtype::F32, [1.0_f32, -2.5].map(f32::to_le_bytes).concat()),
            (Dtype::F64, [1.0_f64, -2.5].map(f64::to_le_bytes).concat()),
            (Dtype::F16, [half(1.0), half(-2.5)].concat()),
            (Dtype::BF16, [brain(1.0), brain(-2.5)].concat()),
            (Dtype::I8, vec![1, 254]),
            (Dtype::I16, [1_i16, -2].map(i16::to_le_bytes).concat()),
            (Dtype::I32, [1_i32, -2].map(i32::to_le_bytes).concat()),
            (Dtype::I64, [1_i64, -2].map(i64::to_le_bytes).concat()),
        ];
        for (dtype, bytes) in cases {
            let values = Tensor::from_bytes(dtype, &[2], bytes).to_f32();
            assert_eq!(values[0], 1.0, "{dtype:?}");
            assert!(values[1] == -2.5 || values[1] == -2.0, "{dtype:?}: {}", values[1]);
        }
    }

    #[test]
    fn a_shape_that_overflows_is_refused() {
        let bytes = Bytes::new(vec![0; 8]);
        for shape in [vec![usize::MAX, 2], vec![1 << 62, 4], vec![3]] {
            assert!(Tensor::new(Dtype::F32, shape, bytes.clone(), 0..8).is_err());
        }
    }
}
