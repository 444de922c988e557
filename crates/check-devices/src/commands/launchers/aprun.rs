//! Cray's aprun.

use super::super::launcher::{Around, Launcher, Processes, Reach, number, origin};
use super::super::options::{Given, Grammar, Options, Style, Unlisted};
use crate::number::Number;

pub(crate) const APRUN: Launcher = Launcher {
    name: "aprun",
    programs: &[&["aprun"]],
    modules: &[],
    grammar: Grammar {
        values: "n pes N pes-per-node d cpus-per-pe depth S pes-per-numa-node j cpus-per-cu cc cpu-binding cp cpu-binding-file sn \
                 numa-nodes-per-node sl numa-node-list a architecture D debug e environment-override E exclude-node-list F \
                 access-mode L node-list l node-list-file m memory-per-pe p protection-domain p-governor p-state r \
                 specialized-cpus R relaunch t cpu-time-limit pmi umask wdir Z",
        pairs: "",
        flags: "b bypass-app-transfer B batch-args C reconnect q quiet T sync-output ss strict-memory-containment z zone-sort v h \
                help version abort-on-failure no-abort-on-failure",
        glued: "",
        style: Style::Getopt,
        unlisted: Unlisted::Value,
    },
    environment: &[],
    reach: Reach::Job,
    processes,
};

fn processes(options: &Options, around: &Around<'_>) -> Processes {
    let names = ["n", "pes"];
    let total = match options.get(&["B", "batch-args"]) {
        Some(_) => around.placement.tasks.value.clone(),
        None => number(options, &names, || Number::Exactly(1)),
    };
    let per_node = match options.number(&["N", "pes-per-node"]) {
        Given::Is(count, _) => Some(Number::Exactly(count)),
        Given::Unknown(reason) => Some(Number::Unknown(reason)),
        Given::No => None,
    };
    let nodes = per_node.as_ref().map_or_else(|| around.placement.nodes.clone(), |count| total.spread_over(count));
    let mut processes = Processes::over(total, nodes, origin(options, &names, "aprun's processes"));
    if let (Some(Number::Exactly(count)), Some(total)) = (per_node, processes.total.exactly()) {
        processes.per_node = Number::Exactly(count.min(total));
    }
    processes
}
