//! What the values of options mean, read as Slurm reads them.

mod array;
mod gres;
mod keyword;
mod memory;
mod nodes;
mod number;
mod signal;
mod time;

pub use array::ArrayIndices;
pub use gres::{GpuCount, Gres, GresItem};
pub use memory::Memory;
pub use nodes::NodeCount;
pub use number::{Count, Number};
pub use signal::SignalRequest;
pub use time::TimeLimit;

/// A value that Slurm refuses: what was meant to be read, the text, and what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no {what}: {expected}")]
pub struct ValueError {
    /// What was to be read: `node count`.
    pub what: &'static str,
    /// The text.
    pub text: String,
    /// What is accepted.
    pub expected: &'static str,
}

impl ValueError {
    fn new(what: &'static str, text: &str, expected: &'static str) -> Self {
        Self { what, text: text.to_owned(), expected }
    }
}

/// What the value of an option looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Any text, or a form that is not judged here.
    Text,
    /// An integer of at least 1.
    Count,
    /// An integer of at least 0.
    Number,
    /// 0 or 1.
    ZeroOrOne,
    /// [`NodeCount`].
    Nodes,
    /// [`Memory`].
    Memory,
    /// [`TimeLimit`].
    Time,
    /// [`SignalRequest`].
    Signal,
    /// [`Gres`].
    Gres,
    /// [`GpuCount`].
    Gpus,
    /// [`ArrayIndices`].
    Array,
    /// `exclusive`, `user`, `mcs`, `topo`…
    Exclusive,
    /// Nothing, or `expedite`.
    Requeue,
    /// `append` or `truncate`.
    OpenMode,
    /// Nothing, `set`, `off` or `no`.
    NoKill,
    /// A list of events.
    MailType,
}

impl Kind {
    /// Whether Slurm accepts `text` as a value of this kind.
    ///
    /// # Errors
    /// What is accepted instead.
    pub fn validate(self, text: &str) -> Result<(), ValueError> {
        fn read<T: std::str::FromStr<Err = ValueError>>(text: &str) -> Result<(), ValueError> {
            text.parse::<T>().map(drop)
        }
        match self {
            Self::Text => Ok(()),
            Self::Count => read::<Count>(text),
            Self::Number => read::<Number>(text),
            Self::ZeroOrOne => match text.parse::<Number>()? {
                Number(0 | 1) => Ok(()),
                _ => Err(ValueError::new("switch", text, "use 0 or 1")),
            },
            Self::Nodes => read::<NodeCount>(text),
            Self::Memory => read::<Memory>(text),
            Self::Time => read::<TimeLimit>(text),
            Self::Signal => read::<SignalRequest>(text),
            Self::Gres => read::<Gres>(text),
            Self::Gpus => read::<GpuCount>(text),
            Self::Array => read::<ArrayIndices>(text),
            Self::Exclusive => keyword::exclusive(text),
            Self::Requeue => keyword::requeue(text),
            Self::OpenMode => keyword::open_mode(text),
            Self::NoKill => keyword::no_kill(text),
            Self::MailType => keyword::mail_type(text),
        }
    }
}
