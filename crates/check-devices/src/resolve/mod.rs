//! From flags, script, its recipe and surroundings to the subject that the checks look at: every value with its origin.

mod layouts;
mod recipe;
mod training;
mod variables;

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use sbatch::{Request, Script, Version};

use crate::cli::JudgeArgs;
use crate::commands::{Launch, Trainer, launches, trainer};
use crate::facts::Facts;
use crate::job::Job;
use crate::shell;
use crate::site::Site;
use crate::subject::{ScriptFile, Subject};
use layouts::LayoutBuilder;
use recipe::with_recipe;
use training::{accelerator_of_job, training};
use variables::slurm_variables;

/// A script's text and what it is called.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    /// The folder from which it would be submitted.
    pub(crate) folder: PathBuf,
}

/// What surrounds the script.
pub(crate) struct Surroundings<'a> {
    pub(crate) site: Site,
    pub(crate) facts: Facts,
    pub(crate) environment: &'a dyn Fn(&str) -> Option<String>,
    /// Counts this machine's CUDA devices; asked only where nothing else says how many there are.
    pub(crate) visible_devices: &'a dyn Fn() -> usize,
}

/// Resolves everything.
///
/// # Errors
/// Flags that make no sense: wrong usage.
pub(crate) fn resolve<'t>(
    args: &JudgeArgs,
    source: Option<&'t Source>,
    around: Surroundings<'_>,
) -> anyhow::Result<Subject<'t>> {
    check_flags(args)?;
    let mut words: Vec<_> = args.nodes.iter().map(|nodes| format!("--nodes={nodes}")).collect();
    words.extend_from_slice(&args.sbatch);
    let script = source.map(|source| Script::parse(&source.text));
    let jobs: Vec<_> = match &script {
        Some(script) => (0..script.components())
            .map(|component| Job::new(script.request(component, around.environment, &words)))
            .collect(),
        // Without a script nothing is submitted, and SBATCH_* variables mean nothing.
        None => vec![Job::new(Request::without_script(|_| None, &words))],
    };
    if let Some(problem) = jobs[0].request.command_line_problems().first() {
        bail!("sbatch options behind --: {}", problem.kind);
    }

    let file = source.zip(script).map(|(source, script)| {
        let known = slurm_variables(&jobs[0]);
        let body = shell::read(&source.text);
        let commands = shell::execute(&body.commands, known, around.environment);
        let launches = launches(&commands);
        let main_launch = main_launch(&launches);
        ScriptFile {
            name: source.name.clone(),
            folder: submission_folder(source, &jobs[0]),
            script,
            commands,
            here_documents: body.here_documents,
            launches,
            main_launch,
        }
    });
    let main = file.as_ref().and_then(|file| file.launches.get(file.main_launch?));
    let started = main.and_then(trainer);
    let is_started = started.is_some();
    let flags = args.run.0.iter().chain(&args.training.run.0).cloned().collect();
    let trainer = started.unwrap_or_else(Trainer::unknown).with_flags(flags);
    let (trainer, recipe) = with_recipe(trainer, file.as_ref())?;
    let mut training = training(args, &around.site, &trainer, recipe, is_started)?;
    if training.accelerator.is_none() {
        training.accelerator = accelerator_of_job(&jobs[0], &around.site);
    }

    let builder = LayoutBuilder { args, training: &training, has_script: file.is_some(), around: &around };
    let mut layouts = Vec::new();
    for (component, job) in jobs.iter().enumerate() {
        let counts = job.node_counts();
        let counts = if counts.is_empty() { vec![1] } else { counts };
        layouts.extend(counts.into_iter().map(|nodes| builder.layout(component, job, nodes, main)));
    }
    let slurm = slurm_version(args, &around);
    Ok(Subject { script: file, jobs, layouts, training, slurm, site: around.site, facts: around.facts })
}

fn check_flags(args: &JudgeArgs) -> anyhow::Result<()> {
    let counts = [
        ("--nodes", args.nodes),
        ("--micro-batch", args.micro_batch),
        ("--ranks-per-node", args.ranks_per_node),
        ("--samples", args.samples),
        ("--classes", args.training.classes),
    ];
    for (flag, value) in counts {
        ensure!(value != Some(0), "{flag}: must be at least 1");
    }
    Ok(())
}

fn slurm_version(args: &JudgeArgs, around: &Surroundings<'_>) -> Option<Version> {
    let of_login = || around.facts.login.as_ref()?.slurm_version.as_deref()?.parse().ok();
    let of_site = || around.site.slurm_version.as_deref()?.parse().ok();
    args.slurm.or_else(of_login).or_else(of_site)
}

/// Where relative paths of directives start: `--chdir`, else where sbatch is called.
fn submission_folder(source: &Source, job: &Job) -> PathBuf {
    job.text("chdir").map_or_else(|| source.folder.clone(), |chdir| source.folder.join(Path::new(&chdir.value)))
}

/// Programs that look or prepare, and do not train.
const BYSTANDERS: &[&str] = &[
    "hostname",
    "nvidia-smi",
    "echo",
    "date",
    "env",
    "printenv",
    "check-devices",
    "mkdir",
    "cp",
    "rsync",
    "tar",
    "sleep",
    "true",
    "ls",
    "cat",
    "rm",
    "ldd",
    "which",
    "lscpu",
    "numactl",
    "module",
    "df",
    "free",
    "kill",
    "ip",
    "scontrol",
];

/// The last launch that starts a known trainer, else the last that starts anything but a bystander.
fn main_launch(launches: &[Launch]) -> Option<usize> {
    let known = launches.iter().rposition(|launch| trainer(launch).is_some());
    let trains = |launch: &Launch| !launch.program_name().is_some_and(|name| BYSTANDERS.contains(&name));
    known.or_else(|| launches.iter().rposition(trains))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn judged(flags: &str, script: Option<&str>, visible: usize) -> anyhow::Result<(usize, usize, Option<usize>)> {
        let cli = Cli::try_parse_from(std::iter::once("check-devices").chain(flags.split_whitespace())).unwrap();
        let source =
            script.map(|text| Source { name: "x".to_owned(), text: text.to_owned(), folder: PathBuf::from(".") });
        let around = Surroundings {
            site: Site::default(),
            facts: Facts::default(),
            environment: &|_| None,
            visible_devices: &|| visible,
        };
        let subject = resolve(&cli.judge, source.as_ref(), around)?;
        let layout = subject.first_layout();
        let micro = layout.batch.as_ref().and_then(|batch| batch.as_ref().ok()).map(layout::BatchLayout::micro);
        Ok((layout.ranks.value, layout.devices.value, micro))
    }

    #[test]
    fn flags_and_machine() {
        let cases = [
            ("--batch 64", 0, (1, 0, Some(64))),
            ("--batch 64", 4, (4, 4, Some(16))),
            ("--batch 64 --device cpu --ranks-per-node 8", 4, (8, 0, Some(8))),
            ("--batch 64 --device 0,1", 4, (2, 4, Some(32))),
            ("--batch 4096 --nodes 8 --gpus-per-node 4", 0, (32, 4, Some(128))),
            ("--batch 4096 --nodes 8 --gpus-per-node 4 --accumulate 2", 0, (32, 4, Some(64))),
            ("--batch auto:4096 --nodes 8 --gpus-per-node 4 --accumulation 2", 0, (32, 4, Some(64))),
            ("--config cifar10 --device cpu --ranks-per-node 2", 0, (2, 0, Some(64))),
            ("--config cifar10 --batch 32 --device cpu --ranks-per-node 2", 0, (2, 0, Some(16))),
            ("--micro-batch 16 --accumulation 2 --nodes 2 --device cpu", 0, (2, 0, Some(16))),
            ("--batch 64 --ranks-per-node 3 --device cpu", 0, (3, 0, None)),
            ("--batch 64 -- -N2 --ntasks-per-node=4 --gres=gpu:4", 0, (8, 4, Some(8))),
        ];
        for (flags, visible, expected) in cases {
            assert_eq!(judged(flags, None, visible).unwrap(), expected, "{flags}");
        }
    }

    #[test]
    fn ranks_that_scripts_start() {
        let directives = "#SBATCH -N2 --ntasks-per-node=4 --gres=gpu:4\n";
        let cases = [
            ("srun rust-train --batch 64", 8),
            ("srun -n 4 rust-train", 4),
            ("srun --nodes=1 --ntasks-per-node=2 rust-train", 2),
            ("mpirun -np 6 rust-train", 6),
            ("mpirun rust-train", 8),
            ("mpirun -npernode 2 rust-train", 4),
            ("rust-train", 1),
            ("srun --ntasks-per-node=1 torchrun --nproc-per-node 4 t.py", 8),
            ("N=$((SLURM_NNODES * 4)); srun -n $N rust-train", 8),
            ("srun hostname; srun rust-train fetch x; srun rust-train", 8),
            ("accelerate launch --num_processes 16 t.py", 16),
            ("deepspeed t.py", 8),
        ];
        for (command, ranks) in cases {
            let script = format!("#!/bin/bash\n{directives}{command}\n");
            assert_eq!(judged("", Some(&script), 0).unwrap().0, ranks, "{command}");
        }
    }

    #[test]
    fn batches_that_scripts_and_recipes_say() {
        let cases = [
            ("rust-train", Some(16)), // 64 by default
            ("rust-train --batch 128", Some(32)),
            ("rust-train --config cifar10", Some(32)),
            ("rust-train --config cifar10 --batch 256", Some(64)),
            ("rust-train --config cifar10 --batch $UNKNOWN", None),
            ("rust-train --config $UNKNOWN", None),
            ("rust-train --config missing.toml", None),
            ("rust-train --batch auto:32", Some(8)),
            ("rust-train $FLAGS", None),
            ("rust-train \"${FLAGS[@]}\"", None),
            ("rust-train --output $SCRATCH --zero", Some(16)),
            ("rust-train --zero $FLAGS", None),
            ("rust-train --batch 128 --accumulation 2", Some(16)),
            ("rust-train --batch=128 --accumulate 2", Some(16)),
        ];
        for (command, micro) in cases {
            let script = format!("#!/bin/bash\n#SBATCH -N2 --ntasks-per-node=2\nsrun {command}\n");
            assert_eq!(judged("", Some(&script), 0).unwrap().2, micro, "{command}");
        }
    }

    #[test]
    fn wrong_usage_is_no_verdict() {
        for (flags, words) in [
            ("--batch 0", "--batch: must be at least 1"),
            ("--batch 1 --nodes 0", "--nodes: must be at least 1"),
            ("--batch 1 --device 0,0", "--device: device 0 is listed twice"),
            ("--batch 1 --model resnet19", "--model: no model is called 'resnet19'"),
            ("--batch 1 --accumulate 0", "--accumulate: must be at least 1"),
            ("--batch 1 --lr 0", "--lr: must be positive"),
            ("--config none.toml", "--config none.toml: No such file or directory"),
            ("--batch 1 --gpu quantum", "--gpu: no accelerator is called 'quantum'"),
            ("--batch 1 -- --nodez=2", "sbatch has no option '--nodez'"),
        ] {
            let error = judged(flags, None, 0).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{error:#}");
        }
    }
}
