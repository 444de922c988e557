//! Slurm's srun: a task for each of the step's tasks. Options from `src/common/slurm_opt.c`, Slurm 20.11 to 26.11.

use sbatch::Version;
use shell::Reason;

use super::super::launcher::{Around, Launcher, Processes, Reach, number, origin};
use super::super::options::{Given, Grammar, Options, Style, Unlisted};
use crate::number::Number;
use crate::origin::Origin;

/// Options with a value, and those of plugins that many sites have (pyxis, shifter).
const VALUES: &str = "\
    accel-bind account A acctg-freq autocomplete bb bbf bcast-exclude begin b chdir D cluster cluster-constraint \
    clusters M comment constraint C container container-id context core-spec S cores-per-socket cpu-bind \
    cpu-freq cpus-per-gpu cpus-per-task c deadline delay-boot dependency d distribution m epilog error e exclude \
    x export extra extra-node-info B gid gpu-bind gpu-freq gpus G gpus-per-node gpus-per-socket gpus-per-task \
    gres gres-flags het-group hint ignore-signals input i job-name J jobid licenses L mail-type mail-user \
    mcs-label mem mem-bind mem-per-cpu mem-per-gpu mem-update mincpus mpi msg-timeout network nodefile F \
    nodelist w nodes N ntasks n ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket ntasks-per-tres \
    open-mode output o pack-group partition p power prefer priority profile prolog qos q relative r reservation \
    resources runtime segment signal slurmd-debug sockets-per-node switches task-epilog task-prolog \
    tasks-per-node thread-spec threads T threads-per-core time t time-min tmp treewidth tres-bind tres-per-task \
    uid wait W wckey P container-image container-mounts container-workdir container-name container-save \
    container-env image volume module";

/// Options without one, or with one behind `=` only.
const FLAGS: &str = "\
    async consolidate-segments contiguous debugger-test disable-status X exact external-launcher help h hold H \
    interactive label l multi-prog no-allocate Z overcommit O oversubscribe s parsable preserve-env E pty quiet \
    Q quit-on-interrupt reboot spread-job spread-segments stepmgr test-only unbuffered u usage use-min-nodes \
    verbose v version V wait-for-children whole overlap bcast compress exclusive immediate I kill-on-bad-exit K \
    nice no-kill k oom-kill-step propagate resv-ports send-libs x11 container-mount-home no-container-mount-home \
    container-remap-root no-container-remap-root container-entrypoint no-container-entrypoint container-writable \
    container-readonly";

/// All its options, for whoever means one of them.
pub(crate) const OPTIONS: &str = VALUES;

pub(crate) const SRUN: Launcher = Launcher {
    name: "srun",
    programs: &[&["srun"]],
    modules: &[],
    grammar: Grammar {
        values: VALUES,
        pairs: "",
        flags: FLAGS,
        glued: "I K k",
        style: Style::Getopt,
        unlisted: Unlisted::Flag,
    },
    environment: &[],
    reach: Reach::Job,
    processes,
};

/// Options that count tasks or nodes in a way that is not followed.
const COUNTING: &[&str] =
    &["ntasks-per-gpu", "ntasks-per-tres", "ntasks-per-socket", "ntasks-per-core", "tres-per-task", "het-group"];

fn processes(options: &Options, around: &Around<'_>) -> Processes {
    let placement = around.placement;
    let of_job = || placement.nodes.clone();
    let nodes = match options.text(&["nodes", "N"]) {
        Given::No => of_job(),
        Given::Is(text, span) => match text.split_once('-').map_or((text, text), |(least, most)| (least, most)) {
            (least, most) if least == most => match least.parse() {
                Ok(nodes) => Number::Exactly(nodes),
                Err(_) => Number::Unknown(Reason::new(format!("'{text}' is no number of nodes"), span)),
            },
            _ => Number::Unknown(Reason::new(format!("srun may take any of {text} nodes"), span)),
        },
        Given::Unknown(reason) => Number::Unknown(reason),
    };
    let names = ["ntasks", "n"];
    let per_node_names = ["ntasks-per-node", "tasks-per-node"];
    let counted = COUNTING.iter().find_map(|name| options.get(&[name]));
    let total = number(options, &names, || match (counted, options.number(&per_node_names)) {
        (Some(word), _) => Number::Unknown(Reason::new("srun counts its tasks by what each of them gets", word.span)),
        // The number of tasks comes from the job (SLURM_NTASKS) where that has one, whatever is said of each node.
        _ if around.has_tasks => on_fewer_nodes(options, around, &nodes),
        (None, Given::Is(per_node, _)) => nodes.times(&Number::Exactly(per_node)),
        (None, Given::Unknown(reason)) => Number::Unknown(reason),
        (None, Given::No) => tasks_of_job(options, around, &nodes),
    });
    let origin = match options.number(&per_node_names) {
        Given::Is(..) if options.get(&names).is_none() && !around.has_tasks => {
            Origin::Derived("srun's nodes × tasks per node")
        }
        _ if options.get(&names).is_some() => origin(options, &names, "srun's tasks"),
        _ if options.get(&["nodes", "N"]).is_some() && !around.has_tasks => {
            Origin::Derived("one for each of srun's nodes")
        }
        _ => placement.tasks.origin.clone(),
    };
    let given_nodes = options.get(&["nodes", "N"]).is_some();
    // Fewer tasks than nodes: srun takes as many nodes as there are tasks.
    let nodes = match (&total, &nodes) {
        (Number::Exactly(tasks), Number::Exactly(nodes)) => Number::Exactly((*nodes).min((*tasks).max(1))),
        _ => nodes,
    };
    let mut processes = Processes::over(total, nodes, origin);
    let spread = options.get(&names).is_some() || !around.has_tasks;
    if let (Given::Is(per_node, _), true) = (options.number(&per_node_names), spread)
        && processes.nodes.times(&Number::Exactly(per_node)).least() >= processes.total.least()
    {
        let most = processes.total.exactly().unwrap_or(per_node);
        processes.per_node = Number::Exactly(per_node.min(most));
    } else if processes.total == placement.tasks.value && !given_nodes {
        processes.per_node = placement.tasks_per_node.clone();
    }
    processes
}

/// The job's tasks, on as many nodes as srun asks for: from Slurm 24.05 on only those of these nodes, before all of them.
fn on_fewer_nodes(options: &Options, around: &Around<'_>, nodes: &Number) -> Number {
    let all = &around.placement.tasks.value;
    let (Some(own), Number::Exactly(own_nodes), Number::Exactly(job_nodes)) =
        (options.get(&["nodes", "N"]), nodes, &around.placement.nodes)
    else {
        return all.clone();
    };
    match own_nodes.cmp(job_nodes) {
        std::cmp::Ordering::Equal => all.clone(),
        std::cmp::Ordering::Greater => {
            Number::Unknown(Reason::new("srun asks for more nodes than the job has, as it stands", own.span))
        }
        std::cmp::Ordering::Less => match around.slurm {
            Some(slurm) if slurm >= Version::new(24, 5) => nodes.times(&around.placement.tasks_per_node),
            Some(_) => all.clone(),
            None => Number::Unknown(Reason::new(
                "how many of the job's tasks come on fewer nodes depends on Slurm's release (--slurm)",
                own.span,
            )),
        },
    }
}

/// Without a number of its own or of the job's.
fn tasks_of_job(options: &Options, around: &Around<'_>, nodes: &Number) -> Number {
    let cpus = options.get(&["cpus-per-task", "c"]);
    // As many as each task of the job has: then one fits where one was to be.
    let same = cpus.is_some_and(|cpus| {
        cpus.known().and_then(|text| text.parse().ok()) == around.cpus_per_task
            || cpus.variables.iter().any(|name| name == "SLURM_CPUS_PER_TASK")
    });
    if let Some(cpus) = cpus.filter(|_| !same) {
        return Number::Unknown(Reason::new(
            "srun starts as many tasks as fit, because nothing says how many",
            cpus.span,
        ));
    }
    let one_each = match options.get(&["nodes", "N"]) {
        Some(_) => nodes.clone(),
        None => around.placement.tasks.value.clone(),
    };
    // Where srun knows of the job's CPUs per task, it starts as many as fit on a whole node. From 22.05 on it did not.
    let does_not_know = |slurm: Version| slurm >= Version::new(22, 5) && slurm < Version::new(24, 5);
    if around.whole_nodes && around.cpus_per_task.is_some() && !around.slurm.is_some_and(does_not_know) {
        let text = "the job has whole nodes and says no number of tasks: srun may start as many as fit";
        return one_each.or_more(Reason::new(text, None));
    }
    one_each
}
