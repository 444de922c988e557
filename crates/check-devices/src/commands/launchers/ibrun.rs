//! TACC's ibrun: all tasks of the job, or `-n` of them.

use super::super::launcher::{Around, Launcher, Processes, Reach, number, origin};
use super::super::options::{Grammar, Options, Style, Unlisted};

pub(crate) const IBRUN: Launcher = Launcher {
    name: "ibrun",
    programs: &[&["ibrun"]],
    modules: &[],
    grammar: Grammar {
        values: "n np o m c 2 npernode ppn tpp tpr affinity",
        pairs: "",
        flags: "v h help d verbose",
        glued: "",
        style: Style::Words,
        unlisted: Unlisted::Flag,
    },
    environment: &[],
    reach: Reach::Job,
    processes,
};

fn processes(options: &Options, around: &Around<'_>) -> Processes {
    let names = ["n", "np"];
    let placement = around.placement;
    let total = number(options, &names, || placement.tasks.value.clone());
    let is_whole = total == placement.tasks.value;
    let mut processes = Processes::over(total, placement.nodes.clone(), origin(options, &names, "the job's tasks"));
    if is_whole {
        processes.per_node = placement.tasks_per_node.clone();
    }
    processes
}
