//! Tensors from what a pickle says about them and the storages that they are views of.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;

use archives::{Budget, Bytes, Checked, quote};

use super::values::{Id, StorageAt, TensorAt, Unpickled, Value};
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

/// Where training programs keep the state dict among other things, in the order in which it is looked for: Lightning, MoCo and timm,
/// torchvision's references and Composer, DeepSpeed, and others. Averages of the weights are taken only by their name.
const WRAPPERS: [&str; 9] =
    ["state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params", "state"];
/// How deep dicts may lie in each other: Composer's is in `state`, `model`.
const DEEPEST: usize = 3;

/// The bytes, and where in them a storage lies.
pub(crate) struct Assembly<'b> {
    pub bytes: &'b Bytes,
    pub budget: &'b Budget,
    pub place_of: &'b dyn Fn(&StorageAt) -> Checked<Range<usize>>,
}

impl Assembly<'_> {
    /// The state dict: where `key` says, dicts in dicts with a dot between, or else the first that is found.
    pub(crate) fn state_dict(&self, unpickled: &Unpickled, key: Option<&str>) -> Checked<StateDict> {
        let items = match key {
            Some(key) => items_at(unpickled, key)?,
            None => items_of_tensors(unpickled)?,
        };
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
            // What else lies there, the number of an epoch, say, is no weight.
            let (Value::Text(name), Value::Tensor(view)) = (unpickled.value(key), unpickled.value(value)) else {
                continue;
            };
            let name = *name;
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

/// Pairs of a dict.
type Items = [(Id, Id)];

/// Whether a dict has tensors.
fn is_state(unpickled: &Unpickled, items: &Items) -> bool {
    items.iter().any(|&(_, value)| unpickled.is_tensor(value))
}

/// The pairs of the dict with the weights: what a training program has wrapped, or the object itself. A tensor beside the wrapped
/// dict, a score or a generator's state, does not make it one.
fn items_of_tensors<'u>(unpickled: &'u Unpickled) -> Checked<&'u Items> {
    let items = match unpickled.value(unpickled.root) {
        Value::Dict(items) => items,
        Value::Opaque => {
            let (module, name) = unpickled.foreign.unwrap_or_default();
            return Err(format!(
                "holds an object, {}.{}, and no dict of tensors; nothing was run. Save model.state_dict() alone",
                quote(module),
                quote(name)
            ));
        }
        _ => return Err("holds no state dict, which is a dict of tensors; save model.state_dict()".to_owned()),
    };
    if let Some(found) = wrapped(unpickled, unpickled.root, DEEPEST) {
        return Ok(found);
    }
    if is_state(unpickled, items) {
        return Ok(items);
    }
    Err(format!(
        "holds no state dict; a dict of tensors is looked for, and under {}; there is: {}. --weights-key names another",
        WRAPPERS.join(", "),
        keys(unpickled, items)
    ))
}

/// The first dict with tensors below `id` under one of the usual keys.
fn wrapped<'u>(unpickled: &'u Unpickled, id: Id, deepest: usize) -> Option<&'u Items> {
    let next = deepest.checked_sub(1)?;
    let inside =
        |key: &str| Some(unpickled.at(id, key)?).filter(|&inner| matches!(unpickled.value(inner), Value::Dict(_)));
    WRAPPERS.iter().filter_map(|key| inside(key)).find_map(|inner| {
        let own = || match unpickled.value(inner) {
            Value::Dict(items) if is_state(unpickled, items) => Some(&items[..]),
            _ => None,
        };
        wrapped(unpickled, inner, next).or_else(own)
    })
}

/// The pairs of the dict at `key`: dicts in dicts, with a dot between, of which each may have dots in its own name.
fn items_at<'u>(unpickled: &'u Unpickled, key: &str) -> Checked<&'u Items> {
    let mut id = unpickled.root;
    let mut rest = key;
    while !rest.is_empty() {
        let Value::Dict(items) = unpickled.value(id) else { break };
        let starts = |name: &str| rest.strip_prefix(name).filter(|left| left.is_empty() || left.starts_with('.'));
        let name_of = |&(name, value): &(Id, Id)| match *unpickled.value(name) {
            Value::Text(name) => starts(name).map(|left| (left.len(), value)),
            _ => None,
        };
        let Some((left, inner)) = items.iter().filter_map(name_of).min_by_key(|(left, _)| *left) else {
            return Err(format!(
                "has no {} for --weights-key {}; there is: {}",
                quote(rest),
                quote(key),
                keys(unpickled, items)
            ));
        };
        rest = rest[rest.len() - left..].trim_start_matches('.');
        id = inner;
    }
    match unpickled.value(id) {
        Value::Dict(items) if rest.is_empty() && is_state(unpickled, items) => Ok(items),
        Value::Dict(items) if rest.is_empty() => {
            Err(format!("--weights-key {}: has no tensors; there is: {}", quote(key), keys(unpickled, items)))
        }
        _ => Err(format!("--weights-key {}: is no dict of tensors", quote(key))),
    }
}

/// Some keys of a dict, for people.
fn keys(unpickled: &Unpickled, items: &Items) -> String {
    let keys = items.iter().take(8).filter_map(|&(key, _)| match *unpickled.value(key) {
        Value::Text(key) => Some(quote(key)),
        _ => None,
    });
    keys.collect::<Vec<_>>().join(", ")
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
