//! Programs whose arguments are understood, above all their batch.

use sbatch::Span;

use super::launch::Launch;
use crate::shell::Argument;

/// A training program and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Trainer<'l> {
    /// Whose flags these are.
    pub(crate) kind: TrainerKind,
    arguments: &'l [Argument],
}

/// Programs with the flags that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrainerKind {
    /// This project's.
    RustTrain,
    /// YOLOv5's `train.py`: `--batch-size` over all ranks, `--device`.
    Yolo,
}

/// The trainer that `launch` starts, if it is one.
pub(crate) fn trainer(launch: &Launch) -> Option<Trainer<'_>> {
    let arguments = &launch.arguments[..];
    let kind = match launch.program_name()? {
        "rust-train" => {
            // The other verbs train nothing.
            let verb = arguments.first().and_then(Argument::known).filter(|word| !word.starts_with('-'));
            if verb.is_some() {
                return None;
            }
            TrainerKind::RustTrain
        }
        "train.py" => {
            let trainer = Trainer { kind: TrainerKind::Yolo, arguments };
            let is_yolo = trainer.value(&["device"]).is_some() && trainer.value(&["weights", "cfg", "data"]).is_some();
            return is_yolo.then_some(trainer);
        }
        _ => return None,
    };
    Some(Trainer { kind, arguments })
}

impl Trainer<'_> {
    /// The value of the last of these flags (`--name value` or `--name=value`) and where it stands.
    pub(crate) fn value(&self, names: &[&str]) -> Option<Argument> {
        let mut found = None;
        for (index, argument) in self.arguments.iter().enumerate() {
            let Some(flag) = argument.known().and_then(|text| text.strip_prefix("--")) else { continue };
            if names.contains(&flag) {
                found = self.arguments.get(index + 1).cloned();
            } else if let Some((name, value)) = flag.split_once('=')
                && names.contains(&name)
            {
                found = Some(Argument { text: Some(value.to_owned()), ..argument.clone() });
            }
        }
        found
    }

    /// A number, and where it stands.
    pub(crate) fn number(&self, names: &[&str]) -> Option<(i64, Span)> {
        let value = self.value(names)?;
        Some((value.known()?.parse().ok()?, value.span))
    }

    /// Whether the flag is given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.arguments.iter().any(|argument| argument.known().and_then(|text| text.strip_prefix("--")) == Some(name))
    }
}
