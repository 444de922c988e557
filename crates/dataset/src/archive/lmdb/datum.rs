//! Caffe's `Datum`, a protocol buffer: the file of an image, or its bare bytes, and a label.

use std::ops::Range;

/// An image and its label. Fields are numbered as in Caffe's `caffe.proto`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Datum {
    /// 1, 2, 3: channels, rows, columns.
    pub shape: [u64; 3],
    /// 4: where the bytes are, among those of the message.
    pub data: Option<Range<usize>>,
    /// 5. Absent is zero.
    pub label: i64,
    /// 6: how many numbers it has in place of bytes.
    pub floats: u64,
    /// 7: whether the bytes are those of a file.
    pub is_encoded: bool,
}

/// The message that these bytes are from their first to their last; `None` where they are another.
pub(super) fn parse(bytes: &[u8]) -> Option<Datum> {
    let mut datum = Datum::default();
    let mut at = 0;
    while at < bytes.len() {
        let tag = varint(bytes, &mut at)?;
        match (tag >> 3, tag & 7) {
            (field @ 1..=3, 0) => datum.shape[field as usize - 1] = varint(bytes, &mut at)?,
            (4, 2) => datum.data = Some(field(bytes, &mut at)?),
            (5, 0) => datum.label = i64::from(varint(bytes, &mut at)? as i32),
            (6, 2) => datum.floats += field(bytes, &mut at)?.len() as u64 / 4,
            (6, 5) => {
                at = at.checked_add(4).filter(|at| *at <= bytes.len())?;
                datum.floats += 1;
            }
            (7, 0) => datum.is_encoded = varint(bytes, &mut at)? != 0,
            _ => return None,
        }
    }
    // Digits are a field of four bytes, as messages go: floats are as many as the shape says.
    let numbers = datum.shape.iter().try_fold(1_u64, |product, &side| product.checked_mul(side));
    (datum.data.is_some() || datum.floats > 0 && numbers == Some(datum.floats)).then_some(datum)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// A field of as many bytes as it says.
fn field(bytes: &[u8], at: &mut usize) -> Option<Range<usize>> {
    let length = usize::try_from(varint(bytes, at)?).ok()?;
    let end = at.checked_add(length).filter(|end| *end <= bytes.len())?;
    let field = *at..end;
    *at = end;
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages() {
        // As protobuf writes channels 3, height 2, width 1, data "abcdef", label 7.
        let raw = b"\x08\x03\x10\x02\x18\x01\x22\x06abcdef\x28\x07";
        let expected = Datum { shape: [3, 2, 1], data: Some(8..14), label: 7, ..Datum::default() };
        assert_eq!(parse(raw), Some(expected.clone()));
        let encoded = parse(b"\x22\x02\xff\xd8\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x38\x01").unwrap();
        assert_eq!((encoded.label, encoded.is_encoded, encoded.data), (-1, true, Some(2..4)));
        let floats = parse(b"\x08\x01\x10\x01\x18\x02\x35\0\0\x80\x3f\x35\0\0\0\0").unwrap();
        assert_eq!((floats.floats, floats.data), (2, None));
        for other in
            [&b""[..], b"12", b"\x08\x03", b"\x22\x06abc", &raw[..13], b"\x42\x01a", b"num-samples", b"50000", b"59.99"]
        {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes: Vec<u8>) {
            if let Some(Datum { data: Some(data), .. }) = parse(&bytes) {
                prop_assert!(data.end <= bytes.len());
            }
        }
    }
}
