//! `--resume`: what a run goes on with. One rank looks and reads; all ranks get the same.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use world::World;

use crate::config::plan::{Plan, Resume};
use crate::config::recipe;
use crate::errors::{to_failure, usage};
use crate::run::checkpoint::{Checkpoint, Checkpoints, Found};
use crate::run::directory::{self, RUNS, RunFolder};

/// How a run begins.
#[derive(Debug)]
pub(crate) struct ResumePoint {
    /// Its folder.
    pub output: PathBuf,
    /// The same, held by this job. Rank 0's.
    pub folder: Option<RunFolder>,
    /// Whether the run has begun in that folder, and goes on there.
    pub goes_on: bool,
    /// Where it goes on.
    pub checkpoint: Option<Checkpoint>,
}

/// What rank 0 found, for all ranks.
#[derive(Debug, Serialize, Deserialize)]
struct Discovery {
    output: OsString,
    goes_on: bool,
    /// The names of the checkpoint's files.
    files: Vec<String>,
}

/// A run's folder, and the checkpoint to go on from.
struct Taken {
    folder: RunFolder,
    goes_on: bool,
    /// With the folder of the run that it belongs to.
    found: Option<(PathBuf, Found)>,
}

/// Finds or makes the folder of the plan's run, holds it, and only then reads what it is to go on with: nobody else comes
/// any further there in the meantime. Collective.
pub(crate) fn begin(world: &World, plan: &Plan) -> anyhow::Result<ResumePoint> {
    let mut contents = Vec::new();
    let mut held = None;
    let discovery = world.from_rank_zero("looking for a checkpoint", || {
        let Taken { folder, goes_on, found } = take(plan).map_err(|error| to_failure(&error))?;
        let mut discovery = Discovery { output: folder.path().into(), goes_on, files: Vec::new() };
        if let Some((run, mut found)) = found {
            tell(&found);
            if !plan.flags.eval_only {
                let restored = found.restore_models(&run, folder.path());
                restored.map_err(|error| to_failure(&error.context("putting the run's models in their place")))?;
            }
            (discovery.files, contents) = found.files.into_iter().unzip();
        }
        held = Some(folder);
        serde_json::to_vec(&discovery).map_err(world::Failure::new)
    })?;
    let Discovery { output, goes_on, files } = serde_json::from_slice(&discovery)?;
    contents.resize(files.len(), Vec::new());
    for bytes in &mut contents {
        world.control().broadcast_bytes(bytes, 0)?;
    }
    let files: Vec<_> = files.into_iter().zip(contents).collect();
    let checkpoint = if files.is_empty() { None } else { Some(Checkpoint::of_bytes(files)?) };
    Ok(ResumePoint { output: PathBuf::from(output), folder: held, goes_on, checkpoint })
}

fn tell(found: &Found) {
    for reason in &found.damaged {
        log::warn!("not usable, so the checkpoint before it is taken: {reason}");
    }
    log::info!("going on from {}", found.path.display());
}

fn take(plan: &Plan) -> anyhow::Result<Taken> {
    let new = || -> anyhow::Result<Taken> {
        let folder = match &plan.flags.output {
            Some(output) => RunFolder::begin(output)?,
            None => RunFolder::begin_numbered(Path::new(RUNS), &directory::name(plan))?,
        };
        Ok(Taken { folder, goes_on: false, found: None })
    };
    match (&plan.resume, &plan.flags.output) {
        (None, _) => new(),
        (Some(Resume::Auto), Some(output)) => match directory::is_run(output)? {
            true => go_on(output),
            false => new(),
        },
        (Some(Resume::Auto), None) => match unfinished(plan)? {
            Some(taken) => Ok(taken),
            None => {
                let taken = new()?;
                log::info!(
                    "below {RUNS} there is no unfinished run of this plan that no other job works on, so {} is a new one; \
                     name a folder with --output to be sure which run is resumed",
                    taken.folder.path().display()
                );
                Ok(taken)
            }
        },
        (Some(Resume::From(path)), output) => explicit(path, output.as_deref()),
    }
}

/// Takes the folder `run`, and its newest checkpoint, if it has come to one.
fn go_on(run: &Path) -> anyhow::Result<Taken> {
    let folder = RunFolder::take(run)?;
    let found = Checkpoints::of_run(run).newest()?;
    Ok(Taken { folder, goes_on: true, found: found.map(|found| (run.to_owned(), found)) })
}

/// The newest unfinished run of this plan that nobody works on; where another plan may go on, too, one of this name.
fn unfinished(plan: &Plan) -> anyhow::Result<Option<Taken>> {
    let runs = directory::numbered(Path::new(RUNS), &plan.name());
    let passes: &[bool] = if plan.flags.run.allow_changed_plan { &[true, false] } else { &[true] };
    for same_plan in passes {
        for run in &runs {
            if !is_unfinished(run, plan, *same_plan) {
                continue;
            }
            let Ok(taken) = go_on(run) else { continue }; // another job works on it, or nothing of it is whole
            // It may have come to its end before it was let go.
            if is_unfinished(run, plan, *same_plan) {
                log::info!("{} is the newest unfinished run of this plan; --output names another", run.display());
                return Ok(Some(taken));
            }
        }
    }
    Ok(None)
}

/// Whether the run in `run` has not come to its end and, if `same_plan`, is of this plan.
fn is_unfinished(run: &Path, plan: &Plan, same_plan: bool) -> bool {
    let is_plan = |fields: &toml::Table| !same_plan || changes(fields, &plan.mathematics()).is_empty();
    match Checkpoints::of_run(run).newest_state() {
        Some(state) => !state.is_complete && is_plan(&state.plan),
        // It was ended before its first checkpoint.
        None => recipe::read_mathematics(run).is_some_and(|fields| is_plan(&fields)),
    }
}

/// The run and the checkpoint that `path` names. A run that goes on in a new folder stays as it is.
fn explicit(path: &Path, output: Option<&Path>) -> anyhow::Result<Taken> {
    let shown = path.display();
    let (run, is_checkpoint) = if Checkpoints::is_one(path) {
        let run = path.canonicalize().ok().and_then(|path| Some(path.parent()?.parent()?.to_owned()));
        (run.with_context(|| format!("{shown}: is in no run's folder"))?, true)
    } else {
        (path.to_owned(), false)
    };
    let folder = match output {
        Some(output) => RunFolder::begin(output)?,
        None => RunFolder::take(&run)?,
    };
    let found = if is_checkpoint {
        let found = Checkpoints::read(path).map_err(|error| usage(format!("--resume: {error:#}")))?;
        let newest = Checkpoints::of_run(&run).newest()?.map(|found| found.path.file_name().map(ToOwned::to_owned));
        if output.is_none() && newest.flatten().as_deref() != path.canonicalize()?.file_name() {
            return Err(usage(format!(
                "--resume {shown}: its run has come further; resume from there with --resume {}, or name a new folder with \
                 --output",
                run.display()
            )));
        }
        found
    } else {
        let newest = Checkpoints::of_run(&run).newest()?;
        newest.ok_or_else(|| usage(format!("--resume {shown}: there is no checkpoint of a run")))?
    };
    Ok(Taken { folder, goes_on: output.is_none(), found: Some((run, found)) })
}

/// Refuses a plan that is another than the one that the run began with, field by field.
pub(crate) fn compare(world: &World, plan: &Plan, began: &toml::Table) -> anyhow::Result<()> {
    let changes = changes(began, &plan.mathematics());
    if changes.is_empty() {
        return Ok(());
    }
    if began.get("model") != plan.mathematics().get("model") {
        let name = |fields: &toml::Table| fields.get("model").and_then(|name| name.as_str()).unwrap_or("?").to_owned();
        return Err(usage(format!(
            "--resume: the run is of {}, and the model is {}; start a new run from its weights with --weights \
             RUN/last.safetensors --weights-match partial",
            name(began),
            name(&plan.mathematics())
        )));
    }
    let list = changes.join("\n  ");
    if plan.flags.run.allow_changed_plan {
        if world.rank() == 0 {
            log::warn!("the plan is another than the one that the run began with:\n  {list}");
        }
        return Ok(());
    }
    Err(usage(format!(
        "--resume: the plan is another than the one that the run began with:\n  {list}\ngive the same flags, or resume all \
         the same with --allow-changed-plan"
    )))
}

/// "lr: 0.1, now 0.2", for each field that differs.
fn changes(began: &toml::Table, now: &toml::Table) -> Vec<String> {
    let keys: BTreeSet<_> = began.keys().chain(now.keys()).collect();
    let shown = |value: Option<&toml::Value>| value.map_or("not given".to_owned(), ToString::to_string);
    keys.into_iter()
        .filter(|key| began.get(*key) != now.get(*key))
        .map(|key| format!("{key}: {}, now {}", shown(began.get(key)), shown(now.get(key))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_named_field_by_field() {
        let table = |text: &str| text.parse::<toml::Table>().unwrap();
        let began = table("lr = 0.1\nbatch = 64\nmodel = 'lenet'\nmixup = 0.2");
        let now = table("lr = 0.2\nbatch = 64\nmodel = 'resnet18'\nclip-grad-norm = 1.0");
        let expected = [
            "clip-grad-norm: not given, now 1.0",
            "lr: 0.1, now 0.2",
            "mixup: 0.2, now not given",
            "model: \"lenet\", now \"resnet18\"",
        ];
        assert_eq!(changes(&began, &now), expected);
        assert!(changes(&began, &began).is_empty());
    }
}
