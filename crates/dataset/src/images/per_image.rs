//! Numbers of which each image has one: on the heap, or where there are many of them, where they lie in a cache, shared by all ranks
//! of a node.

use std::ops::Deref;

use bytemuck::Pod;

use super::Bytes;

/// One number an image.
#[derive(Debug)]
pub(crate) struct PerImage<T>(Where<T>);

#[derive(Debug)]
enum Where<T> {
    Heap(Vec<T>),
    /// As many whole numbers, where they may stand: [`mapped`](PerImage::mapped) has looked.
    Mapped(Bytes),
}

impl<T: Pod> PerImage<T> {
    /// Those that `bytes` are, if they are mapped, and numbers may stand there.
    pub fn mapped(bytes: Bytes) -> Option<Self> {
        let fits = bytes.as_slice().is_some_and(|bytes| bytemuck::try_cast_slice::<u8, T>(bytes).is_ok());
        fits.then_some(Self(Where::Mapped(bytes)))
    }
}

impl<T> From<Vec<T>> for PerImage<T> {
    fn from(numbers: Vec<T>) -> Self {
        Self(Where::Heap(numbers))
    }
}

impl<T: Pod> Deref for PerImage<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Where::Heap(numbers) => numbers,
            Where::Mapped(bytes) => bytes.as_slice().map_or(&[], bytemuck::cast_slice),
        }
    }
}
