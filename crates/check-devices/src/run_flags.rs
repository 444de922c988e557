//! The flags that are `rust-train`'s, as it declares them: names, types, help and former names are the same here.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use flags::{BatchSize, TrainArgs};

/// What of a run decides about its layout.
const LAYOUT: &[&str] = &[
    "config",
    "batch",
    "accumulate",
    "device",
    "ranks-per-device",
    "sync-bn",
    "freeze",
    "lr",
    "loader-threads",
    "data",
    "cache",
    "output",
];

/// What of a run decides about a rank's memory.
const MEMORY: &[&str] = &["model", "image-size", "precision", "optimizer", "momentum", "zero", "ema"];

/// A flag of a run and what was typed behind it.
pub(crate) type Given = (String, String);

/// Flags of a run on the command line, as far as they were given.
macro_rules! flags_of_run {
    ($(#[$doc:meta])* $name:ident, $flags:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name(pub(crate) Vec<Given>);

        impl clap::Args for $name {
            fn augment_args(command: Command) -> Command {
                command.args(lent($flags))
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }

        impl $name {
            /// Whether the flag `name` was given.
            pub(crate) fn gives(&self, name: &str) -> bool {
                self.0.iter().any(|(known, _)| known == name)
            }
        }

        impl clap::FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(given(matches, $flags)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0 = given(matches, $flags);
                Ok(())
            }
        }
    };
}

flags_of_run!(
    /// Those that a layout depends on.
    LayoutFlags,
    LAYOUT
);
flags_of_run!(
    /// Those that a rank's memory depends on.
    MemoryFlags,
    MEMORY
);

fn lent(names: &[&str]) -> Vec<Arg> {
    let fit = |flag: Arg| match flag.get_id().as_str() {
        "batch" => flag
            .allow_negative_numbers(true)
            .value_parser(batch)
            .help("Images per step over all ranks, or auto:N. -1: one rank is to try out what fits"),
        "momentum" => flag.help("Momentum of SGD and LARS: without it they keep nothing for each weight"),
        _ => flag,
    };
    let heading = |flag: Arg| match flag.get_id().as_str() {
        "config" | "batch" | "accumulate" | "device" | "ranks-per-device" => flag.help_heading("Layout"),
        "data" | "cache" | "output" => flag.help_heading("Files"),
        _ => flag.help_heading("Training"),
    };
    flags::of_run(names).into_iter().map(fit).map(heading).collect()
}

/// A global batch as it is typed; YOLOv5's word for a batch that one process finds by itself is understood, too.
fn batch(text: &str) -> Result<String, String> {
    if text != "-1" {
        text.parse::<BatchSize>()?;
    }
    Ok(text.to_owned())
}

fn given(matches: &ArgMatches, names: &[&str]) -> Vec<Given> {
    let value = |name: &&str| {
        let id = name.replace('-', "_");
        let is_typed = matches.value_source(&id) == Some(ValueSource::CommandLine);
        let raw = matches.get_raw(&id).filter(|_| is_typed)?.next_back()?;
        Some(((*name).to_owned(), raw.to_string_lossy().into_owned()))
    };
    names.iter().filter_map(value).collect()
}

impl MemoryFlags {
    /// As a run would take them, with its defaults.
    pub(crate) fn of_a_run(&self) -> Result<TrainArgs, clap::Error> {
        let words = self.0.iter().map(|(name, value)| format!("--{name}={value}"));
        Ok(flags::Cli::of(std::iter::once("rust-train".to_owned()).chain(words))?.train)
    }
}
