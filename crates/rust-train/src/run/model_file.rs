//! Which file holds the model that somebody means: of a run, of a checkpoint, or a file by itself; and which run it is of.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use fetch::{Request, Source};
use world::{Failure, World};

use super::checkpoint::{self, Checkpoints};
use super::directory::is_run;
use crate::errors::{to_failure, usage};

/// What the weights of a run are called, the best first.
const OF_RUNS: [&str; 2] = ["best.safetensors", "last.safetensors"];

/// The file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelFile {
    file: PathBuf,
    /// The folder of the run that it lies in.
    run: Option<PathBuf>,
}

/// Makes a request for a folder one for the file of its model; gives the run's folder around the file, if there is one.
/// Collective: rank 0 looks.
pub(crate) fn locate(world: &World, request: &mut Request) -> anyhow::Result<Option<PathBuf>> {
    let Source::File(path) = &request.source else { return Ok(None) };
    let bytes = world.from_rank_zero("looking for the weights", || {
        let ModelFile { file, run } = find(path).map_err(|error| to_failure(&error))?;
        // Paths of any bytes, which JSON has no text for.
        serde_json::to_vec(&(file.into_os_string(), run.map(PathBuf::into_os_string))).map_err(Failure::new)
    })?;
    let (file, run): (OsString, Option<OsString>) = serde_json::from_slice(&bytes)?;
    request.source = Source::File(file.into());
    Ok(run.map(PathBuf::from))
}

/// What `path` means: the best model of a run, where it has been scored, or else the newest; that of a checkpoint; or the
/// file itself.
fn find(path: &Path) -> anyhow::Result<ModelFile> {
    if !path.exists() {
        return Err(usage(format!(
            "{}: no such file or folder; name the folder of a run, or a file of weights",
            path.display()
        )));
    }
    if !path.is_dir() {
        return Ok(ModelFile { file: path.to_owned(), run: path.parent().and_then(run_around) });
    }
    let shown = path.display();
    if Checkpoints::is_one(path) {
        let file = checkpoint::model_file(path).map_err(|error| usage(format!("{error:#}")))?;
        return Ok(ModelFile { file, run: run_around(path) });
    }
    let first = |names: &[&str]| names.iter().map(|name| path.join(name)).find(|file| file.is_file());
    let file = first(&OF_RUNS);
    if file.is_none()
        && !is_run(path).unwrap_or(false)
        && let Some(file) = first(&weights::USUAL_NAMES)
    {
        return Ok(ModelFile { file, run: None });
    }
    let file = file.ok_or_else(|| match is_run(path) {
        Ok(true) => usage(format!("{shown}: the run has not come to its first checkpoint; it has no model yet")),
        _ => usage(format!(
            "{shown}: is neither a run's folder nor a checkpoint's: there is no best.safetensors, last.safetensors, \
             model.safetensors or state.json in it; name the folder of a run, or a file of weights"
        )),
    })?;
    Ok(ModelFile { file, run: Some(path.to_owned()) })
}

/// The run's folder that `folder` is, or is a checkpoint of.
fn run_around(folder: &Path) -> Option<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let checkpoints = || folder.canonicalize().ok()?.parent()?.parent().map(Path::to_owned);
    let run = if Checkpoints::is_one(folder) { checkpoints()? } else { folder.to_owned() };
    is_run(&run).unwrap_or(false).then_some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_means_its_best_model() {
        let root = tempfile::tempdir().unwrap();
        let (run, other) = (root.path().join("run"), root.path().join("other"));
        for folder in [&run, &other] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let error = find(&other).unwrap_err().to_string();
        assert!(error.contains("other: is neither a run's folder nor a checkpoint's"), "{error}");
        std::fs::write(run.join("plan.toml"), "").unwrap();
        let error = find(&run).unwrap_err().to_string();
        assert!(error.contains("run: the run has not come to its first checkpoint"), "{error}");
        for name in ["last.safetensors", "best.safetensors"] {
            let file = run.join(name);
            std::fs::write(&file, "").unwrap();
            assert_eq!(find(&run).unwrap(), ModelFile { file: file.clone(), run: Some(run.clone()) });
            assert_eq!(find(&file).unwrap(), ModelFile { file, run: Some(run.clone()) });
        }
        for name in ["pytorch_model.bin", "model.safetensors"] {
            std::fs::write(other.join(name), "").unwrap(); // as others call it, safetensors first
            assert_eq!(find(&other).unwrap(), ModelFile { file: other.join(name), run: None });
        }
        let file = other.join("best.safetensors");
        std::fs::write(&file, "").unwrap();
        assert_eq!(find(&file).unwrap(), ModelFile { file, run: None });
    }
}
