//! `.safetensors`: a length, a JSON header, the bytes.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use safetensors::{Dtype as Stored, View};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{Checked, Error, Result};
use crate::limits::{Budget, LONGEST_JSON, MOST_AXES, MOST_TENSORS, quote};
use crate::state_dict::StateDict;
use crate::tensor::{Bytes, Dtype, Tensor};

/// The key of what is not a tensor.
const METADATA: &str = "__metadata__";

/// Whether a file begins like one: a length that fits, then a JSON object.
pub(crate) fn is_one(start: &[u8]) -> bool {
    header(start).is_some_and(|header| header.first() == Some(&b'{')) || start.get(8) == Some(&b'{')
}

fn header(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

pub(crate) fn parse(bytes: &Bytes, budget: &Budget) -> Checked<StateDict> {
    let whole = bytes.as_slice();
    let header = header(whole).ok_or("is cut off: its header is longer than the file")?;
    if header.len() > LONGEST_JSON {
        return Err(format!("has a header of {} bytes; the format has at most {LONGEST_JSON}", header.len()));
    }
    let mut json = serde_json::Deserializer::from_slice(header);
    let tensors = Header { budget }.deserialize(&mut json).and_then(|tensors| json.end().map(|()| tensors));
    let mut tensors = tensors.map_err(|error| format!("has a broken header: {}", quote(&error.to_string())))?;
    tensors.sort_by(|(left_name, left), (right_name, right)| {
        (left.data_offsets, left_name).cmp(&(right.data_offsets, right_name))
    });
    // The bytes of one tensor follow those of another, up to the end of the file: nothing is hidden between.
    let first = 8 + header.len();
    let mut expected = 0;
    let mut entries = Vec::new();
    for (name, Stated { dtype, shape: Shape(shape), data_offsets: (start, end) }) in tensors {
        let shown = quote(&name);
        let dtype = from_stored(dtype).ok_or_else(|| format!("{shown} has a type that is not read here"))?;
        if start != expected || end < start || end > whole.len() - first {
            return Err(format!("{shown}: the bytes {start} to {end} are not those that follow the tensor before"));
        }
        expected = end;
        let tensor = Tensor::new(dtype, shape, bytes.clone(), first + start..first + end);
        let tensor = tensor.map_err(|reason| format!("{shown}: {reason}"))?;
        entries.push((name, tensor));
    }
    if first + expected != whole.len() {
        let (stated, there) = (expected, whole.len() - first);
        return Err(format!("is no whole safetensors file: its tensors have {stated} bytes, and {there} are there"));
    }
    StateDict::new(entries)
}

/// What the header says of a tensor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stated {
    dtype: Stored,
    shape: Shape,
    data_offsets: (usize, usize),
}

/// The sides of a tensor, of which there are few.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Sides;
        impl<'de> Visitor<'de> for Sides {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MOST_AXES} sides")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> std::result::Result<Shape, A::Error> {
                let mut sides = Vec::new();
                while let Some(side) = sequence.next_element()? {
                    if sides.len() == MOST_AXES {
                        return Err(A::Error::custom(format!("a tensor of more than {MOST_AXES} axes")));
                    }
                    sides.push(side);
                }
                Ok(Shape(sides))
            }
        }
        deserializer.deserialize_seq(Sides)
    }
}

/// The tensors of a header, one at a time: their number, their names and their shapes have limits, and so what they take.
/// No key may be there twice; which one counts would be anybody's guess.
struct Header<'b> {
    budget: &'b Budget,
}

impl<'de> DeserializeSeed<'de> for Header<'_> {
    type Value = Vec<(String, Stated)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Header<'_> {
    type Value = Vec<(String, Stated)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let (mut tensors, mut seen) = (Vec::new(), HashSet::new());
        while let Some(key) = map.next_key::<String>()? {
            // The name stands here, and in the set of those that were seen.
            self.budget.take(2 * key.len()).map_err(A::Error::custom)?;
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("the key {} is there twice", quote(&key))));
            }
            if key == METADATA {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if tensors.len() == MOST_TENSORS {
                return Err(A::Error::custom(format!("more than {MOST_TENSORS} tensors, which no network has")));
            }
            tensors.push((key, map.next_value::<Stated>()?));
        }
        Ok(tensors)
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
