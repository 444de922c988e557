//! The verbs `completions` and `man`: what shells and manuals know of the command line.

use clap_complete::{Shell as Known, generate};
use flags::{CompletionsArgs, ManArgs, Shell, command};

use crate::errors::usage;
use crate::observe::stdout::print;

/// Prints the completions of a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let shell = match args.shell {
        Shell::Bash => Known::Bash,
        Shell::Zsh => Known::Zsh,
        Shell::Fish => Known::Fish,
    };
    let mut text = Vec::new();
    generate(shell, &mut command(), "rust-train", &mut text);
    print(&String::from_utf8(text)?)?;
    Ok(())
}

/// Writes the manual pages.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<()> {
    let refused = |error: std::io::Error| usage(format!("{}: {error}", args.folder.display()));
    std::fs::create_dir_all(&args.folder).map_err(refused)?;
    clap_mangen::generate_to(command().disable_help_subcommand(true), &args.folder).map_err(refused)
}
