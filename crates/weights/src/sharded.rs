//! Weights in several files, as Hugging Face's libraries write large ones: an index (`model.safetensors.index.json`,
//! `pytorch_model.bin.index.json`) says which tensor lies in which file beside it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

use archives::quote;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::limits::{LONGEST_JSON, MOST_TENSORS};
use crate::state_dict::StateDict;

/// What Hugging Face's libraries and timm call the file of a model's weights, the first that is there: one file before several, and
/// safetensors before pickles.
pub const USUAL_NAMES: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Whether a file begins like an index: with an object of JSON, and not with the length of a safetensors file's header, whose first
/// byte may be any.
pub(crate) fn is_index(start: &[u8]) -> bool {
    start.trim_ascii_start().first() == Some(&b'{') && !start[..start.len().min(8)].contains(&0)
}

/// The files that the index in `text` names, each once, in their order.
///
/// # Errors
/// What is wrong with the index.
pub fn files_of_index(text: &[u8]) -> std::result::Result<Vec<String>, String> {
    let mut files: Vec<_> = tensors_of_index(text)?.into_iter().map(|(_, file)| file).collect();
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

/// Which tensor lies in which file, in the index's order.
fn tensors_of_index(text: &[u8]) -> std::result::Result<Vec<(String, String)>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: Option<Places>,
    }
    if text.len() > LONGEST_JSON {
        return Err(format!("is longer than {LONGEST_JSON} bytes, which no index of weights is"));
    }
    let index: Index = serde_json::from_slice(text)
        .map_err(|error| format!("is no index of weights: {}", quote(&error.to_string())))?;
    match index.weight_map {
        Some(Places(places)) if !places.is_empty() => Ok(places),
        Some(_) => Err("is an index without a tensor in its weight_map".to_owned()),
        None => Err("is JSON, but no index of weights: it has no weight_map; name the file of the weights".to_owned()),
    }
}

/// The pairs of `weight_map`: no tensor twice, not too many, all in files beside the index.
struct Places(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Places {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Places;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors and their files")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Places, A::Error> {
                let mut places: Vec<(String, String)> = Vec::new();
                while let Some((tensor, file)) = map.next_entry::<String, String>()? {
                    if places.len() == MOST_TENSORS {
                        return Err(A::Error::custom(format!(
                            "more than {MOST_TENSORS} tensors, which no network has"
                        )));
                    }
                    if file.is_empty() || file.starts_with('.') || file.contains(['/', '\\', '\0']) {
                        let (tensor, file) = (quote(&tensor), quote(&file));
                        return Err(A::Error::custom(format!("{tensor} is in {file}, which is no file beside it")));
                    }
                    places.push((tensor, file));
                }
                Ok(Places(places))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The tensors that the index in `text` names, which lies at `path`; `read` reads one of its files. What lies in these files beside
/// them is left.
pub(crate) fn read(path: &Path, text: &[u8], read: impl Fn(&Path) -> Result<StateDict>) -> Result<StateDict> {
    let refused = |reason: String| Error::Refused { path: path.to_owned(), reason };
    let folder = path.parent().unwrap_or(Path::new(""));
    let places = tensors_of_index(text).map_err(refused)?;
    let files = files_of_index(text).map_err(refused)?;
    let mut parts = HashMap::new();
    let mut metadata = BTreeMap::new();
    for (number, file) in files.iter().enumerate() {
        let part = folder.join(file);
        if !part.exists() {
            let (number, all, file) = (number + 1, files.len(), quote(file));
            return Err(refused(format!("{file}, file {number} of the {all} that it names, is not beside it")));
        }
        let part = read(&part)?;
        metadata.extend(part.metadata().clone());
        parts.insert(file, part.into_entries().into_iter().collect::<HashMap<_, _>>());
    }
    let mut entries = Vec::with_capacity(places.len());
    for (tensor, file) in &places {
        let found = parts.get_mut(file).and_then(|part| part.remove(tensor));
        let found = found.ok_or_else(|| {
            refused(format!("{} is not in {}, where it should be, or is named twice", quote(tensor), quote(file)))
        })?;
        entries.push((tensor.clone(), found));
    }
    Ok(StateDict::new(entries).map_err(refused)?.with_metadata(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bytes, Dtype, Tensor, read, write_safetensors};

    fn tensor(value: f32) -> Tensor {
        Tensor::new(Dtype::F32, vec![1], Bytes::new(value.to_le_bytes().to_vec()), 0..4).unwrap()
    }

    #[test]
    fn a_header_of_any_length_is_no_index() {
        let start = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
        assert!(!is_index(&start(u64::from(b'{'))) && !is_index(&start(0x227b)) && !is_index(b""));
        assert!(is_index(b"{") && is_index(b"\n {\"weight_map\""));
    }

    #[test]
    fn parts_are_one_and_each_fault_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let part = |name: &str, tensors: &[(&str, f32)]| {
            let entries: Vec<_> = tensors.iter().map(|&(name, value)| (name.to_owned(), tensor(value))).collect();
            write_safetensors(&at(name), &entries, &BTreeMap::new()).unwrap();
        };
        part("m-1-of-2.safetensors", &[("module.b", 2.0), ("module.beside", 9.0)]);
        part("m-2-of-2.safetensors", &[("module.a", 1.0)]);
        let index = at("model.safetensors.index.json");
        let both = r#" {"metadata": {"total_size": 8}, "weight_map":
            {"module.a": "m-2-of-2.safetensors", "module.b": "m-1-of-2.safetensors"}}"#;
        std::fs::write(&index, both).unwrap();
        let found = read(&index).unwrap();
        let names: Vec<_> = found.entries().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"], "in the index's order, without what stands before all");
        assert_eq!(files_of_index(both.as_bytes()).unwrap(), ["m-1-of-2.safetensors", "m-2-of-2.safetensors"]);

        let cases = [
            (r#"{"weight_map": {"a": "gone.safetensors"}}"#, "gone.safetensors, file 1 of the 1 that it names, is not"),
            (r#"{"weight_map": {"x": "m-1-of-2.safetensors"}}"#, "x is not in m-1-of-2.safetensors"),
            (
                r#"{"weight_map": {"module.a": "m-2-of-2.safetensors", "module.a": "m-2-of-2.safetensors"}}"#,
                "named twice",
            ),
            (r#"{"weight_map": {"a": "../m-1-of-2.safetensors"}}"#, "no file beside it"),
            (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "no file beside it"),
            (r#"{"weight_map": {}}"#, "without a tensor"),
            (r#"{"architectures": ["ResNet"]}"#, "no weight_map"),
            (r#"{"weight_map": {"a": 1}}"#, "is no index of weights"),
            ("{", "is no index of weights"),
        ];
        for (text, words) in cases {
            std::fs::write(&index, text).unwrap();
            let error = read(&index).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("index.json: "), "{text}: {error}");
        }
    }
}
