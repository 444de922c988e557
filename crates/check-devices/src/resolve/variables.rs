//! The environment of the batch script, as far as it follows from the layout.

use std::collections::HashMap;

use crate::job::Job;
use crate::origin::Sourced;

/// The variables that Slurm sets in the batch script, as far as they follow from the layout.
pub(super) fn slurm_variables(job: &Job) -> HashMap<String, Option<String>> {
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
        "ROCR_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "HOSTNAME",
        "RANDOM",
    ];
    set(&unknown, None);
    known
}
