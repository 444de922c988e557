//! torch.save before 1.6: pickles one after the other (magic, version, machine, object, keys of storages), then the
//! storages.

use std::collections::HashMap;
use std::ops::Range;

use archives::{Budget, Bytes, Checked, quote};

use super::assemble::Assembly;
use super::pickle::unpickle;
use super::values::{StorageAt, Unpickled, Value};
use crate::state_dict::StateDict;

/// The pickle of the number that every such file begins with.
pub(crate) const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

pub(crate) fn legacy(bytes: &Bytes, budget: &Budget, key: Option<&str>) -> Checked<StateDict> {
    let whole = bytes.as_slice();
    let mut position = LEGACY_MAGIC.len();
    let mut next = |what: &str| -> Checked<Unpickled<'_>> {
        let (unpickled, length) =
            unpickle(&whole[position..], budget).map_err(|reason| format!("the pickle of the {what}: {reason}"))?;
        position += length;
        Ok(unpickled)
    };
    let version = next("version")?;
    if !matches!(version.value(version.root), Value::Int(1001)) {
        return Err("has a version of torch's older format that is not known".to_owned());
    }
    let machine = next("machine")?;
    if let Some(Value::Bool(false)) = machine.get(machine.root, "little_endian") {
        return Err("was written on a big-endian machine".to_owned());
    }
    let object = next("object")?;
    let keys = next("storages")?;
    let places = places(whole, position, &object, &keys, budget)?;
    let place_of = |storage: &StorageAt| {
        places.get(storage.key).cloned().ok_or_else(|| format!("has no storage {}", quote(storage.key)))
    };
    Assembly { bytes, budget, place_of: &place_of }.state_dict(&object, key)
}

/// Where each storage lies: a count of values, then the values, in the order of `keys`.
fn places<'a>(
    whole: &[u8],
    mut position: usize,
    object: &Unpickled<'a>,
    keys: &Unpickled<'a>,
    budget: &Budget,
) -> Checked<HashMap<&'a str, Range<usize>>> {
    let Value::List(items) = keys.value(keys.root) else { return Err("has no list of storages".to_owned()) };
    // Two tables, each half empty.
    budget.take(object.storages().count() * 4 * size_of::<(&str, Range<usize>)>())?;
    let known: HashMap<&str, &StorageAt> = object.storages().map(|storage| (storage.key, storage)).collect();
    let mut places = HashMap::new();
    for &item in items {
        let Value::Text(key) = *keys.value(item) else { return Err("has a storage without a name".to_owned()) };
        let storage = known.get(key).ok_or_else(|| format!("lists a storage {} that nothing uses", quote(key)))?;
        let key = storage.key; // the same, and not too long for a message
        let cut_off = || format!("is cut off in the storage {key}");
        let (count, _) = whole.get(position..).and_then(|rest| rest.split_first_chunk::<8>()).ok_or_else(cut_off)?;
        let count = u64::from_le_bytes(*count);
        if count != storage.elements as u64 {
            return Err(format!("says that the storage {key} has {count} and {} values", storage.elements));
        }
        let start = position + 8;
        let size = storage.elements.checked_mul(storage.dtype.size()).ok_or_else(cut_off)?;
        let end = start.checked_add(size).filter(|&end| end <= whole.len()).ok_or_else(cut_off)?;
        if places.insert(key, start..end).is_some() {
            return Err(format!("lists the storage {key} twice"));
        }
        position = end;
    }
    Ok(places)
}
