//! `.safetensors`: a length, a JSON header, the bytes.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype as Stored, SafeTensors, View};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::{Checked, Error, Result};
use crate::state_dict::StateDict;
use crate::tensor::{Bytes, Dtype, Tensor};

/// Whether a file begins like one: a length that fits, then a JSON object.
pub(crate) fn is_one(start: &[u8]) -> bool {
    header(start).is_some_and(|header| header.first() == Some(&b'{')) || start.get(8) == Some(&b'{')
}

fn header(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

pub(crate) fn parse(bytes: &Bytes) -> Checked<StateDict> {
    let whole = bytes.as_slice();
    let header = header(whole).ok_or("is cut off: its header is longer than the file")?;
    serde_json::from_slice::<UniqueKeys>(header).map_err(|error| format!("has a broken header: {error}"))?;
    let file = SafeTensors::deserialize(whole).map_err(|error| format!("is no whole safetensors file: {error}"))?;
    let mut entries = Vec::new();
    let place = |view: &TensorView<'_>| view.data().as_ptr().addr() - whole.as_ptr().addr();
    let mut views = file.tensors();
    views.sort_by(|(left_name, left), (right_name, right)| (place(left), left_name).cmp(&(place(right), right_name)));
    for (name, view) in views {
        let dtype = from_stored(view.dtype()).ok_or_else(|| format!("{name} has a type that is not read here"))?;
        let start = place(&view);
        let tensor = Tensor::new(dtype, view.shape().to_vec(), bytes.clone(), start..start + view.data().len());
        entries.push((name.clone(), tensor.map_err(|reason| format!("{name}: {reason}"))?));
    }
    StateDict::new(entries)
}

/// A JSON object whose keys are all different; which one of two counts is anybody's guess.
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = UniqueKeys;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<UniqueKeys, A::Error> {
                let mut seen = HashSet::new();
                while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format!("the key {key} is there twice")));
                    }
                }
                Ok(UniqueKeys)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

const TYPES: [(Stored, Dtype); 10] = [
    (Stored::BOOL, Dtype::Bool),
    (Stored::U8, Dtype::U8),
    (Stored::I8, Dtype::I8),
    (Stored::I16, Dtype::I16),
    (Stored::I32, Dtype::I32),
    (Stored::I64, Dtype::I64),
    (Stored::F16, Dtype::F16),
    (Stored::BF16, Dtype::BF16),
    (Stored::F32, Dtype::F32),
    (Stored::F64, Dtype::F64),
];

fn from_stored(stored: Stored) -> Option<Dtype> {
    TYPES.iter().find(|(known, _)| *known == stored).map(|&(_, dtype)| dtype)
}

impl View for &Tensor {
    fn dtype(&self) -> Stored {
        let found = TYPES.iter().find(|&&(_, dtype)| dtype == Tensor::dtype(self));
        found.expect("every type has its counterpart").0
    }

    fn shape(&self) -> &[usize] {
        Tensor::shape(self)
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.bytes().into()
    }

    fn data_len(&self) -> usize {
        self.bytes().len()
    }
}

/// Writes `entries` to the file `path`.
///
/// # Errors
/// A file that cannot be written.
pub fn write_safetensors(path: &Path, entries: &[(String, Tensor)]) -> Result<()> {
    let views = entries.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]); // transformers insists on it
    let write = || -> std::io::Result<()> {
        // The library puts a temporary file in the place, which nobody but its owner may read: a new file's permissions
        // follow the umask.
        let permissions = std::fs::File::create(path)?.metadata()?.permissions();
        safetensors::serialize_to_file(views, Some(metadata), path).map_err(std::io::Error::other)?;
        std::fs::set_permissions(path, permissions)
    };
    write().map_err(|source| Error::Io { path: path.to_owned(), source })
}
