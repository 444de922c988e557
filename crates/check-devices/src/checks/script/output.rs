//! P19–P21: where the log goes, and what the job's environment is.

use std::path::Path;

use sbatch::Version;

use super::super::need::{need, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::subject::Subject;

pub(crate) const P19: Check = Check {
    id: "P19",
    title: "the folder of the log does not exist",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Before Slurm 24.11 nobody makes the folder of --output or --error: where it is not there when the job starts, the \
                  job fails at once and leaves no log that would say why. The script's own mkdir comes too late. A warning where it \
                  is not known which release it is (--slurm, --login).",
    source: "sbatch(1); Slurm's slurmd opens the file before the script runs; tried out with 22.05 and 24.11 (scripts/slurm-agreement)",
    run: |subject| {
        need!(slurm_script(subject));
        if subject.slurm.is_some_and(|slurm| slurm >= MAKES_FOLDERS) {
            return Outcome::Pass;
        }
        Outcome::of(["output", "error"].into_iter().filter_map(|option| missing_folder(subject, option)))
    },
};

/// The release from which Slurm makes the folder itself.
const MAKES_FOLDERS: Version = Version::new(24, 11);

fn missing_folder(subject: &Subject<'_>, option: &str) -> Option<Finding> {
    let file = subject.script.as_ref()?;
    let job = subject.job();
    let path = job.text(option)?;
    let folder = Path::new(&path.value).parent().filter(|folder| !folder.as_os_str().is_empty())?;
    let shown = folder.display().to_string();
    if shown.starts_with('~') || shown.contains('$') {
        return None; // another check's
    }
    let finding = |finding: Finding| {
        finding.at(path.span(), "Slurm does not make it").help(format!("make it before sbatch: mkdir -p {shown}"))
    };
    if shown.contains('%') {
        return Some(finding(Finding::warning(format!(
            "Slurm does not make folders, and '{shown}' is another for each job"
        ))));
    }
    let on_disk = file.folder.join(folder);
    if on_disk.is_dir() {
        return None;
    }
    // An absolute path below something that this machine does not have is another machine's.
    let top = folder.is_absolute().then(|| folder.components().take(2).collect::<std::path::PathBuf>());
    if top.is_some_and(|top| !top.is_dir()) {
        return Some(finding(Finding::warning(format!("the folder '{shown}' must exist before the job starts"))));
    }
    let message = format!("the folder of --{option}, '{shown}', does not exist: the job will fail without a log");
    Some(finding(match subject.slurm {
        Some(_) => Finding::error(message),
        None => Finding::warning(format!("{message}, unless Slurm is {MAKES_FOLDERS} or later")),
    }))
}

pub(crate) const P20: Check = Check {
    id: "P20",
    title: "all tasks of an array write one log",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "Without %a or %j in --output all tasks of a job array write into the same file, and overwrite each other.",
    source: "sbatch(1), filename pattern",
    run: |subject| {
        need!(slurm_script(subject));
        let job = subject.job();
        let array = need!(job.text("array"), "the job is not an array");
        let output = need!(job.text("output"), "the default log has a name for each task");
        let one_task = array.value.parse::<sbatch::value::ArrayIndices>().is_ok_and(|indices| indices.tasks == 1);
        let is_told_apart =
            ["%a", "%j", "%J", "%4a", "%3a", "%2a"].iter().any(|pattern| output.value.contains(pattern));
        if one_task || is_told_apart || output.value.starts_with("/dev/") {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning("all tasks of the array write into the same log")
            .at(output.span(), "the same name for every task")
            .at(array.span(), "several tasks")
            .help("use %A_%a in the name: the array's id and the task's index")])
    },
};

pub(crate) const P21: Check = Check {
    id: "P21",
    title: "the job loses its environment",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "--export=NAME exports that variable and, beside SLURM_*, nothing else: no PATH of loaded modules, no \
                  LD_LIBRARY_PATH. srun inherits the choice. --export=ALL,NAME=value adds to the environment.",
    source: "sbatch(1), --export",
    run: |subject| {
        need!(slurm_script(subject));
        let export = need!(subject.job().text("export"), "the job exports all");
        let mut names = export.value.split(',').map(str::trim);
        let keeps = names.clone().any(|name| ["ALL", "NONE", "NIL"].iter().any(|word| name.eq_ignore_ascii_case(word)));
        if keeps || names.all(str::is_empty) {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning("the job gets these variables and nothing else of the environment")
            .at(export.span(), "no ALL")
            .help(format!("write --export=ALL,{} to add to the environment", export.value))])
    },
};
