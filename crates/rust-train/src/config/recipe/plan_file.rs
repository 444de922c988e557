//! The flags of a run as a recipe: `plan.toml`, and what a run that goes on must have again.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use crate::config::args::{Cli, TrainArgs, command};
use crate::errors::usage;
use crate::files;

/// Flags of one run rather than of what is trained: `plan.toml` leaves them out, so that it can be the recipe of the next.
pub(super) const OF_ONE_RUN: [&str; 8] =
    ["allow-changed-plan", "config", "eval-only", "output", "resume", "time-limit", "timeout", "trace"];

/// Flags that a run may change when it goes on: where and how fast, but not what is computed. Every other flag changes the
/// mathematics.
pub(super) const FREE_TO_CHANGE: [&str; 25] = [
    "allow-changed-plan",
    "attempts",
    "bucket-mb",
    "cache",
    "cache-scope",
    "channels-last",
    "checkpoint-steps",
    "compare-replicas",
    "config",
    "device",
    "eval-only",
    "keep-checkpoints",
    "loader-threads",
    "offline",
    "on-nan",
    "output",
    "resume",
    "stall-timeout",
    "store",
    "tf32",
    "time-limit",
    "timeout",
    "trace",
    "watchdog",
    "zero",
];

/// The recipe of a run, in its folder.
pub(crate) const PLAN_FILE: &str = "plan.toml";

/// The flags as a table: what a recipe says. Flags without a value are not in it.
///
/// # Errors
/// What TOML cannot hold: a number that is too large, or a path that is not UTF-8.
pub(crate) fn table(flags: &TrainArgs) -> anyhow::Result<toml::Table> {
    toml::Table::try_from(flags).map_err(|error| unwritable(flags, &error))
}

/// Why the flags are no TOML.
fn unwritable(flags: &TrainArgs, error: &toml::ser::Error) -> anyhow::Error {
    let largest = i64::MAX.unsigned_abs();
    let is_too_large = |value: &Value| value.as_u64().is_some_and(|number| number > largest);
    let are_too_large = |value: &Value| value.as_array().is_some_and(|values| values.iter().any(is_too_large));
    let flags = serde_json::to_value(flags).unwrap_or_default(); // fails on the path alone
    let mut flags = flags.as_object().into_iter().flatten();
    if let Some((key, value)) = flags.find(|(_, value)| is_too_large(value) || are_too_large(value)) {
        return usage(format!("--{key} {value}: must be at most {largest}"));
    }
    usage(format!(
        "the flags of a run are kept in {PLAN_FILE}, and one of them cannot be written there: {error}; give a link with \
         another name"
    ))
}

/// The flags that decide about the result: what a run that goes on must have again.
pub(crate) fn mathematics(flags: &TrainArgs) -> anyhow::Result<toml::Table> {
    let mut table = table(flags)?;
    table.retain(|key, _| !FREE_TO_CHANGE.contains(&key));
    Ok(table)
}

/// The same, of the run in `folder`, as far as its recipe can be read.
pub(crate) fn read_mathematics(folder: &Path) -> Option<toml::Table> {
    let mut table: toml::Table = std::fs::read_to_string(folder.join(PLAN_FILE)).ok()?.parse().ok()?;
    table.retain(|key, _| !FREE_TO_CHANGE.contains(&key));
    Some(table)
}

/// The recipe that gives `flags` again, in the order of the help. What belongs to one run alone is left out.
pub(crate) fn render(flags: &TrainArgs) -> anyhow::Result<String> {
    let table = table(flags)?;
    let mut text = "# Every flag of this run. `rust-train --config` takes this file.\n".to_owned();
    let mut heading = None;
    for (flag, key) in super::flags(&command()).filter_map(|flag| Some((flag, flag.get_long()?))) {
        let Some(value) = table.get(key).filter(|_| !OF_ONE_RUN.contains(&key)) else { continue };
        if heading.as_deref() != flag.get_help_heading() {
            heading = flag.get_help_heading().map(str::to_owned);
            write!(text, "\n# {}\n", heading.as_deref().unwrap_or_default())?;
        }
        writeln!(text, "{key} = {value}")?;
    }
    Ok(text)
}

/// Writes the recipe that gives `flags` again into the folder of their run.
pub(crate) fn save(flags: &TrainArgs, folder: &Path) -> anyhow::Result<()> {
    let text = render(flags)?;
    files::write_whole(&folder.join(PLAN_FILE), |file| Ok(std::fs::write(file, text)?))
}

/// What is not as it would be without any flag, in one line: "lr 0.4, schedule one-cycle".
pub(crate) fn summary(flags: &TrainArgs) -> String {
    let said = |flags: &TrainArgs| table(flags).unwrap_or_default();
    let mut usual = Cli::of(["rust-train"]).map_or_else(|_| toml::Table::new(), |cli| said(&cli.train));
    usual.insert("nesterov".to_owned(), true.into()); // what follows from the usual momentum
    let flags = said(flags);
    let words = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let unusual =
        flags.iter().filter(|(key, value)| usual.get(*key) != Some(value) && !OF_ONE_RUN.contains(&key.as_str()));
    unusual.map(|(key, value)| format!("{key} {}", words(value))).collect::<Vec<_>>().join(", ")
}
