//! Names of flags and of their values: today's, and those that they had before, which go on working.

use std::sync::LazyLock;

use clap::{Arg, Command};

/// The command line, made once: a preflight asks for many flags.
static COMMAND: LazyLock<Command> = LazyLock::new(crate::command);

/// The flag of a run that is called `name` in `command`, today or formerly.
pub fn find<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    let is_called = |flag: &&Arg| {
        flag.get_long() == Some(name) || flag.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    };
    command.get_arguments().find(is_called)
}

/// All names of the flag of a run that is called `name` today, that one first.
pub fn spellings(name: &str) -> Vec<String> {
    let former = |flag: &Arg| flag.get_all_aliases().unwrap_or_default().into_iter().map(str::to_owned).collect();
    let former: Vec<_> = find(&COMMAND, name).map(former).unwrap_or_default();
    std::iter::once(name.to_owned()).chain(former).collect()
}

/// Whether a word follows the flag `name` of a run, as its value.
pub fn takes_value(name: &str) -> bool {
    let is_switch = |flag: &Arg| flag.is_require_equals_set();
    find(&COMMAND, name).is_some_and(|flag| flag.get_action().takes_values() && !is_switch(flag))
}

/// What a run takes for the flag `name` where it is left out, as it would be typed.
pub fn default_of(name: &str) -> Option<String> {
    let default = find(&COMMAND, name)?.get_default_values().first()?;
    default.to_str().map(str::to_owned)
}

/// The flags of a run that are called `names`, without their defaults: for a program that judges a run, and must know what
/// was said.
///
/// # Panics
/// Where a run has no such flag.
pub fn of_run(names: &[&str]) -> Vec<Arg> {
    let flag = |name: &&str| {
        let flag = find(&COMMAND, name).unwrap_or_else(|| panic!("a run has no --{name}"));
        flag.clone().default_value(None::<&str>)
    };
    names.iter().map(flag).collect()
}

/// A run's flags as they were written down, some time ago perhaps, with today's names of flags and values.
pub fn modernize(table: toml::Table) -> toml::Table {
    let modern = |(key, value): (String, toml::Value)| {
        let Some(flag) = find(&COMMAND, &key) else { return (key, value) };
        let known = flag.get_possible_values();
        let value = match value {
            toml::Value::String(text) => {
                let today = known.iter().find(|known| known.matches(&text, false));
                toml::Value::String(today.map_or(text, |known| known.get_name().to_owned()))
            }
            other => other,
        };
        (flag.get_long().map_or(key, str::to_owned), value)
    };
    table.into_iter().map(modern).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cli;

    #[test]
    fn every_former_name_means_what_today_s_does() {
        let cases = [
            ("--clip-norm 2", "--clip-grad-norm 2"),
            ("--no-decay-on-vectors", "--no-norm-decay"),
            ("--no-decay-on-vectors=false", "--no-norm-decay=false"),
            ("--precision single", "--precision fp32"),
            ("--accumulation 4", "--accumulate 4"),
            ("--opt lamb", "--optimizer lamb"),
            ("--amp bf16", "--precision bf16"),
            ("--amp off", "--precision fp32"),
        ];
        let table = |flags: &str| {
            let words = std::iter::once("rust-train").chain(flags.split_whitespace());
            toml::Table::try_from(Cli::of(words).unwrap().train).unwrap()
        };
        for (former, today) in cases {
            assert_eq!(table(former), table(today), "{former}");
        }
    }

    #[test]
    fn what_was_written_down_is_read_with_today_s_names() {
        let then = "clip-norm = 1.0\nprecision = 'single'\nno-decay-on-vectors = true\nlr = 0.1\nunheard-of = 3";
        let now = "clip-grad-norm = 1.0\nprecision = 'fp32'\nno-norm-decay = true\nlr = 0.1\nunheard-of = 3";
        let [then, now]: [toml::Table; 2] = [then, now].map(|text| text.parse().unwrap());
        assert_eq!(modernize(then), now);
        assert_eq!(modernize(now.clone()), now);
    }

    #[test]
    fn flags_of_a_run_are_lent_without_their_defaults() {
        let command = Command::new("judge").args(of_run(&["batch", "precision", "zero"]));
        let matches = command.try_get_matches_from(["judge", "--amp", "fp16"]).unwrap();
        assert!(!matches.contains_id("batch") && !matches.contains_id("zero"));
        assert_eq!(matches.get_one("precision"), Some(&crate::PrecisionKind::Fp16));
        assert_eq!((default_of("batch").as_deref(), default_of("image-size")), (Some("64"), None));
        assert_eq!(spellings("accumulate"), ["accumulate", "accumulation"]);
    }
}
