//! Programs whose arguments are understood, above all their batch.

use super::launch::Launch;
use crate::origin::{Origin, Sourced};
use crate::run_flags::Given;
use shell::{Argument, Reason};

/// A training program and what it is given: by flags of this program, by its arguments, by its recipe. Each wins over
/// those behind it.
#[derive(Clone, Debug)]
pub(crate) struct Trainer<'l> {
    /// Whose flags these are.
    pub(crate) kind: TrainerKind,
    flags: Vec<Given>,
    arguments: &'l [Argument],
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

impl TrainerKind {
    /// How its arguments may call the flag that rust-train calls `name`; nothing where they mean something else by it.
    fn spellings(self, name: &str) -> Vec<String> {
        match (self, name) {
            (Self::RustTrain, _) => flags::spellings(name),
            (Self::Yolo, "batch") => ["batch-size", "batch"].map(str::to_owned).to_vec(),
            (Self::Yolo, "device" | "sync-bn") => vec![name.to_owned()],
            (Self::Yolo, _) => Vec::new(),
        }
    }
}

/// The trainer that `launch` starts, if it is one.
pub(crate) fn trainer(launch: &Launch) -> Option<Trainer<'_>> {
    let arguments = &launch.arguments[..];
    let of = |kind| Trainer { kind, flags: Vec::new(), arguments, recipe: Vec::new() };
    match launch.program_name()? {
        "rust-train" => {
            // The other verbs train nothing.
            let verb = arguments.first().and_then(Argument::known).filter(|word| !word.starts_with('-'));
            verb.is_none().then(|| of(TrainerKind::RustTrain))
        }
        "train.py" => {
            let is_given = |names: &[&str]| argument(arguments, |name| names.contains(&name)).is_some();
            (is_given(&["device"]) && is_given(&["weights", "cfg", "data"])).then(|| of(TrainerKind::Yolo))
        }
        _ => None,
    }
}

/// The value of the last flag that `is_meant` (`--name value` or `--name=value`) and where it stands.
fn argument(arguments: &[Argument], is_meant: impl Fn(&str) -> bool) -> Option<Argument> {
    let mut found = None;
    for (index, argument) in arguments.iter().enumerate() {
        let Some(flag) = argument.known().unwrap_or(&argument.start).strip_prefix("--") else { continue };
        if argument.text.is_none() {
            // `--batch=$B`: the flag is known, and its value is not.
            if flag.split_once('=').is_some_and(|(name, _)| is_meant(name)) {
                found = Some(argument.clone());
            }
            continue;
        }
        if is_meant(flag) {
            found = arguments.get(index + 1).cloned();
        } else if let Some((name, value)) = flag.split_once('=')
            && is_meant(name)
        {
            found = Some(argument.part(value));
        }
    }
    found
}

impl Trainer<'_> {
    /// A run of which no more is known than what flags of this program say.
    pub(crate) fn unknown() -> Self {
        Self { kind: TrainerKind::RustTrain, flags: Vec::new(), arguments: &[], recipe: Vec::new() }
    }

    /// The same trainer, of which flags of this program say `flags`.
    pub(crate) fn with_flags(self, flags: Vec<Given>) -> Self {
        Self { flags, ..self }
    }

    /// The same trainer, which reads a recipe.
    pub(crate) fn with_recipe(self, recipe: Vec<RecipeFlag>) -> Self {
        Self { recipe, ..self }
    }

    /// Whether it is known that nothing says the flag `name` of a run.
    pub(crate) fn lacks(&self, name: &str) -> bool {
        self.given(name).is_none() && self.argument(name).is_none() && self.of_recipe(name).is_none()
    }

    /// Whether there are words among the arguments that may be any flags: a variable or an array that is not known here and
    /// is not the value of a flag.
    pub(crate) fn has_unknown_words(&self) -> bool {
        (0..self.arguments.len()).any(|index| self.arguments[index].text.is_none() && !self.is_value(index))
    }

    /// What the flag `name` of a run is, and who says so; `None` also where that is a variable that is not known here.
    pub(crate) fn text(&self, name: &str) -> Option<Sourced<String>> {
        if let Some(value) = self.given(name) {
            return Some(Sourced::new(value.to_owned(), Origin::Flag));
        }
        match self.argument(name) {
            Some(value) => Some(Sourced::new(value.text?, Origin::Script(value.span))),
            None => {
                let flag = self.of_recipe(name)?;
                Some(Sourced::new(flag.value.clone(), Origin::Recipe(flag.place.clone())))
            }
        }
    }

    /// Why the flag `name` of a run is not known, where it is given or may be.
    pub(crate) fn why_unknown(&self, name: &str) -> Option<Reason> {
        if self.given(name).is_some() {
            return None;
        }
        match self.argument(name) {
            Some(value) if value.text.is_none() => Some(value.reason().named(&format!("--{name}"))),
            Some(_) => None,
            None => {
                let hides = |index: &usize| self.arguments[*index].text.is_none() && !self.is_value(*index);
                let word = (0..self.arguments.len()).find(hides).map(|index| &self.arguments[index]);
                // A word that starts otherwise is not this flag.
                word.filter(|word| word.start.is_empty()).map(Argument::reason)
            }
        }
    }

    /// Whether the argument is the value of the flag before it.
    fn is_value(&self, index: usize) -> bool {
        let before = index.checked_sub(1).and_then(|before| self.arguments[before].known());
        before.and_then(|text| text.strip_prefix("--")).is_some_and(flags::takes_value)
    }

    /// Whether the switch is on.
    pub(crate) fn has(&self, name: &str) -> bool {
        let spellings = self.kind.spellings(name);
        let is_bare = |argument: &Argument| {
            let flag = argument.known().and_then(|text| text.strip_prefix("--"));
            flag.is_some_and(|flag| spellings.iter().any(|known| known == flag))
        };
        match self.given(name) {
            Some(value) => value == "true",
            None if self.arguments.iter().any(is_bare) => true,
            None => self.text(name).is_some_and(|text| text.value == "true"),
        }
    }

    fn given(&self, name: &str) -> Option<&str> {
        self.flags.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn argument(&self, name: &str) -> Option<Argument> {
        let spellings = self.kind.spellings(name);
        argument(self.arguments, |flag| spellings.iter().any(|known| known == flag))
    }

    fn of_recipe(&self, name: &str) -> Option<&RecipeFlag> {
        let spellings = self.kind.spellings(name);
        self.recipe.iter().find(|flag| spellings.contains(&flag.name))
    }
}
