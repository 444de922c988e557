//! `best.safetensors`: always the model of the best epoch that the run's record knows, whatever came in between.
//!
//! A checkpoint names the best model's file by its hash. What a kill or a full disk has kept from its place is put there
//! from where it is: from the checkpoint that is the best model itself, or from a later one that carries it along.

use std::fs;
use std::path::{Path, PathBuf};

use super::folder::Checkpoints;
use super::writer::publish;
use super::{BEST, Found, SavedModel, State, hash};

/// What is known of the best model so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct BestModel {
    /// BLAKE3 of its file.
    pub hash: Option<String>,
    /// The model itself, as long as it is not in its place.
    pub unsaved: Option<SavedModel>,
}

/// The names, in a run's folder, of the newest model and of the best one.
pub(super) const LAST_MODEL: &str = "last.safetensors";
pub(super) const BEST_MODEL: &str = "best.safetensors";

/// Puts the newest and the best model of the checkpoint `found`, of the run in `from`, in their places in the folder `run`,
/// where they are not there. Gives whether the best one is there now.
pub(crate) fn restore(found: &Found, state: &State, from: &Path, run: &Path) -> anyhow::Result<bool> {
    let newest = state.model_file();
    if let Some(expected) = state.files.get(newest) {
        put(&found.path.join(newest), &run.join(LAST_MODEL), expected)?;
    }
    let place = run.join(BEST_MODEL);
    let Some(expected) = &state.best_model else {
        // Form 1 does not say which it is: the one in the run's folder, if any.
        if from != run && from.join(BEST_MODEL).is_file() {
            publish(&from.join(BEST_MODEL), &place)?;
        }
        return Ok(true);
    };
    match candidates(found, from).into_iter().find(|path| is(path, expected)) {
        Some(path) => put(&path, &place, expected).map(|()| true),
        None => Ok(false),
    }
}

/// Where the best model may lie: at its place, in the checkpoint, in an older one.
fn candidates(found: &Found, from: &Path) -> Vec<PathBuf> {
    let mut candidates = vec![from.join(BEST_MODEL), found.path.join(BEST)];
    let others = Checkpoints::of_run(from).paths();
    for path in std::iter::once(&found.path).chain(&others) {
        let state = fs::read(path.join(super::STATE)).ok().and_then(|bytes| State::parse(&bytes).ok());
        candidates.extend(state.filter(|state| state.is_best).map(|state| path.join(state.model_file())));
    }
    candidates
}

/// Makes `place` another name of `file`, unless what is there is the same.
fn put(file: &Path, place: &Path, expected: &str) -> anyhow::Result<()> {
    if is(place, expected) { Ok(()) } else { publish(file, place) }
}

fn is(path: &Path, expected: &str) -> bool {
    path.is_file() && hash(path).is_ok_and(|found| found == expected)
}
