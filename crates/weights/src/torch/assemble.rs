//! Tensors from what a pickle says about them and the storages that they are views of.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;

use archives::{Budget, Bytes, Checked, quote};

use super::pickle::{Id, StorageAt, TensorAt, Unpickled, Value};
use crate::limits::MOST_TENSORS;
use crate::state_dict::StateDict;
use crate::tensor::{Tensor, elements};

/// The same with its numbers.
#[derive(Debug)]
struct View {
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Where training programs keep the state dict among other things.
const WRAPPERS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "network"];

/// The bytes, and where in them a storage lies.
pub(crate) struct Assembly<'b> {
    pub bytes: &'b Bytes,
    pub budget: &'b Budget,
    pub place_of: &'b dyn Fn(&StorageAt) -> Checked<Range<usize>>,
}

impl Assembly<'_> {
    pub(crate) fn state_dict(&self, unpickled: &Unpickled) -> Checked<StateDict> {
        let items = items_of_tensors(unpickled, unpickled.root)?;
        if items.len() > MOST_TENSORS {
            return Err(format!(
                "has a state dict of {} tensors; no network has more than {MOST_TENSORS}",
                items.len()
            ));
        }
        // Copies of transposed views together take no more than the file does.
        let left = Cell::new(self.bytes.as_slice().len());
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        for &(key, value) in items {
            let Value::Text(name) = *unpickled.value(key) else {
                return Err("has a state dict with a key that is not text".to_owned());
            };
            let Value::Tensor(view) = unpickled.value(value) else {
                return Err(format!("has {}, which is not a tensor, in the state dict", quote(name)));
            };
            // Before it is copied: a pickle can name one long text again and again.
            if !seen.insert(name) {
                return Err(format!("the key {} is there twice", quote(name)));
            }
            self.budget.take(name.len())?;
            let tensor = self.tensor(unpickled, view, &left).map_err(|reason| format!("{}: {reason}", quote(name)))?;
            entries.push((name.to_owned(), tensor));
        }
        StateDict::new(entries)
    }

    /// One tensor; `left` are the bytes that copies may still take.
    fn tensor(&self, unpickled: &Unpickled, at: &TensorAt, left: &Cell<usize>) -> Checked<Tensor> {
        let Value::Storage(storage) = unpickled.value(at.storage) else {
            return Err("is not the view of a storage".to_owned());
        };
        let (shape, strides) = (unpickled.sizes(at.shape)?, unpickled.sizes(at.strides)?);
        let view = View { offset: at.offset, shape, strides };
        let place = (self.place_of)(storage)?;
        let size = storage.dtype.size();
        if storage.elements.checked_mul(size) != Some(place.len()) {
            let (elements, dtype, length) = (storage.elements, storage.dtype, place.len());
            return Err(format!("its storage of {elements} {dtype:?} has {length} bytes"));
        }
        let outside = || format!("a view of {:?} from {} on reaches beyond its storage", view.shape, view.offset);
        let count = elements(&view.shape)?;
        if count > storage.elements || (count > 0 && last_index(&view).is_none_or(|last| last >= storage.elements)) {
            return Err(outside());
        }
        if count == 0 {
            return Tensor::new(storage.dtype, view.shape, self.bytes.clone(), 0..0);
        }
        if is_dense(&view) {
            let start = place.start + view.offset * size;
            return Tensor::new(storage.dtype, view.shape, self.bytes.clone(), start..start + count * size);
        }
        let rest = left.get().checked_sub(count * size).ok_or("the views of the file together are larger than it")?;
        left.set(rest);
        self.budget.take(count * size)?;
        let dense = gather(&self.bytes.as_slice()[place], &view, size, count);
        Tensor::new(storage.dtype, view.shape, Bytes::new(dense), 0..count * size)
    }
}

/// The pairs of the dict with the tensors: the object itself, or what a training program wrapped.
fn items_of_tensors<'u>(unpickled: &'u Unpickled, id: Id) -> Checked<&'u [(Id, Id)]> {
    let Value::Dict(items) = unpickled.value(id) else {
        return Err("holds no state dict, which is a dict of tensors; save model.state_dict()".to_owned());
    };
    let is_state = |items: &[(Id, Id)]| items.iter().any(|&(_, value)| unpickled.is_tensor(value));
    if is_state(items) {
        return Ok(items);
    }
    for wrapper in WRAPPERS {
        if let Some(Value::Dict(inner)) = unpickled.get(id, wrapper)
            && is_state(inner)
        {
            return Ok(inner);
        }
    }
    let keys = items.iter().take(8).filter_map(|&(key, _)| match *unpickled.value(key) {
        Value::Text(key) => Some(quote(key)),
        _ => None,
    });
    let keys = keys.collect::<Vec<_>>().join(", ");
    Err(format!(
        "holds no state dict; a dict of tensors is looked for, and under {}; there is: {keys}",
        WRAPPERS.join(", ")
    ))
}

/// The place of the view's last value in the storage.
fn last_index(view: &View) -> Option<usize> {
    view.shape
        .iter()
        .zip(&view.strides)
        .try_fold(view.offset, |index, (&side, &stride)| index.checked_add((side - 1).checked_mul(stride)?))
}

/// Whether the values lie one after the other, in row-major order.
fn is_dense(view: &View) -> bool {
    let mut expected = 1;
    view.shape.iter().zip(&view.strides).rev().all(|(&side, &stride)| {
        let fits = side == 1 || stride == expected;
        expected *= side;
        fits
    })
}

/// Copies a view that was checked to lie in `storage`.
fn gather(storage: &[u8], view: &View, size: usize, count: usize) -> Vec<u8> {
    let mut dense = Vec::with_capacity(count * size);
    let mut position = vec![0; view.shape.len()];
    let mut index = view.offset;
    for _ in 0..count {
        dense.extend_from_slice(&storage[index * size..(index + 1) * size]);
        for axis in (0..position.len()).rev() {
            position[axis] += 1;
            index += view.strides[axis];
            if position[axis] < view.shape[axis] {
                break;
            }
            index -= view.strides[axis] * view.shape[axis];
            position[axis] = 0;
        }
    }
    dense
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_view_is_copied_in_row_major_order() {
        let view = View { offset: 1, shape: vec![3, 2], strides: vec![1, 3] };
        assert!(!is_dense(&view));
        assert_eq!(last_index(&view), Some(6));
        assert_eq!(gather(&[9, 1, 2, 3, 4, 5, 6], &view, 1, 6), [1, 4, 2, 5, 3, 6]);
        let absurd = View { shape: vec![2, 2], strides: vec![usize::MAX, 1], ..view };
        assert_eq!(last_index(&absurd), None);
    }
}
