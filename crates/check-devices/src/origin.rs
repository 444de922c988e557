//! Where a value comes from.

use std::fmt;

use serde::Serialize;
use shell::Reason;
use source_text::{Position, Span};

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sourced<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl<T> Sourced<T> {
    pub(crate) fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    /// The place in the script, if it comes from there.
    pub(crate) fn span(&self) -> Option<Span> {
        self.origin.span()
    }
}

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A directive or a command of the script.
    Script(Span),
    /// The recipe that the script's trainer reads: `pets.toml:3`.
    Recipe(String),
    /// An environment variable.
    Environment(&'static str),
    /// A flag of this program, or an option of sbatch behind `--`.
    Flag,
    /// What holds where nothing is said.
    Default,
    /// The ranks that were asked, as MPI counts them.
    Ranks,
    /// What this machine has.
    Machine,
    /// The site file.
    Site,
    /// Worked out: how.
    Derived(&'static str),
    /// Not known, or not exactly: why.
    Unknown(Reason),
}

impl Origin {
    pub(crate) fn span(&self) -> Option<Span> {
        match self {
            Self::Script(span) => Some(*span),
            _ => None,
        }
    }

    /// For people: `train.sbatch:3`, `flag`. `script` is its path and its text.
    pub(crate) fn shown(&self, script: Option<(&str, &str)>) -> Shown {
        Shown(match (self, script) {
            (Self::Script(span), Some((path, text))) => {
                let name = path.rsplit('/').next().unwrap_or(path);
                format!("{name}:{}", Position::of(text, span.start).line)
            }
            (Self::Script(_), None) => "script".to_owned(),
            (Self::Recipe(place), _) => place.clone(),
            (Self::Environment(variable), _) => format!("env {variable}"),
            (Self::Flag, _) => "flag".to_owned(),
            (Self::Default, _) => "default".to_owned(),
            (Self::Ranks, _) => "MPI".to_owned(),
            (Self::Machine, _) => "this machine".to_owned(),
            (Self::Site, _) => "site file".to_owned(),
            (Self::Derived(how), _) => (*how).to_owned(),
            (Self::Unknown(reason), script) => in_words(reason, script),
        })
    }
}

/// A reason and its place: `$N is what a command prints, train.sbatch:6`.
pub(crate) fn in_words(reason: &Reason, script: Option<(&str, &str)>) -> String {
    match (reason.span.filter(|span| *span != Span::default()), script) {
        (Some(span), Some(script)) => format!("{}, {}", reason.text, Origin::Script(span).shown(Some(script))),
        _ => reason.text.to_string(),
    }
}

impl From<&sbatch::Origin> for Origin {
    fn from(origin: &sbatch::Origin) -> Self {
        match origin {
            sbatch::Origin::Script(span) => Self::Script(*span),
            sbatch::Origin::Environment(variable) => Self::Environment(variable),
            sbatch::Origin::CommandLine => Self::Flag,
        }
    }
}

/// An origin in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shown(String);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
