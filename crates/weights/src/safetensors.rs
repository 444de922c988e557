//! `.safetensors`: a length, a JSON header, the bytes.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use archives::{Budget, Bytes, Checked, MOST_AXES, quote};
use safetensors::Dtype as Stored;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};

use crate::error::{Error, Result};
use crate::limits::{LONGEST_JSON, MOST_TENSORS};
use crate::state_dict::StateDict;
use crate::tensor::{Dtype, Tensor};

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
    let (mut tensors, metadata) =
        tensors.map_err(|error| format!("has a broken header: {}", quote(&error.to_string())))?;
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
    Ok(StateDict::new(entries)?.with_metadata(metadata))
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

/// The tensors, and what the file says of itself.
type Stating = (Vec<(String, Stated)>, BTreeMap<String, String>);

impl<'de> DeserializeSeed<'de> for Header<'_> {
    type Value = Stating;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Header<'_> {
    type Value = Stating;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let (mut tensors, mut seen, mut metadata) = (Vec::new(), HashSet::new(), BTreeMap::new());
        while let Some(key) = map.next_key::<String>()? {
            // The name stands here, and in the set of those that were seen.
            self.budget.take(2 * key.len()).map_err(A::Error::custom)?;
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("the key {} is there twice", quote(&key))));
            }
            if key == METADATA {
                metadata = map.next_value_seed(Texts { budget: self.budget })?;
                continue;
            }
            if tensors.len() == MOST_TENSORS {
                return Err(A::Error::custom(format!("more than {MOST_TENSORS} tensors, which no network has")));
            }
            tensors.push((key, map.next_value::<Stated>()?));
        }
        Ok((tensors, metadata))
    }
}

/// What a file says of itself: texts by name. Whatever else stands there is nothing to us, and takes no memory.
struct Texts<'b> {
    budget: &'b Budget,
}

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = BTreeMap<String, String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        let mut texts = BTreeMap::new();
        let take = |key: String, text: String| {
            self.budget.take(ENTRY + key.len() + text.len())?;
            texts.insert(key, text);
            Ok(())
        };
        deserializer.deserialize_any(Anything { take: Some(take) })?;
        Ok(texts)
    }
}

/// Any JSON: a text is kept, the texts of an object are handed to `take`, the rest is passed over.
struct Anything<F> {
    take: Option<F>,
}

impl<'de, F: FnMut(String, String) -> Checked<()>> Visitor<'de> for Anything<F> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> std::result::Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let Some(mut take) = self.take else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        while let Some(key) = map.next_key::<String>()? {
            if let Some(text) = map.next_value_seed(Anything::<F> { take: None })? {
                take(key, text).map_err(A::Error::custom)?;
            }
        }
        Ok(None)
    }
}

impl<'de, F: FnMut(String, String) -> Checked<()>> DeserializeSeed<'de> for Anything<F> {
    type Value = Option<String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// What an entry of a map takes beside its texts, at most, in bytes.
const ENTRY: usize = 256;

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

fn to_stored(dtype: Dtype) -> Stored {
    TYPES.iter().find(|(_, known)| *known == dtype).expect("every type has its counterpart").0
}

/// Writes `entries` to the file `path`, which says `metadata` of itself. The same entries and metadata are the same file.
///
/// # Errors
/// A file that cannot be written.
pub fn write_safetensors(path: &Path, entries: &[(String, Tensor)], metadata: &BTreeMap<String, String>) -> Result<()> {
    write(path, entries, metadata).map_err(|source| Error::Io { path: path.to_owned(), source })
}

// The library's own writer keeps metadata in a map without an order: the same weights would be another file each time.
fn write(path: &Path, entries: &[(String, Tensor)], metadata: &BTreeMap<String, String>) -> std::io::Result<()> {
    let mut sorted: Vec<_> = entries.iter().map(|(name, tensor)| (name, to_stored(tensor.dtype()), tensor)).collect();
    // As the library does: the widest type first, so that every tensor is aligned.
    sorted.sort_by(|(left_name, left, _), (right_name, right, _)| right.cmp(left).then(left_name.cmp(right_name)));
    let mut header = Vec::new();
    let mut json = serde_json::Serializer::new(&mut header);
    let mut map = json.serialize_map(None)?;
    let mut metadata = metadata.clone();
    metadata.entry("format".to_owned()).or_insert_with(|| "pt".to_owned()); // transformers insists on it
    map.serialize_entry(METADATA, &metadata)?;
    let mut start = 0;
    for (name, dtype, tensor) in &sorted {
        let end = start + tensor.bytes().len();
        let shape = tensor.shape().to_vec();
        map.serialize_entry(name, &TensorInfo { dtype: *dtype, shape, data_offsets: (start, end) })?;
        start = end;
    }
    SerializeMap::end(map)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() > LONGEST_JSON {
        return Err(std::io::Error::other("the names of the tensors are longer than the format allows"));
    }
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (_, _, tensor) in sorted {
        file.write_all(tensor.bytes())?;
    }
    file.flush()
}
