//! From flags, script, its recipe and surroundings to the subject that the checks look at: every value with its origin.

mod layouts;
mod ranks;
mod recipe;
mod training;
mod variables;

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use batch_script::Scheduler;
use sbatch::{ProblemKind, Request, Script, Version};
use shell::{Reason, Shell, Value};
use source_text::Span;

use crate::cli::JudgeArgs;
use crate::commands::{Files, Followed, Trainer, follow, foreign_interpreter, trainer};
use crate::facts::Facts;
use crate::job::Job;
use crate::site::Site;
use crate::subject::{ScriptFile, Subject, Training};
use layouts::{LayoutBuilder, Starts};
use recipe::with_recipe;
use training::{accelerator_of_job, training};
use variables::{set_slurm_variables, set_variables};

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
    let syntax =
        source.filter(|source| foreign_interpreter(&source.text).is_none()).map(|source| shell::parse(&source.text));
    let foreign = source.and_then(|source| {
        // What a script writes somewhere is no directive of its own.
        let is_data = |span: Span| syntax.as_ref().is_some_and(|syntax| !syntax.has_comment(span));
        let found = match args.scheduler {
            Some(named) => named.other(),
            None => batch_script::scheduler(&source.text, &is_data),
        };
        found.map(|scheduler| (scheduler, batch_script::read(scheduler, &source.text, &is_data)))
    });
    let jobs: Vec<_> = match (&script, &foreign) {
        (Some(_), Some((_, read))) => vec![Job::of_batch_script(&read.request)],
        (Some(script), None) => (0..script.components())
            .map(|component| Job::new(script.request(component, around.environment, &words)))
            .collect(),
        // Without a script nothing is submitted, and SBATCH_* variables mean nothing.
        (None, _) => vec![Job::new(Request::without_script(|_| None, &words))],
    };
    if let Some(problem) = jobs[0].request.command_line_problems().first() {
        let meant = match &problem.kind {
            ProblemKind::UnknownOption { name } => {
                suggest::did_you_mean(name, sbatch::OPTIONS.iter().map(|option| option.name))
            }
            _ => String::new(),
        };
        bail!("sbatch options behind --: {}{meant}", problem.kind);
    }

    let files = Beside { folder: source.map(|source| submission_folder(source, &jobs[0])).unwrap_or_default() };
    let scheduler = foreign.as_ref().map(|(scheduler, _)| *scheduler);
    let read = source.map(|source| follow_body(source, syntax, &jobs[0], scheduler, around.environment, &files));
    let launches = read.as_ref().map_or(&[][..], |read| &read.followed.launches);
    let unread = read.as_ref().and_then(|read| read.followed.broken.as_ref());
    let nodes = jobs[0].node_counts().first().copied().unwrap_or(1);

    let slurm = slurm_version(args, &around);
    // Which command trains does not depend on what it trains.
    let nothing = Training::default();
    let has_script = source.is_some();
    let builder = |training| LayoutBuilder {
        args,
        training,
        has_script,
        slurm,
        around: &around,
        files: &files,
        launches,
        unread,
    };
    let Starts { main, processes } = builder(&nothing).starts(&jobs[0], nodes);

    let started = main.and_then(|main| trainer(&launches[main]));
    let is_started = started.is_some();
    let flags = args.run.0.iter().chain(&args.training.run.0).cloned().collect();
    let trainer = started.unwrap_or_else(Trainer::unknown).with_flags(flags);
    let commands = read.as_ref().map_or(&[][..], |read| &read.followed.commands);
    let (trainer, recipe) = with_recipe(trainer, has_script.then_some((commands, files.folder.as_path())))?;
    let mut training = training(args, &around.site, &trainer, recipe, is_started)?;
    if training.accelerator.is_none() {
        training.accelerator = accelerator_of_job(&jobs[0], &around.site);
    }

    let layouts = {
        let builder = builder(&training);
        let of_job = |(component, job): (usize, &Job)| {
            let counts = job.node_counts();
            let counts = if counts.is_empty() { vec![1] } else { counts };
            counts.into_iter().map(|nodes| builder.layout(component, job, nodes)).collect::<Vec<_>>()
        };
        jobs.iter().enumerate().flat_map(of_job).collect()
    };
    let file = source.zip(script).zip(read).map(|((source, script), read)| ScriptFile {
        name: source.name.clone(),
        folder: files.folder.clone(),
        script,
        foreign,
        commands: read.followed.commands,
        comments: read.comments,
        writes_the_job: read.writes_the_job,
        broken: read.broken,
        launches: read.followed.launches,
        processes,
        main_launch: main,
        unread: read.followed.broken,
    });
    Ok(Subject { script: file, jobs, layouts, training, slurm, site: around.site, facts: around.facts })
}

/// The body of a script, followed.
struct Body {
    followed: Followed,
    comments: Vec<Span>,
    /// Where a shell cannot read on.
    broken: Option<Span>,
    /// Whether its directives are of another script, which it writes.
    writes_the_job: bool,
}

fn follow_body(
    source: &Source,
    syntax: Option<shell::Script>,
    job: &Job,
    scheduler: Option<Scheduler>,
    environment: &dyn Fn(&str) -> Option<String>,
    files: &Beside,
) -> Body {
    let Some(script) = syntax else {
        let interpreter = foreign_interpreter(&source.text).unwrap_or("another program");
        let reason = Reason::new(format!("the script is for {interpreter}, which is not followed"), Span::default());
        return Body {
            followed: Followed { broken: Some(reason), ..Followed::default() },
            comments: Vec::new(),
            broken: None,
            writes_the_job: false,
        };
    };
    let exported = exported(job);
    let surroundings = |name: &str| environment(name).filter(|_| exported(name));
    let mut shell = Shell::new(&surroundings);
    match scheduler {
        None => set_slurm_variables(&mut shell, job),
        Some(scheduler) => set_variables(&mut shell, job, scheduler),
    }
    if let Ok(folder) = files.folder.canonicalize() {
        for name in ["SLURM_SUBMIT_DIR", "PBS_O_WORKDIR", "LS_SUBCWD", "SGE_O_WORKDIR"] {
            shell.set(name, Value::Text(folder.to_string_lossy().into_owned()));
        }
    }
    let mut followed = follow(&script, &mut shell, files);
    let writes_the_job = writes_the_job(&source.text, &script);
    if writes_the_job {
        let reason = Reason::new("the directives are of a script that this one writes, and that is the job", None);
        followed.broken.get_or_insert(reason);
    }
    Body { followed, comments: script.comments, broken: script.broken, writes_the_job }
}

/// Whether all lines that look like directives belong to a text that the script writes somewhere.
fn writes_the_job(text: &str, script: &shell::Script) -> bool {
    let mut start = 0;
    let mut any = false;
    for line in text.split('\n') {
        let span = Span::new(start, start + line.len());
        start = span.end + 1;
        if ["#SBATCH", "#PBS", "#BSUB"].iter().any(|magic| line.starts_with(magic)) {
            if script.has_comment(span) {
                return false;
            }
            any = true;
        }
    }
    any
}

/// Which variables of the environment the job sees (`--export`).
fn exported(job: &Job) -> impl Fn(&str) -> bool {
    let names = job.text("export").map(|text| text.value);
    move |name| match names.as_deref() {
        None => true,
        Some(list) => list.split(',').any(|word| word == "ALL" || word == name || name == "HOME" || name == "PATH"),
    }
}

/// The files that a script finds where it is submitted.
struct Beside {
    folder: PathBuf,
}

/// Larger files are not scripts that start a job's programs.
const LARGEST_SCRIPT_BESIDE: u64 = 256 << 10;

impl Files for Beside {
    fn read(&self, folder: &str, path: &str) -> Option<String> {
        let path = self.folder.join(folder).join(path);
        let file = std::fs::metadata(&path).ok()?;
        if !file.is_file() || file.len() > LARGEST_SCRIPT_BESIDE {
            return None;
        }
        let text = std::fs::read_to_string(&path).ok()?;
        (!text.contains('\0')).then_some(text)
    }
}

fn check_flags(args: &JudgeArgs) -> anyhow::Result<()> {
    let counts = [
        ("--nodes", args.nodes),
        ("--micro-batch", args.micro_batch),
        ("--ranks-per-node", args.ranks_per_node),
        ("--samples", args.samples),
        ("--classes", args.training.classes),
        ("--channels", args.training.channels),
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
        let micro = layout.shares().map(layout::BatchLayout::micro);
        Ok((layout.ranks.value.least(), layout.devices.value.least(), micro))
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
            ("srun -n2 --ntasks-per-node=1 rust-train", 2),
            // SLURM_NTASKS wins over what srun says of each node.
            ("srun --ntasks-per-node=2 rust-train", 8),
            ("mpirun -np 6 rust-train", 6),
            ("mpirun rust-train", 8),
            ("mpirun -npernode 2 rust-train", 4),
            ("rust-train", 1),
            ("srun -n2 torchrun --nproc-per-node 4 t.py", 4), // two trainings
            ("srun -n2 torchrun --nnodes=2 --nproc-per-node 4 t.py", 8),
            ("N=$((SLURM_NNODES * 4)); srun -n $N rust-train", 8),
            ("srun hostname; srun rust-train fetch x; srun rust-train", 8),
            ("accelerate launch --num_processes 16 t.py", 16),
            ("deepspeed t.py", 4), // no hostfile: this node
            ("deepspeed --hostfile hosts t.py", 0),
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
