//! Hugging Face's accelerate launch (0.10 to 1.15): a launcher on each machine; `--num_processes` counts over all of them.

use shell::Reason;

use super::super::launcher::{Around, Launcher, Processes, Reach, number};
use super::super::options::{Given, Grammar, Options, Style, Unlisted};
use crate::number::Number;
use crate::origin::Origin;

pub(crate) const ACCELERATE: Launcher = Launcher {
    name: "accelerate launch",
    programs: &[&["accelerate", "launch"], &["accelerate-launch"]],
    modules: &["accelerate.commands.launch"],
    grammar: Grammar {
        values: "config-file mixed-precision num-processes num-machines num-cpu-threads-per-process dynamo-backend dynamo-mode \
                 gpu-ids machine-rank main-process-ip main-process-port t tee log-dir role rdzv-backend rdzv-conf max-restarts \
                 monitor-interval vm env main-training-function gradient-accumulation-steps gradient-clipping mpirun-hostfile \
                 mpirun-ccl tp-size deepspeed-config-file zero-stage",
        pairs: "",
        flags: "h help q quiet cpu multi-gpu tpu enable-cpu-affinity dynamo-use-fullgraph dynamo-use-dynamic \
                dynamo-use-regional-compilation use-deepspeed use-fsdp use-parallelism-config use-megatron-lm same-network m \
                module no-python tpu-cluster no-tpu-cluster tpu-use-sudo downcast-bf16 fp8-use-autocast-during-eval debug fp16 \
                use-mps-device mps ipex use-xpu use-tp",
        glued: "",
        style: Style::Getopt,
        // Everything of FSDP, DeepSpeed, Megatron and fp8 takes a value.
        unlisted: Unlisted::Value,
    },
    environment: &[],
    reach: Reach::Node,
    processes,
};

fn processes(options: &Options, around: &Around<'_>) -> Processes {
    let config = match options.text(&["config-file"]) {
        Given::Is(path, span) => (around.read)(path)
            .ok_or_else(|| Reason::new(format!("accelerate's configuration {path} is not here to be read"), span)),
        Given::Unknown(reason) => Err(reason),
        Given::No => Err(Reason::new("accelerate takes it from a configuration of the user, or counts the GPUs", None)),
    };
    let of_config = |key: &str| match &config {
        Ok(text) => {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
            line.and_then(|value| value.trim().parse().ok()).map(Number::Exactly)
        }
        Err(_) => None,
    };
    let unknown = |config: &Result<String, Reason>| match config {
        Ok(_) => Number::Unknown(Reason::new("accelerate's configuration does not say it", None)),
        Err(reason) => Number::Unknown(reason.clone()),
    };
    let total = number(options, &["num-processes"], || of_config("num_processes").unwrap_or_else(|| unknown(&config)));
    let machines = number(options, &["num-machines"], || match (of_config("num_machines"), &config) {
        (Some(machines), _) => machines,
        (None, Ok(_)) => Number::Exactly(1),
        // Started once, it can join nobody.
        (None, Err(_)) if around.outer.total.times(&around.copies) == Number::Exactly(1) => Number::Exactly(1),
        (None, Err(reason)) => Number::Unknown(reason.clone()),
    });
    let each = total.spread_over(&machines);
    let mut processes =
        Processes::of_agents(&each, machines, around, Origin::Derived("accelerate's processes on all machines"));
    // It is the total that is counted, on however many machines.
    processes.total = total;
    processes
}
