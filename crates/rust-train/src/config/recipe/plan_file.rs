//! The flags of a run as a recipe: `plan.toml`, and what a run that goes on must have again.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Arg;
use flags::{Cli, Scope, TrainArgs, command};
use serde_json::Value;

use crate::errors::usage;
use crate::files;

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

/// The flags that decide about the result: what a run that resumes must have again.
pub(crate) fn mathematics(flags: &TrainArgs) -> anyhow::Result<toml::Table> {
    Ok(of_result(table(flags)?))
}

/// The same, of the run in `folder`, as far as its recipe can be read.
pub(crate) fn read_mathematics(folder: &Path) -> Option<toml::Table> {
    std::fs::read_to_string(folder.join(PLAN_FILE)).ok()?.parse().ok().map(flags::modernize).map(of_result)
}

/// The path that the run in `folder` has for this flag: of `data`, `None` for the images inside the program. One that is relative
/// is looked for where the run was started, too.
///
/// # Errors
/// A run whose plan cannot be read.
pub(crate) fn path_of(folder: &Path, flag: &str) -> anyhow::Result<Option<PathBuf>> {
    let path = folder.join(PLAN_FILE);
    let refused =
        |error: &dyn std::fmt::Display| usage(format!("{}: {error}; name the images with --data", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| refused(&error))?;
    let table: toml::Table = text.parse().map_err(|error| refused(&error))?;
    let Some(data) = table.get(flag).and_then(toml::Value::as_str).map(PathBuf::from) else { return Ok(None) };
    if data.exists() {
        return Ok(Some(data));
    }
    let environment = report::Run::read(folder).map(|run| run.environment).unwrap_or_default();
    let elsewhere = environment.sessions.iter().map(|session| Path::new(&session.directory).join(&data));
    Ok(Some(elsewhere.into_iter().find(|path| path.exists()).unwrap_or(data)))
}

/// What the images of the run in `folder` are called.
pub(crate) fn data_name(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join(PLAN_FILE)).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    let path = ["data", "table"].iter().find_map(|flag| table.get(*flag)?.as_str()).map(Path::new);
    let name = path.map(|path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned());
    name.unwrap_or_else(|| "digits".to_owned())
}

/// What of a table decides about the result. A flag that this program does not know may.
fn of_result(mut table: toml::Table) -> toml::Table {
    let command = command();
    for flag in super::flags_of_run(&command).filter(|flag| Scope::of(flag) != Scope::Result) {
        flag.get_long().map(|key| table.remove(key));
    }
    table
}

/// What of `mathematics` means the same on every machine: all but paths.
pub(crate) fn portable(mathematics: toml::Table) -> BTreeMap<String, Value> {
    let command = command();
    let is_path = |flag: &Arg| flag.get_value_parser().type_id() == TypeId::of::<PathBuf>();
    let paths: Vec<_> = super::flags_of_run(&command).filter(|flag| is_path(flag)).filter_map(Arg::get_long).collect();
    let is_url = |value: &toml::Value| value.as_str().is_some_and(|value| value.contains("://"));
    let stays = |key: &str, value: &toml::Value| !paths.contains(&key) && (key != "weights" || is_url(value));
    let kept = mathematics.into_iter().filter(|(key, value)| stays(key, value));
    kept.filter_map(|(key, value)| Some((key, serde_json::to_value(value).ok()?))).collect()
}

/// The recipe that gives `flags` again, in the order of the help. What belongs to one run alone is left out.
pub(crate) fn render(flags: &TrainArgs) -> anyhow::Result<String> {
    let table = table(flags)?;
    let mut text = "# Every flag of this run. `rust-train --config` takes this file.\n".to_owned();
    let mut heading = None;
    for (flag, key) in super::flags_of_run(&command()).filter_map(|flag| Some((flag, flag.get_long()?))) {
        let Some(value) = table.get(key).filter(|_| Scope::of(flag) != Scope::OneRun) else { continue };
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
    // What follows from other flags, or from none.
    usual.insert("nesterov".to_owned(), true.into());
    usual.insert("resample".to_owned(), "bilinear".into());
    usual.insert("exif-orientation".to_owned(), false.into());
    let mut flags = said(flags);
    let command = command();
    for flag in super::flags_of_run(&command).filter(|flag| Scope::of(flag) == Scope::OneRun) {
        flag.get_long().map(|key| flags.remove(key));
    }
    let words = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let unusual = flags.iter().filter(|(key, value)| usual.get(*key) != Some(value));
    unusual.map(|(key, value)| format!("{key} {}", words(value))).collect::<Vec<_>>().join(", ")
}
