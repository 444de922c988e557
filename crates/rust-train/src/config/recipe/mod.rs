//! Recipes: the flags of a run in a TOML file. Its keys are the flags' names, and its values what would stand behind them.
//!
//! ```text
//! recipe, rank 0 reads it ─> entries ─┬─> arguments ─> clap ─> flags ─> Plan ─> plan.toml, which is a recipe
//! command line ───────────────────────┘   (what the command line says, or excludes, is left out)
//! ```
//!
//! So a value of a file is parsed and validated by what parses and validates it on the command line.

mod plan_file;
mod value;

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use flags::{Cli, NotInRecipe, command};
use world::{Failure, World};

use crate::errors::{agree, usage};

pub(crate) use plan_file::{PLAN_FILE, data_name, mathematics, path_of, portable, read_mathematics, save, summary};
use value::word;

/// A recipe as it was read.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// What the user calls it.
    name: String,
    /// In the order of their lines.
    entries: Vec<Entry>,
}

/// One line of a recipe.
#[derive(Debug)]
struct Entry {
    /// The flag's name of today, without dashes.
    key: String,
    line: usize,
    /// What would stand behind the flag; `None` where that is the same as leaving it out.
    value: Option<String>,
}

impl Recipe {
    /// Reads the recipe at `path`, or the one inside the program that is called so. Collective: rank 0 reads it.
    pub(crate) fn fetch(world: &World, path: &Path) -> anyhow::Result<Self> {
        let bytes = world.from_rank_zero("reading the recipe", || {
            recipes::read(path).map(String::into_bytes).map_err(|reason| Failure::usage(format!("--config {reason}")))
        })?;
        let text = String::from_utf8(bytes).context("the recipe arrived damaged")?;
        agree(world, Self::parse(&path.display().to_string(), &text))
    }

    /// Understands `text`, the recipe that is called `name`.
    pub(crate) fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let command = command();
        let mut entries = Vec::new();
        for recipes::Entry { key, line, value } in recipes::entries(name, text).map_err(usage)? {
            let entry = flag(&command, &key).and_then(|flag| {
                let key = flag.get_long().unwrap_or(&key).to_owned();
                Ok(Entry { key, line, value: word(flag, &value)? })
            });
            entries.push(entry.map_err(|reason| usage(format!("{name}:{line}: {key}: {reason}")))?);
        }
        Ok(Self { name: name.to_owned(), entries })
    }

    /// What this recipe and the command line say, `arguments`, which wins.
    pub(crate) fn complete(&self, arguments: &[OsString]) -> anyhow::Result<Cli> {
        let mut command = command();
        command.build();
        let typed = command.clone().try_get_matches_from(arguments)?;
        // The flags of a verb stand behind its name.
        let (command, typed, first) = match typed.subcommand() {
            None => (&command, &typed, 1),
            Some((verb, typed)) => (command.find_subcommand(verb).context("a verb that clap knows")?, typed, 2),
        };
        let mut all: Vec<OsString> = arguments.iter().take(first).cloned().collect();
        for Entry { key, value, .. } in &self.entries {
            if let (Some(value), Ok(flag)) = (value, flag(command, key))
                && !is_overruled(command, flag, typed)
            {
                all.push(format!("--{key}={value}").into());
            }
        }
        all.extend(arguments.iter().skip(first).cloned());
        Cli::of(all).map_err(|error| self.refused(&error))
    }

    /// clap's words in one line, with the place of what they are about.
    fn refused(&self, error: &clap::Error) -> anyhow::Error {
        let text = error.to_string();
        let words = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let about = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(flag)) => flag.as_str(),
            Some(ContextValue::Strings(flags)) => flags.first().map_or("", String::as_str),
            _ => "",
        };
        usage(format!("{}: {words}", self.place(about).unwrap_or_else(|| self.name.clone())))
    }

    /// Puts the place in front of an error about a flag (`--lr nan: must be …`) that stands in this recipe.
    pub(crate) fn locate(&self, mut error: anyhow::Error, arguments: &[OsString]) -> anyhow::Error {
        if let Some(world::Error::Agreed(verdict)) = error.downcast_mut() {
            let message = &mut verdict.failure.message;
            if let Some(place) = self.place(message).filter(|_| !is_typed(message, arguments)) {
                *message = format!("{place}: {message}");
            }
        }
        error
    }

    /// Where the flag stands that `text` begins with: `FILE:LINE`.
    fn place(&self, text: &str) -> Option<String> {
        let key = key_of(text)?;
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(format!("{}:{}", self.name, entry.line))
    }
}

/// The flag that `text` begins with, `--lr 3: …`, without its dashes.
fn key_of(text: &str) -> Option<&str> {
    text.strip_prefix("--")?.split([' ', ':', '=']).next()
}

/// Whether the flag that `text` begins with stands in `arguments`.
fn is_typed(text: &str, arguments: &[OsString]) -> bool {
    let names = key_of(text).map(flags::spellings).unwrap_or_default();
    arguments.iter().filter_map(|argument| key_of(argument.to_str()?)).any(|key| names.iter().any(|name| name == key))
}

/// The flag that a key names.
fn flag<'c>(command: &'c Command, key: &str) -> Result<&'c Arg, String> {
    let find = |name: &str| flags::find(command, name).filter(|flag| is_of_run(flag));
    match (find(key), find(&key.replace('_', "-"))) {
        (Some(flag), _) => flag.get::<NotInRecipe>().map_or(Ok(flag), |NotInRecipe(reason)| Err((*reason).to_owned())),
        (None, Some(_)) => Err(format!("is written {}", key.replace('_', "-"))),
        (None, None) => {
            let meant = suggest::did_you_mean(key, flags_of_run(command).filter_map(Arg::get_long));
            Err(format!("is not a flag of a training run; `rust-train --help` lists them{meant}"))
        }
    }
}

/// The flags of a run.
fn flags_of_run(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|flag| is_of_run(flag))
}

fn is_of_run(flag: &Arg) -> bool {
    !matches!(flag.get_id().as_str(), "help" | "version")
}

/// Whether the command line says `flag`, or another one that excludes it.
fn is_overruled(command: &Command, flag: &Arg, typed: &ArgMatches) -> bool {
    let is_typed = |flag: &Arg| typed.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine);
    let excludes = |one: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(one).iter().any(|excluded| excluded.get_id() == other.get_id())
    };
    flags_of_run(command)
        .filter(|other| is_typed(other))
        .any(|other| other.get_id() == flag.get_id() || excludes(flag, other) || excludes(other, flag))
}

#[cfg(test)]
mod tests;
