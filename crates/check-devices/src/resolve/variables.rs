//! The environment of the batch script, as far as it follows from the layout.

use batch_script::Scheduler;
use shell::{Lines, Reason, Shell, Value};

use crate::job::Job;
use crate::number::Number;

/// Sets the variables that Slurm sets in the batch script.
pub(super) fn set_slurm_variables(shell: &mut Shell<'_>, job: &Job) {
    let nodes = job.node_counts().first().copied().unwrap_or(1);
    let placement = job.placement(nodes);
    let is_range = job.nodes.as_ref().is_some_and(|nodes| !nodes.value.is_exact());
    let number = |number: &Number| match number {
        Number::Exactly(count) if !is_range => Value::Text(count.to_string()),
        Number::Exactly(_) => Value::Unknown(Reason::new("the number of nodes is a range", job.span("nodes"))),
        Number::AtLeast(_, reason) | Number::Unknown(reason) => Value::Unknown(reason.clone()),
    };
    let given = |name: &str| Value::Text(job.text(name).map_or_else(String::new, |text| text.value));
    let mut set = |names: &[&str], value: Value| names.iter().for_each(|name| shell.set(name, value.clone()));
    set(&["SLURM_NNODES", "SLURM_JOB_NUM_NODES"], number(&placement.nodes));
    // Without any option for tasks SLURM_NTASKS is not set.
    let tasks = if job.has_tasks() { number(&placement.tasks.value) } else { Value::Text(String::new()) };
    set(&["SLURM_NTASKS", "SLURM_NPROCS"], tasks);
    let on_a_node = match (&placement.tasks.value, &placement.nodes) {
        (Number::Exactly(tasks), Number::Exactly(nodes)) if tasks % nodes.max(&1) == 0 && !is_range => {
            let times = if *nodes > 1 { format!("(x{nodes})") } else { String::new() };
            Value::Text(format!("{}{times}", tasks / nodes.max(&1)))
        }
        _ => Value::Unknown(Reason::new("the tasks need not be spread evenly", None)),
    };
    set(&["SLURM_TASKS_PER_NODE"], on_a_node);
    for name in ["NTASKS_PER_NODE", "CPUS_PER_TASK", "GPUS_PER_NODE", "GPUS", "GPUS_PER_TASK", "CPUS_PER_GPU"] {
        set(&[&format!("SLURM_{name}")], given(&name.to_ascii_lowercase().replace('_', "-")));
    }
    set(&["SLURM_JOB_PARTITION"], given("partition"));
    let gpus = match &placement.gpus_per_node {
        Some(gpus) => number(&gpus.value),
        None => Value::Unknown(Reason::new("how many GPUs the job gets without asking for them is not known", None)),
    };
    set(&["SLURM_GPUS_ON_NODE"], gpus);
    // In the batch shell these are its own: it is task 0 on node 0.
    set(&["SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"], Value::Text("0".to_owned()));
    const OF_THE_RUN: &[&str] = &[
        "SLURM_JOB_ID",
        "SLURM_JOBID",
        "SLURM_JOB_NODELIST",
        "SLURM_NODELIST",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_JOB_ID",
        "SLURM_ARRAY_TASK_COUNT",
        "SLURM_TMPDIR",
        "SLURM_JOB_NAME",
        "SLURM_RESTART_COUNT",
        "SLURM_CPUS_ON_NODE",
        "SLURM_JOB_CPUS_PER_NODE",
        "SLURM_MEM_PER_NODE",
        "SLURM_JOB_GPUS",
        "SLURMD_NODENAME",
        "SLURM_LAUNCH_NODE_IPADDR",
        "CUDA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "HOSTNAME",
        "RANDOM",
        "TMPDIR",
        "LINENO",
        "SECONDS",
        "PPID",
        "BASHPID",
        "EPOCHSECONDS",
    ];
    for name in OF_THE_RUN {
        shell.set(name, Value::Unknown(Reason::new(format!("${name} is known only when it runs"), None)));
    }
}

/// Sets the variables that another scheduler sets in its batch script.
pub(super) fn set_variables(shell: &mut Shell<'_>, job: &Job, scheduler: Scheduler) {
    let nodes = job.node_counts().first().copied().unwrap_or(1);
    let placement = job.placement(nodes);
    let number = |number: &Number| match number {
        Number::Exactly(count) => Value::Text(count.to_string()),
        Number::AtLeast(_, reason) | Number::Unknown(reason) => Value::Unknown(reason.clone()),
    };
    let tasks = match &job.tasks {
        Some(_) => number(&placement.tasks.value),
        None => Value::Unknown(Reason::new("the script does not say how many tasks there are", None)),
    };
    let (counts, of_the_run): (&[(&str, Value)], &[&str]) = match scheduler {
        Scheduler::Pbs => (
            // Torque's; PBS Professional sets none of them.
            &[
                ("PBS_NP", tasks),
                ("PBS_NUM_NODES", number(&placement.nodes)),
                ("PBS_NUM_PPN", number(&placement.tasks_per_node)),
            ],
            &["PBS_JOBID", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "PBS_JOBNAME", "PBS_JOBDIR", "NCPUS", "OMP_NUM_THREADS"],
        ),
        // Where nodes are asked for, the launch node counts among the slots.
        Scheduler::Lsf if job.whole_nodes => {
            (&[], &["LSB_JOBID", "LSB_DJOB_NUMPROC", "LSB_HOSTS", "LSB_MCPU_HOSTS", "LSB_DJOB_HOSTFILE"])
        }
        Scheduler::Lsf => (
            &[("LSB_DJOB_NUMPROC", tasks)],
            &["LSB_JOBID", "LSB_JOBINDEX", "LSB_HOSTS", "LSB_MCPU_HOSTS", "LSB_MAX_NUM_PROCESSORS"],
        ),
        Scheduler::Flux => (&[], &["FLUX_JOB_ID", "FLUX_JOB_NNODES", "FLUX_JOB_SIZE", "FLUX_TASK_RANK"]),
        Scheduler::Sge => (&[("NSLOTS", tasks)], &["JOB_ID", "NHOSTS", "PE_HOSTFILE", "SGE_TASK_ID"]),
    };
    for (name, value) in counts {
        shell.set(name, value.clone());
    }
    // One line for each slot; of whole nodes with a launch node in front it depends on the site.
    let lines = Lines {
        all: placement.tasks.value.exactly().filter(|_| job.tasks.is_some()),
        different: placement.nodes.exactly(),
    };
    let nodefile = match scheduler {
        Scheduler::Pbs => Some("PBS_NODEFILE"),
        Scheduler::Lsf if !job.whole_nodes => Some("LSB_DJOB_HOSTFILE"),
        _ => None,
    };
    if let Some(name) = nodefile {
        let path = format!("/the/file/of/{name}");
        shell.set(name, Value::Text(path.clone()));
        shell.set_lines(&path, lines);
    }
    for name in of_the_run.iter().chain(&["CUDA_VISIBLE_DEVICES", "HOSTNAME", "RANDOM", "TMPDIR"]) {
        shell.set(name, Value::Unknown(Reason::new(format!("${name} is known only when it runs"), None)));
    }
}
