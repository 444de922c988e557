//! Programs whose arguments are understood, above all their batch.

use super::launch::Launch;
use crate::origin::{Origin, Sourced};
use crate::shell::Argument;

/// A training program and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Trainer<'l> {
    /// Whose flags these are.
    pub(crate) kind: TrainerKind,
    arguments: &'l [Argument],
    /// Flags that hold where the arguments do not say them.
    recipe: Vec<RecipeFlag>,
}

/// A flag of a recipe (`--config`).
#[derive(Clone, Debug)]
pub(crate) struct RecipeFlag {
    /// Without dashes.
    pub(crate) name: String,
    /// What would stand behind it; `true` for a switch.
    pub(crate) value: String,
    /// The recipe and the line.
    pub(crate) place: String,
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
            let trainer = Trainer { kind: TrainerKind::Yolo, arguments, recipe: Vec::new() };
            let is_yolo = trainer.value(&["device"]).is_some() && trainer.value(&["weights", "cfg", "data"]).is_some();
            return is_yolo.then_some(trainer);
        }
        _ => return None,
    };
    Some(Trainer { kind, arguments, recipe: Vec::new() })
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

    /// The same trainer, which reads a recipe.
    pub(crate) fn with_recipe(self, recipe: Vec<RecipeFlag>) -> Self {
        Self { recipe, ..self }
    }

    /// Whether it is known that neither arguments nor recipe have any of these flags.
    pub(crate) fn lacks(&self, names: &[&str]) -> bool {
        self.value(names).is_none() && self.of_recipe(names).is_none()
    }

    /// What one of these flags says, and where: an argument, else the recipe.
    pub(crate) fn text(&self, names: &[&str]) -> Option<Sourced<String>> {
        match self.value(names) {
            Some(value) => Some(Sourced::new(value.text?, Origin::Script(value.span))),
            None => {
                let flag = self.of_recipe(names)?;
                Some(Sourced::new(flag.value.clone(), Origin::Recipe(flag.place.clone())))
            }
        }
    }

    /// A number, and where it stands.
    pub(crate) fn number(&self, names: &[&str]) -> Option<Sourced<i64>> {
        let text = self.text(names)?;
        Some(Sourced::new(text.value.parse().ok()?, text.origin))
    }

    /// Whether the switch is on.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.arguments.iter().any(|argument| argument.known().and_then(|text| text.strip_prefix("--")) == Some(name))
            || self.of_recipe(&[name]).is_some_and(|flag| flag.value == "true")
    }

    fn of_recipe(&self, names: &[&str]) -> Option<&RecipeFlag> {
        self.recipe.iter().find(|flag| names.contains(&flag.name.as_str()))
    }
}
