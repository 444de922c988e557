//! From flags, script and surroundings to the subject that the checks look at: every value with its origin.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use layout::{BatchFactors, DeviceRequest};
use sbatch::{Request, Script, Version};

use crate::cli::{JudgeArgs, TrainingArgs};
use crate::commands::{Launch, Launcher, launches, trainer};
use crate::commands::{Trainer, TrainerKind};
use crate::facts::Facts;
use crate::job::{Job, Placement};
use crate::memory;
use crate::origin::{Origin, Sourced};
use crate::shell;
use crate::site::Site;
use crate::subject::{Layout, PathUse, ScriptFile, Subject, Training};

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
    let flag_request: Option<DeviceRequest> =
        args.device.as_deref().map(|text| text.parse().context("--device")).transpose()?;
    let mut training = training_of_flags(args, &around.site)?;
    training.device = args.device.clone().map(|text| Sourced::new(text, Origin::Flag));
    training.request = flag_request;

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
    if let Some(trainer) = main.and_then(trainer) {
        complete_from_trainer(&mut training, &trainer);
    }
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
    ensure!(args.batch.is_none_or(|batch| batch > 0 || batch == -1), "--batch: must be at least 1");
    let counts = [
        ("--nodes", args.nodes),
        ("--accumulation", args.accumulation),
        ("--micro-batch", args.micro_batch),
        ("--ranks-per-node", args.ranks_per_node),
        ("--samples", args.samples),
        ("--image-size", args.training.image_size),
        ("--classes", args.training.classes),
    ];
    for (flag, value) in counts {
        ensure!(value != Some(0), "{flag}: must be at least 1");
    }
    ensure!(args.lr.is_none_or(|lr| lr.is_finite() && lr > 0.0), "--lr: must be positive");
    Ok(())
}

fn training_of_flags(args: &JudgeArgs, site: &Site) -> anyhow::Result<Training> {
    fn flag<T>(value: Option<T>) -> Option<Sourced<T>> {
        value.map(|value| Sourced::new(value, Origin::Flag))
    }
    let TrainingArgs { model, image_size, classes, optimizer, precision, accelerator } = &args.training;
    if let Some(model) = model {
        architectures::architecture(model).context("--model")?;
    }
    let accelerator =
        accelerator.as_deref().map(|name| memory::accelerator(name, site).context("--gpu")).transpose()?;
    Ok(Training {
        batch: flag(args.batch.and_then(|batch| usize::try_from(batch).ok())),
        auto_batch: (args.batch == Some(-1)).then_some(Origin::Flag),
        micro_batch: flag(args.micro_batch),
        accumulation: flag(args.accumulation),
        model: flag(model.clone()),
        image_size: flag(*image_size),
        classes: *classes,
        optimizer: flag(*optimizer),
        precision: flag(*precision),
        accelerator: flag(accelerator),
        samples: flag(args.samples),
        learning_rate: flag(args.lr),
        loader_threads: flag(args.loader_threads),
        checkpoint_seconds: flag(args.checkpoint_seconds),
        local_batch_norm: true,
        ..Training::default()
    })
}

/// What the script's own command line says, where no flag does.
fn complete_from_trainer(training: &mut Training, trainer: &Trainer<'_>) {
    let batch_flags: &[&str] = match trainer.kind {
        TrainerKind::RustTrain => &["batch"],
        TrainerKind::Yolo => &["batch-size", "batch"],
    };
    let natural = |names: &[&str]| {
        let (value, span) = trainer.number(names)?;
        Some(Sourced::new(usize::try_from(value).ok()?, Origin::Script(span)))
    };
    if training.batch.is_none() && training.auto_batch.is_none() {
        match trainer.number(batch_flags) {
            Some((-1, span)) => training.auto_batch = Some(Origin::Script(span)),
            _ => training.batch = natural(batch_flags),
        }
    }
    let text = |names: &[&str]| {
        let value = trainer.value(names)?;
        Some(Sourced::new(value.text?, Origin::Script(value.span)))
    };
    if training.device.is_none() {
        training.device = text(&["device"]);
        training.request = training.device.as_ref().and_then(|device| device.value.parse().ok());
    }
    if trainer.kind == TrainerKind::Yolo {
        training.local_batch_norm = !trainer.has("sync-bn");
        return; // its models are not ours
    }
    if training.batch.is_none() && training.auto_batch.is_none() && trainer.value(batch_flags).is_none() {
        training.batch = Some(Sourced::new(64, Origin::Derived("rust-train's default")));
    }
    if training.model.is_none() {
        training.model = text(&["model"]).filter(|model| architectures::architecture(&model.value).is_ok());
    }
    training.image_size = training.image_size.take().or_else(|| natural(&["image-size"]));
    training.loader_threads = training.loader_threads.take().or_else(|| natural(&["loader-threads"]));
    training.accumulation = training.accumulation.take().or_else(|| natural(&["accumulation"]));
    let paths = [
        (PathUse::Data, "data"),
        (PathUse::Cache, "cache"),
        (PathUse::Output, "output"),
        (PathUse::Weights, "weights"),
    ];
    training.paths.extend(paths.iter().filter_map(|&(purpose, flag)| Some((purpose, text(&[flag])?))));
}

fn accelerator_of_job(job: &Job, site: &Site) -> Option<Sourced<memory::Accelerator>> {
    let of_partition = || {
        let name = job.text("partition")?.value;
        let partition = site.partition.iter().find(|partition| partition.name == name)?;
        let accelerator = memory::accelerator(partition.accelerator.as_deref()?, site).ok()?;
        Some(Sourced::new(accelerator, Origin::Site))
    };
    let of_request = || {
        let accelerator = memory::accelerator(job.gpu_kind()?, site).ok()?;
        Some(Sourced::new(accelerator, job.gpu_request()?.origin.clone()))
    };
    of_partition().or_else(of_request)
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

/// The variables that Slurm sets in the batch script, as far as they follow from the layout.
fn slurm_variables(job: &Job) -> HashMap<String, Option<String>> {
    let nodes = job.node_counts().first().copied().unwrap_or(1);
    let placement = job.placement(nodes);
    let exact = job.nodes.as_ref().is_none_or(|nodes| nodes.value.is_exact());
    let number = |value: usize| exact.then(|| value.to_string());
    let given =
        |value: &Option<Sourced<usize>>| value.as_ref().map(|value| value.value.to_string()).or(Some(String::new()));
    let mut known: HashMap<String, Option<String>> = HashMap::new();
    let mut set = |names: &[&str], value: Option<String>| {
        known.extend(names.iter().map(|name| ((*name).to_owned(), value.clone())));
    };
    set(&["SLURM_NNODES", "SLURM_JOB_NUM_NODES"], number(placement.nodes));
    let tasks_given = job.tasks.is_some() || job.tasks_per_node.is_some() || job.tasks_per_gpu.is_some();
    // Without any option for tasks SLURM_NTASKS is not set.
    let tasks = if tasks_given { number(placement.tasks.value) } else { Some(String::new()) };
    set(&["SLURM_NTASKS", "SLURM_NPROCS"], tasks);
    set(&["SLURM_NTASKS_PER_NODE"], given(&job.tasks_per_node));
    set(&["SLURM_CPUS_PER_TASK"], given(&job.cpus_per_task));
    set(&["SLURM_GPUS_ON_NODE"], placement.gpus_per_node.map(|gpus| gpus.value.to_string()));
    for name in ["SLURM_GPUS_PER_NODE", "SLURM_GPUS", "SLURM_GPUS_PER_TASK"] {
        let option = name.trim_start_matches("SLURM_").to_ascii_lowercase().replace('_', "-");
        set(&[name], Some(job.text(&option).map_or_else(String::new, |text| text.value)));
    }
    let unknown = [
        "SLURM_JOB_ID",
        "SLURM_JOBID",
        "SLURM_PROCID",
        "SLURM_LOCALID",
        "SLURM_NODEID",
        "SLURM_JOB_NODELIST",
        "SLURM_NODELIST",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_JOB_ID",
        "SLURM_SUBMIT_DIR",
        "SLURM_TMPDIR",
        "SLURM_JOB_NAME",
        "SLURM_RESTART_COUNT",
        "CUDA_VISIBLE_DEVICES",
        "HOSTNAME",
        "RANDOM",
    ];
    set(&unknown, None);
    known
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

struct LayoutBuilder<'a, 's> {
    args: &'a JudgeArgs,
    training: &'a Training,
    has_script: bool,
    around: &'a Surroundings<'s>,
}

impl LayoutBuilder<'_, '_> {
    fn layout(&self, component: usize, job: &Job, nodes: usize, launch: Option<&Launch>) -> Layout {
        let placement = job.placement(nodes);
        let request = self.training.request.clone().unwrap_or_default();
        let present = self.devices(job, &placement, &request);
        let (devices, on_cpu) = match &request {
            DeviceRequest::Cpu => (0, true),
            DeviceRequest::Auto => (present.value, present.value == 0),
            DeviceRequest::Cuda => (present.value, false),
            DeviceRequest::CudaList(indices) => (indices.len(), false),
        };
        let started = launch.and_then(|launch| started_ranks(launch, &placement, present.value));
        let (ranks_per_node, ranks) = match (self.args.ranks_per_node, started) {
            (Some(per_node), _) => {
                let ranks = per_node.saturating_mul(placement.nodes);
                (Sourced::new(per_node, Origin::Flag), Sourced::new(ranks, Origin::Derived(NODES_TIMES_RANKS)))
            }
            (None, Some(started)) => {
                let per_node = started.value.div_ceil(placement.nodes.max(1));
                (Sourced::new(per_node, Origin::Derived("ranks / nodes")), started)
            }
            (None, None) if self.has_script || job.tasks.is_some() || job.tasks_per_node.is_some() => {
                let per_node = Sourced::new(placement.tasks_per_node, Origin::Derived("tasks per node"));
                (per_node, placement.tasks.clone())
            }
            (None, None) => {
                let per_node = match on_cpu {
                    true => Sourced::new(1, Origin::Default),
                    false => Sourced::new(devices.max(1), Origin::Derived("one for each device")),
                };
                let ranks = per_node.value.saturating_mul(placement.nodes);
                (per_node, Sourced::new(ranks, Origin::Derived(NODES_TIMES_RANKS)))
            }
        };
        let training = self.training;
        let factors = BatchFactors {
            global: training.batch.as_ref().map(|batch| batch.value),
            micro: training.micro_batch.as_ref().map(|micro| micro.value),
            accumulation: training.accumulation.as_ref().map(|accumulation| accumulation.value),
        };
        let batch = (factors.global.is_some() || factors.micro.is_some()).then(|| factors.solve(ranks.value));
        Layout { component, placement, devices: present, on_cpu, ranks_per_node, ranks, batch }
    }

    fn devices(&self, job: &Job, placement: &Placement, request: &DeviceRequest) -> Sourced<usize> {
        match (self.args.gpus_per_node, request) {
            (Some(gpus), _) => Sourced::new(gpus, Origin::Flag),
            (None, _) if self.has_script || job.asks_for_gpus() => {
                placement.gpus_per_node.clone().unwrap_or_else(|| {
                    let total = job.gpus.as_ref().map_or(0, |gpus| gpus.value.count);
                    Sourced::new(total / placement.nodes.max(1), Origin::Derived("GPUs / nodes, rounded down"))
                })
            }
            (None, DeviceRequest::Cpu) => Sourced::new(0, Origin::Derived("not asked")),
            (None, _) => Sourced::new((self.around.visible_devices)(), Origin::Machine),
        }
    }
}

const NODES_TIMES_RANKS: &str = "nodes × ranks per node";

/// How many ranks `launch` starts; `None` where its words do not say.
fn started_ranks(launch: &Launch, placement: &Placement, devices: usize) -> Option<Sourced<usize>> {
    if launch.steps.is_empty() {
        return Some(Sourced::new(1, Origin::Derived("no launcher: one process")));
    }
    // The outer launcher's tasks, then what each of them starts.
    let mut ranks: Option<Sourced<usize>> = None;
    for step in &launch.steps {
        let outer = ranks.as_ref().map_or(1, |ranks| ranks.value);
        let number = |names: &[&str]| step.number(names).map(|(value, span)| Sourced::new(value, Origin::Script(span)));
        let given = |names: &[&str]| step.option(names).is_some();
        ranks = Some(match step.launcher {
            Launcher::Srun => {
                let nodes = number(&["nodes", "N"]).map_or(placement.nodes, |nodes| nodes.value);
                match (number(&["ntasks", "n"]), number(&["ntasks-per-node"])) {
                    (Some(tasks), _) => tasks,
                    (None, Some(per_node)) => Sourced::new(
                        per_node.value.saturating_mul(nodes),
                        Origin::Derived("srun's nodes × tasks per node"),
                    ),
                    (None, None) if given(&["ntasks", "n", "ntasks-per-node"]) => return None,
                    (None, None) if given(&["nodes", "N"]) && placement.tasks.value == placement.nodes => {
                        Sourced::new(nodes, Origin::Derived("one for each of srun's nodes"))
                    }
                    (None, None) => placement.tasks.clone(),
                }
            }
            Launcher::Mpirun => match number(&["n", "np", "c"]) {
                Some(ranks) => ranks,
                None if given(&["n", "np", "c"]) => return None,
                None => match number(&["npernode", "N", "ppn", "perhost"]) {
                    Some(per_node) => Sourced::new(
                        per_node.value.saturating_mul(placement.nodes),
                        Origin::Derived("nodes × mpirun's ranks per node"),
                    ),
                    None => placement.tasks.clone(),
                },
            },
            Launcher::Torchrun => {
                let text = step.option(&["nproc-per-node"]);
                let per_agent = match text.map(|text| text.known()) {
                    None => 1,
                    Some(Some("gpu" | "auto")) => devices.max(1),
                    Some(Some(text)) => text.parse().ok()?,
                    Some(None) => return None,
                };
                Sourced::new(outer.saturating_mul(per_agent), Origin::Derived("torchrun's processes on each node"))
            }
            Launcher::Accelerate => match number(&["num-processes"]) {
                Some(ranks) => ranks,
                None if given(&["num-processes"]) => return None,
                None => {
                    Sourced::new(outer.saturating_mul(devices.max(1)), Origin::Derived("accelerate: one for each GPU"))
                }
            },
            Launcher::Deepspeed => {
                let per_node = match (number(&["num-gpus"]), given(&["num-gpus"])) {
                    (Some(gpus), _) => gpus.value,
                    (None, true) => return None,
                    (None, false) => devices.max(1),
                };
                Sourced::new(per_node.saturating_mul(placement.nodes), Origin::Derived("deepspeed: one for each GPU"))
            }
        });
    }
    ranks
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
            ("--batch 4096 --nodes 8 --gpus-per-node 4 --accumulation 2", 0, (32, 4, Some(64))),
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
    fn wrong_usage_is_no_verdict() {
        for (flags, words) in [
            ("--batch 0", "--batch: must be at least 1"),
            ("--batch 1 --nodes 0", "--nodes: must be at least 1"),
            ("--batch 1 --device 0,0", "--device: device 0 is listed twice"),
            ("--batch 1 --model resnet19", "--model: no model is called 'resnet19'"),
            ("--batch 1 --gpu quantum", "--gpu: no accelerator is called 'quantum'"),
            ("--batch 1 -- --nodez=2", "sbatch has no option '--nodez'"),
        ] {
            let error = judged(flags, None, 0).unwrap_err();
            assert!(format!("{error:#}").contains(words), "{error:#}");
        }
    }
}
