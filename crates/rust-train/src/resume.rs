//! `--resume`: what a run goes on with. One rank looks and reads; all ranks get the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use world::World;

use crate::checkpoint::{Checkpoint, Checkpoints, Found};
use crate::failure::{to_failure, usage};
use crate::plan::{Plan, Resume};
use crate::run_directory;

/// How a run begins.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// The folder of the run that goes on; `None` for a new one.
    pub folder: Option<PathBuf>,
    /// Where it goes on.
    pub checkpoint: Option<Checkpoint>,
}

/// What rank 0 found, for all ranks.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Discovery {
    folder: Option<String>,
    /// The names of the checkpoint's files.
    files: Vec<String>,
}

/// Finds and reads what the plan asks to go on with. Collective.
pub(crate) fn find(world: &World, plan: &Plan) -> anyhow::Result<Beginning> {
    let Some(resume) = &plan.run.resume else { return Ok(Beginning { folder: None, checkpoint: None }) };
    let mut contents = Vec::new();
    let discovery = world.from_rank_zero("looking for a checkpoint", || {
        let (folder, found) = look(plan, resume).map_err(|error| to_failure(&error))?;
        let mut discovery = Discovery { folder: folder.map(text).transpose()?, ..Discovery::default() };
        if let Some(found) = found {
            tell(&found);
            (discovery.files, contents) = found.files.into_iter().unzip();
        }
        serde_json::to_vec(&discovery).map_err(world::Failure::new)
    })?;
    let Discovery { folder, files } = serde_json::from_slice(&discovery)?;
    contents.resize(files.len(), Vec::new());
    for bytes in &mut contents {
        world.control().broadcast_bytes(bytes, 0)?;
    }
    let files: Vec<_> = files.into_iter().zip(contents).collect();
    let checkpoint = if files.is_empty() { None } else { Some(Checkpoint::of_bytes(files)?) };
    Ok(Beginning { folder: folder.map(PathBuf::from), checkpoint })
}

fn text(path: PathBuf) -> Result<String, world::Failure> {
    path.into_os_string().into_string().map_err(|path| world::Failure::usage(format!("{path:?} is not UTF-8")))
}

fn tell(found: &Found) {
    for reason in &found.damaged {
        log::warn!("not usable, so the checkpoint before it is taken: {reason}");
    }
    log::info!("going on from {}", found.path.display());
}

/// The folder that the run goes on in, and the checkpoint.
fn look(plan: &Plan, resume: &Resume) -> anyhow::Result<(Option<PathBuf>, Option<Found>)> {
    match (resume, &plan.output) {
        (Resume::Auto, Some(output)) => match run_directory::is_run(output)? {
            true => Ok((Some(output.clone()), Checkpoints::of_run(output).newest()?)),
            false => Ok((None, None)),
        },
        (Resume::Auto, None) => newest_unfinished(&plan.name()),
        (Resume::From(path), output) => {
            let (run, found) = explicit(path)?;
            // A new folder leaves the run as it is.
            let folder = if output.is_some() { None } else { Some(run) };
            Ok((folder, Some(found)))
        }
    }
}

/// The newest run called `name`, if it is one that has not come to its end.
fn newest_unfinished(name: &str) -> anyhow::Result<(Option<PathBuf>, Option<Found>)> {
    let Some(run) = run_directory::newest(name) else { return Ok((None, None)) };
    let Some(found) = Checkpoints::of_run(&run).newest()? else { return Ok((None, None)) };
    let is_complete = found.state()?.is_complete;
    Ok(if is_complete { (None, None) } else { (Some(run), Some(found)) })
}

/// The run and the checkpoint that `path` names.
fn explicit(path: &Path) -> anyhow::Result<(PathBuf, Found)> {
    let shown = path.display();
    if !Checkpoints::is_one(path) {
        let newest = Checkpoints::of_run(path).newest()?;
        let found = newest.ok_or_else(|| usage(format!("--resume {shown}: there is no checkpoint of a run")))?;
        return Ok((path.to_owned(), found));
    }
    let found = Checkpoints::read(path).map_err(|error| usage(format!("--resume: {error:#}")))?;
    let run = path.canonicalize().ok().and_then(|path| Some(path.parent()?.parent()?.to_owned()));
    let run = run.with_context(|| format!("{shown}: is in no run's folder"))?;
    let newest = Checkpoints::of_run(&run).newest()?.map(|found| found.path.file_name().map(ToOwned::to_owned));
    if newest.flatten().as_deref() != path.canonicalize()?.file_name() {
        return Err(usage(format!(
            "--resume {shown}: its run has come further; go on from there with --resume {}, or name a new folder with \
             --output",
            run.display()
        )));
    }
    Ok((run, found))
}

/// Refuses a plan that is another than the one that the run began with, field by field.
pub(crate) fn compare(plan: &Plan, began: &toml::Table) -> anyhow::Result<()> {
    let changes = changes(began, &plan.fields);
    if changes.is_empty() {
        return Ok(());
    }
    let list = changes.join("\n  ");
    if plan.run.allow_changed_plan {
        log::warn!("the plan is another than the one that the run began with:\n  {list}");
        return Ok(());
    }
    Err(usage(format!(
        "--resume: the plan is another than the one that the run began with:\n  {list}\ngive the same flags, or go on all \
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
        let now = table("lr = 0.2\nbatch = 64\nmodel = 'resnet18'\nclip-norm = 1.0");
        let expected = [
            "clip-norm: not given, now 1.0",
            "lr: 0.1, now 0.2",
            "mixup: 0.2, now not given",
            "model: \"lenet\", now \"resnet18\"",
        ];
        assert_eq!(changes(&began, &now), expected);
        assert!(changes(&began, &began).is_empty());
    }
}
