//! What travels between ranks, or is kept, as fields that end with a zero byte: paths and names hold any byte but that.

/// Puts one more behind the others.
pub(crate) fn push(bytes: &mut Vec<u8>, field: &[u8]) {
    bytes.extend_from_slice(field);
    bytes.push(0);
}
