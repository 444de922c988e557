//! The flags of the verbs about the command line itself.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The flags of `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Zsh
    Zsh,
    /// Fish
    Fish,
}

/// The flags of `man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// Folder for the pages: a folder man1 of $MANPATH
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
