//! Hashes of what each step computed (`--record-bits`): where two runs that are to be the same first differ, they tell.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The file in a run's folder.
pub(crate) const FILE: &str = "bits.jsonl";

/// What was computed in a step of one part of the batch; or, without a part, what the weights were after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BitsLine {
    /// Steps of the run before it.
    pub step: usize,
    /// Among the parts of all ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<usize>,
    /// By name, in the order in which it was computed.
    pub hashes: Vec<(String, String)>,
}

impl BitsLine {
    /// Of tensors by their names.
    pub(crate) fn new<'t>(
        step: usize,
        part: Option<usize>,
        tensors: impl IntoIterator<Item = (String, &'t Tensor)>,
    ) -> Self {
        Self { step, part, hashes: tensors.into_iter().map(|(name, tensor)| (name, hash(tensor))).collect() }
    }

    /// The lines of the run in `folder`; `None` where it recorded none.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Option<Vec<Self>>> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| path.display().to_string())?,
        };
        // A job that was killed may have cut off the last line.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let parsed = lines.enumerate().map(|(index, line)| {
            serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), index + 1))
        });
        parsed.collect::<anyhow::Result<_>>().map(Some)
    }
}

/// What tells one model from another: a hash of all of its tensors and their names.
pub(crate) fn digest<'t>(tensors: impl IntoIterator<Item = (String, &'t Tensor)>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, hash) in BitsLine::new(0, None, tensors).hashes {
        hasher.update(format!("{name} {hash}\n").as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// The first half of BLAKE3 of the elements in their logical order, in hexadecimal digits.
fn hash(tensor: &Tensor) -> String {
    let hash = blake3::hash(backbones::from_torch(tensor).bytes());
    hash.to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_of_elements_in_their_logical_order() {
        let image = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([2, 3]);
        let transposed = image.tr().contiguous().tr();
        assert_eq!(hash(&image), hash(&transposed));
        let swapped = Tensor::from_slice(&[2.0_f32, 1.0, 3.0, 4.0, 5.0, 6.0]).view([2, 3]);
        assert_ne!(hash(&image), hash(&swapped));
        assert_ne!(hash(&Tensor::from(0.0_f32)), hash(&Tensor::from(-0.0_f32)), "bits, not values");
    }

    #[test]
    fn what_was_written_is_read_but_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(BitsLine::read(folder.path()).unwrap(), None);
        let loss = Tensor::from(1.5_f32);
        let lines = [
            BitsLine::new(0, Some(3), [("loss".to_owned(), &loss)]),
            BitsLine::new(0, None, [("w".to_owned(), &loss)]),
        ];
        let text = lines.each_ref().map(|line| serde_json::to_string(line).unwrap()).join("\n");
        let path = folder.path().join(FILE);
        std::fs::write(&path, format!("{text}\n{{\"step\":1,\"ha")).unwrap();
        assert_eq!(BitsLine::read(folder.path()).unwrap().unwrap(), lines);
        std::fs::write(&path, format!("{text}\nnot JSON\n")).unwrap();
        assert!(format!("{:#}", BitsLine::read(folder.path()).unwrap_err()).contains("bits.jsonl, line 3"));
    }
}
