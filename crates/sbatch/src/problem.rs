//! What `sbatch` refuses in a script.

use source_text::Span;

/// One thing that makes `sbatch` fail, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is.
    pub kind: ProblemKind,
    /// Where it is.
    pub span: Span,
}

/// Why `sbatch` fails, in its own terms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// The script has no characters, or only white space.
    #[error("the script is empty")]
    Empty,
    /// The first two bytes are not `#!`.
    #[error("the first line must be #! and the path of an interpreter, such as #!/bin/bash")]
    NoShebang,
    /// A NUL byte.
    #[error("the script contains a NUL character, which the Slurm controller does not allow")]
    Nul,
    /// A line that ends in CR LF.
    #[error("the script has DOS line breaks (CR LF)")]
    DosLineBreak,
    /// A quote that its line does not close.
    #[error("unmatched {quote} in a directive")]
    UnmatchedQuote {
        /// The quote.
        quote: char,
    },
    /// A word of a directive starts with a colon.
    #[error("unexpected ':' in a directive")]
    UnexpectedColon,
    /// A word that is no option and no option's value.
    #[error("'{text}' is not an option: sbatch stops with \"Invalid directive found in batch script\"")]
    StrayToken {
        /// The word.
        text: String,
    },
    /// No option of sbatch has this name. A SPANK plugin of the site may define it.
    #[error("sbatch has no option '{name}'")]
    UnknownOption {
        /// As spelled, with its dashes.
        name: String,
    },
    /// A shortened name that fits several options.
    #[error("option '{name}' is ambiguous: {}", .candidates.iter().map(|name| format!("--{name}")).collect::<Vec<_>>().join(", "))]
    AmbiguousOption {
        /// As spelled, with its dashes.
        name: String,
        /// The options that it fits.
        candidates: Vec<&'static str>,
    },
    /// The option wants a value and the script ends first.
    #[error("option '{name}' requires a value")]
    MissingArgument {
        /// As spelled, with its dashes.
        name: String,
    },
    /// A value for an option that takes none.
    #[error("option '--{name}' takes no value")]
    UnexpectedArgument {
        /// The option's full name.
        name: &'static str,
    },
}
