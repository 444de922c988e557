//! What lies in the folder of a run.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The lines of the record, as they are there. What a kill has cut off is none.
pub fn record(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(ToOwned::to_owned).collect()
}

/// A line of the record without what depends on how fast the run was.
///
/// # Panics
/// If it is not a line of a record.
pub fn result(line: &str) -> Value {
    let mut value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("'{line}': {error}"));
    let known = ["step", "loss", "lr", "epoch", "train_loss", "val_loss", "top1", "top5"];
    value.as_object_mut().expect("a line is an object").retain(|key, _| known.contains(&key.as_str()));
    value
}

/// What a run wrote down that does not depend on how fast it was.
pub fn results(run: &Path) -> Vec<Value> {
    record(run).iter().map(|line| result(line)).collect()
}

/// The checkpoints that are there, the oldest first; not those on their way, nor those on their way out.
pub fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(run.join("checkpoints")) else { return Vec::new() };
    let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    found.retain(|path| path.join("state.json").exists());
    found.sort();
    found
}

/// What a checkpoint says of itself; `None` where it has gone meanwhile.
///
/// # Panics
/// If it is damaged.
pub fn state(checkpoint: &Path) -> Option<Value> {
    let bytes = fs::read(checkpoint.join("state.json")).ok()?;
    Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", checkpoint.display())))
}

/// All files of a run, by their names below its folder, but the event files, of which each turn begins one.
pub fn files(run: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            let name = path.strip_prefix(run).expect("it lies below").display().to_string();
            if !name.starts_with("events.out.") {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}
