//! Checkpoints: all that a run needs to go on as if it had never stopped.
//!
//! ```text
//! RUN/checkpoints/step-00000120/      complete, or not there
//!   model.safetensors                 parameters and buffers
//!   optimizer.safetensors             momenta, by PyTorch's names
//!   ranks.safetensors                 buffers that differ from rank to rank, in the middle of an epoch
//!   best.safetensors                  the best model, where it has not got to its place yet
//!   state.json                        where the run stands, its plan, and a hash of every file
//! RUN/last.safetensors                the newest checkpoint's model, the same file by another name
//! RUN/best.safetensors                the model that scored best
//! ```
//!
//! Nothing random is in it: the order of samples, augmentation and libtorch's generators are keyed by seed, epoch, step
//! and rank, and so the position in the run is all their state.

mod best;
mod folder;
mod position;
mod writer;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use model_card::{CardScores, ModelCard};
use serde::{Deserialize, Serialize};

use crate::model::tensors::Tensors;

pub(crate) use best::BestModel;
pub(crate) use folder::{Checkpoints, Found};
pub(crate) use position::Position;
pub(crate) use writer::{Saved, Writer};

/// The version of the format of checkpoints. One more whenever older programs could not read it. Format 1 counted steps alone, and did not
/// know which file was the best model's.
const FORMAT_VERSION: u32 = 2;

/// The samples that a position counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DatasetSize {
    pub train: usize,
    pub val: usize,
    pub classes: Vec<String>,
}

/// Everything in a checkpoint but its tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    #[serde(rename = "form")]
    pub format_version: u32,
    pub position: Position,
    pub is_complete: bool,
    /// Whether this is the model that scored best so far.
    #[serde(default)]
    pub is_best: bool,
    /// BLAKE3 of the best model's file, if there is one. Not known in format 1.
    #[serde(default)]
    pub best_model: Option<String>,
    pub ranks: usize,
    pub dataset: DatasetSize,
    /// The scale of fp16's losses, and its good steps.
    pub scaler: Option<(f64, u32)>,
    /// What the evaluation after the last epoch found, where no step has been made since.
    #[serde(default)]
    pub scores: Option<CardScores>,
    pub plan: toml::Table,
    /// A hash of the model that the run learns from, if it does.
    #[serde(default)]
    pub teacher: Option<String>,
    pub versions: BTreeMap<String, String>,
    /// BLAKE3 of every file.
    pub files: BTreeMap<String, String>,
}

impl State {
    pub(crate) const FORMAT_VERSION: u32 = FORMAT_VERSION;

    /// From the bytes of its file, of this format or an older one.
    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        /// What every format begins with.
        #[derive(Deserialize)]
        struct Version {
            #[serde(rename = "form")]
            format_version: u32,
        }
        let Version { format_version } = serde_json::from_slice(bytes)?;
        ensure!(
            (1..=FORMAT_VERSION).contains(&format_version),
            "a checkpoint of format {format_version}, and this program reads formats 1 to {FORMAT_VERSION}"
        );
        let mut state: Self = serde_json::from_slice(bytes)?;
        state.plan = flags::modernize(state.plan);
        if format_version == 1 {
            state.position = position::of_steps(&state)?;
            // It stood there whatever the optimizer was, and meant nothing to others.
            let momentum = state.plan.get("momentum").and_then(toml::Value::as_float);
            if state.plan.get("optimizer").and_then(toml::Value::as_str) != Some("sgd") || momentum == Some(0.0) {
                state.plan.remove("nesterov");
            }
        }
        Ok(state)
    }

    /// The file of the model that the run is about: the moving average, where there is one.
    fn model_file(&self) -> &'static str {
        if self.files.contains_key(EMA) { EMA } else { MODEL }
    }
}

/// The file of the model in the folder of a checkpoint.
///
/// # Errors
/// A state that cannot be read.
pub(crate) fn model_file(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(STATE);
    let state = fs::read(&path).map_err(anyhow::Error::from).and_then(|bytes| State::parse(&bytes));
    Ok(folder.join(state.with_context(|| path.display().to_string())?.model_file()))
}

/// A checkpoint in memory.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub state: State,
    pub model: Tensors,
    pub optimizer: Tensors,
    pub ranks: Tensors,
    /// The moving average of the model.
    pub ema: Tensors,
    /// What must be known of the model to use it; its scores are those of the state. `None` in a checkpoint that was read.
    pub card: Option<ModelCard>,
}

/// A model as its file has it.
#[derive(Clone, Debug)]
pub(crate) struct SavedModel {
    tensors: Tensors,
    metadata: BTreeMap<String, String>,
}

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const RANKS: &str = "ranks.safetensors";
const EMA: &str = "ema.safetensors";
/// Not a part of where the run stands: it is kept for its place in the run's folder, and read by nobody who goes on.
const BEST: &str = "best.safetensors";
const STATE: &str = "state.json";

impl Checkpoint {
    /// The model that the run is about: the moving average, where there is one.
    fn run_model(&self) -> SavedModel {
        let (name, tensors) = if self.ema.is_empty() { (MODEL, &self.model) } else { (EMA, &self.ema) };
        SavedModel { tensors: tensors.clone(), metadata: self.metadata(name) }
    }

    /// What the file `name` says of itself. The scores are those of the model that the run is about.
    fn metadata(&self, name: &str) -> BTreeMap<String, String> {
        let Some(card) = self.card.as_ref().filter(|_| [MODEL, EMA].contains(&name)) else { return BTreeMap::new() };
        let is_of_run = name == EMA || self.ema.is_empty();
        let scores = self.state.scores.clone().filter(|_| is_of_run);
        let mut card = card.clone();
        card.scores = scores;
        card.metadata()
    }

    fn parts(&self) -> impl Iterator<Item = (&'static str, &Tensors, BTreeMap<String, String>)> {
        let parts = [(MODEL, &self.model), (OPTIMIZER, &self.optimizer), (RANKS, &self.ranks), (EMA, &self.ema)];
        let there = parts.into_iter().filter(|(_, tensors)| !tensors.is_empty());
        there.map(|(name, tensors)| (name, tensors, self.metadata(name)))
    }

    /// Writes all files into `folder`, to the disk, and gives the state with their hashes. The state comes last: without
    /// it there is no checkpoint. `best` is known of the best model before this checkpoint.
    fn write(&self, folder: &Path, best: &BestModel) -> anyhow::Result<State> {
        let mut state = self.state.clone();
        let unsaved = best.unsaved.as_ref().filter(|_| !state.is_best);
        let unsaved = unsaved.map(|model| (BEST, &model.tensors, model.metadata.clone()));
        for (name, tensors, metadata) in self.parts().chain(unsaved) {
            let path = folder.join(name);
            weights::write_safetensors(&path, tensors, &metadata)?;
            let file = File::open(&path).with_context(|| path.display().to_string())?;
            file.sync_all().with_context(|| path.display().to_string())?;
            state.files.insert(name.to_owned(), hash(&path)?);
        }
        let own = if state.is_best { state.files.get(state.model_file()) } else { state.files.get(BEST) };
        state.best_model = own.or(best.hash.as_ref()).cloned();
        let path = folder.join(STATE);
        let write = || -> std::io::Result<()> {
            fs::write(&path, serde_json::to_vec_pretty(&state)?)?;
            File::open(&path)?.sync_all()?;
            File::open(folder)?.sync_all()
        };
        write().with_context(|| path.display().to_string())?;
        Ok(state)
    }

    /// The bytes of all files of the checkpoint in `folder`, the state first, each compared with its hash.
    fn read_bytes(folder: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).with_context(|| path.display().to_string())
        };
        let bytes = read(STATE)?;
        let state = State::parse(&bytes).with_context(|| folder.join(STATE).display().to_string())?;
        let mut files = vec![(STATE.to_owned(), bytes)];
        for (name, expected) in state.files.into_iter().filter(|(name, _)| name != BEST) {
            ensure!([MODEL, OPTIMIZER, RANKS, EMA].contains(&name.as_str()), "{}: {name}?", folder.display());
            let bytes = read(&name)?;
            let found = blake3::hash(&bytes).to_hex();
            ensure!(found.as_str() == expected, "{}: is damaged, its hash is another", folder.join(&name).display());
            files.push((name, bytes));
        }
        Ok(files)
    }

    /// From the bytes of its files.
    pub(crate) fn of_bytes(files: Vec<(String, Vec<u8>)>) -> anyhow::Result<Self> {
        let mut files = files.into_iter();
        let (_, state) = files.next().context("a checkpoint has a state")?;
        let mut checkpoint = Self {
            state: State::parse(&state)?,
            model: Vec::new(),
            optimizer: Vec::new(),
            ranks: Vec::new(),
            ema: Vec::new(),
            card: None,
        };
        for (name, bytes) in files {
            let parsed = weights::parse(weights::Bytes::new(bytes)).map_err(anyhow::Error::msg);
            let tensors = parsed.with_context(|| format!("{name} of the checkpoint"))?.into_entries();
            match name.as_str() {
                MODEL => checkpoint.model = tensors,
                OPTIMIZER => checkpoint.optimizer = tensors,
                RANKS => checkpoint.ranks = tensors,
                _ => checkpoint.ema = tensors,
            }
        }
        Ok(checkpoint)
    }
}

fn hash(path: &Path) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).and_then(|file| Ok(hasher.update_reader(file)?.finalize()));
    Ok(file.with_context(|| path.display().to_string())?.to_hex().to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::tensors::{copies, restore};
    use tch::{Device, Kind, Tensor};

    pub(crate) fn checkpoint(step: usize) -> Checkpoint {
        let tensor = |value: f64| Tensor::full([2, 3], value, (Kind::Float, Device::Cpu));
        let named = |value| copies(&[("weight".to_owned(), tensor(value))]);
        Checkpoint {
            state: State {
                format_version: FORMAT_VERSION,
                position: Position { step, best: Some(0.1 + 0.2), loss_sum: 1.0 / 3.0, ..Position::default() },
                is_complete: false,
                is_best: false,
                best_model: None,
                ranks: 2,
                dataset: DatasetSize { train: 100, val: 10, classes: vec!["a".to_owned()] },
                scaler: Some((65_536.0, 3)),
                scores: None,
                plan: toml::Table::new(),
                teacher: None,
                versions: BTreeMap::new(),
                files: BTreeMap::new(),
            },
            model: named(step as f64),
            optimizer: named(0.5),
            ranks: Vec::new(),
            ema: Vec::new(),
            card: None,
        }
    }

    #[test]
    fn other_forms_are_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        checkpoint(7).write(folder.path(), &BestModel::default()).unwrap();
        let path = folder.path().join(STATE);
        let text = fs::read_to_string(&path).unwrap();
        for form in ["0", "3"] {
            fs::write(&path, text.replace("\"form\": 2", &format!("\"form\": {form}"))).unwrap();
            let error = format!("{:#}", Checkpoint::read_bytes(folder.path()).unwrap_err());
            assert!(
                error.ends_with(&format!("a checkpoint of format {form}, and this program reads formats 1 to 2")),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let written = checkpoint(7);
        written.write(folder.path(), &BestModel::default()).unwrap();
        let read = Checkpoint::of_bytes(Checkpoint::read_bytes(folder.path()).unwrap()).unwrap();
        assert_eq!(read.state.position, written.state.position);
        let model = [("weight".to_owned(), Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)))];
        restore(&model, &read.model).unwrap();
        assert_eq!(model[0].1.double_value(&[1, 2]), 7.0);
    }
}
