//! Memory for batches, used again and again: an epoch allocates as much as its first few batches.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// Memory that a batch may lie in: the heap, or pages that a device reads by itself (pinned). It begins where a number of
/// single precision may.
pub trait HostMemory: AsRef<[u8]> + AsMut<[u8]> + Send + Sync {}

impl<T: AsRef<[u8]> + AsMut<[u8]> + Send + Sync> HostMemory for T {}

/// Makes memory of so many bytes.
pub type Allocate = fn(usize) -> Box<dyn HostMemory>;

/// Memory from the heap.
pub fn heap(bytes: usize) -> Box<dyn HostMemory> {
    Box::new(Aligned(vec![0; bytes.div_ceil(size_of::<u64>())]))
}

/// Memory in which numbers of up to 8 bytes may lie.
struct Aligned(Vec<u64>);

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl AsMut<[u8]> for Aligned {
    fn as_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// The buffers that are free.
#[derive(Clone)]
pub(super) struct Buffers {
    free: Arc<Mutex<Vec<Box<dyn HostMemory>>>>,
    allocate: Allocate,
}

impl Buffers {
    pub fn new(allocate: Allocate) -> Self {
        Self { free: Arc::default(), allocate }
    }

    /// A buffer of so many bytes; what is in it is left over from its last use.
    pub fn take(&self, length: usize) -> Buffer {
        let mut free = self.free.lock().expect("no thread panics while it holds this");
        let fitting = free.iter().position(|memory| (**memory).as_ref().len() >= length);
        let memory = fitting.map(|index| free.swap_remove(index));
        drop(free);
        let memory = memory.unwrap_or_else(|| (self.allocate)(length));
        Buffer { memory: Some(memory), length, home: self.clone() }
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.free.lock().map_or(0, |free| free.len());
        formatter.debug_struct("Buffers").field("free", &free).finish_non_exhaustive()
    }
}

/// Bytes that go back to where they came from when they are dropped.
pub struct Buffer {
    /// `None` only while it is dropped.
    memory: Option<Box<dyn HostMemory>>,
    length: usize,
    home: Buffers,
}

impl Buffer {
    /// So many zeros on the heap.
    pub fn new(length: usize) -> Self {
        Self { memory: Some(heap(length)), length, home: Buffers::new(heap) }
    }

    /// Leaves out what lies behind so many bytes.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { length: bytes.len(), memory: Some(Box::new(bytes)), home: Buffers::new(heap) }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_deref().map_or(&[], |memory| &memory.as_ref()[..self.length])
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        self.memory.as_deref_mut().map_or(&mut [], |memory| &mut memory.as_mut()[..length])
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Buffer({} bytes)", self.length)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let (Some(memory), Ok(mut free)) = (self.memory.take(), self.home.free.lock()) {
            free.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again() {
        let buffers = Buffers::new(heap);
        let first = buffers.take(10);
        let place = first.as_ptr();
        drop(first);
        let smaller = buffers.take(7);
        assert_eq!((smaller.as_ptr(), smaller.len()), (place, 7));
        let other = buffers.take(10);
        assert_ne!(other.as_ptr(), place);
    }
}
