//! Buffers that are kept from one image to the next.

/// A buffer that is larger than this many bytes is not kept for the next image, if that is much smaller.
const KEPT: usize = 64 << 20;

/// Makes a buffer `length` bytes long. What a very large image took is given back when smaller ones follow.
pub(super) fn make_room(buffer: &mut Vec<u8>, length: usize) {
    if buffer.capacity() > KEPT && length < buffer.capacity() / 2 {
        *buffer = Vec::new();
    }
    buffer.clear();
    buffer.resize(length, 0);
}
