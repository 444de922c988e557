//! IBM's jsrun (resource sets × tasks in each), and lrun in front of it.

use shell::Reason;

use super::super::launcher::{Around, Launcher, Processes, Reach, number, origin};
use super::super::options::{Given, Grammar, Options, Style, Unlisted};
use crate::number::Number;
use crate::origin::Origin;

pub(crate) const JSRUN: Launcher = Launcher {
    name: "jsrun",
    programs: &[&["jsrun"]],
    modules: &[],
    grammar: Grammar {
        values: "n nrs a tasks-per-rs p np c cpu-per-rs g gpu-per-rs r rs-per-host K rs-per-socket l latency-priority m \
                 memory-per-rs d launch-distribution b bind e stdio-mode f appfile I stdin-rank k stdio-stderr o stdio-stdout t \
                 stdio-input h chdir A allocate-only erf-input erf-output H launch-node-task J use-reservation L use-spindle M \
                 smpiargs P pre-post-exec S save-resources U use-resources x exclude-hosts X exit-on-error Z progress \
                 print-placement D env-no-propagate E env F env-eval u debug",
        pairs: "",
        flags: "i immediate help usage V version",
        glued: "I K k",
        style: Style::Getopt,
        unlisted: Unlisted::Value,
    },
    environment: &[],
    reach: Reach::Job,
    processes: resource_sets,
};

fn resource_sets(options: &Options, around: &Around<'_>) -> Processes {
    if let Some(file) = options.get(&["f", "appfile", "erf-input"]) {
        let why = Number::Unknown(Reason::new("jsrun reads its tasks from a file", file.span));
        return Processes::over(why.clone(), why, Origin::Derived("jsrun's file"));
    }
    let nodes = || around.placement.nodes.clone();
    let on_a_host = match options.number(&["r", "rs-per-host"]) {
        Given::Is(count, _) => Some(Number::Exactly(count)),
        Given::Unknown(reason) if options.get(&["r", "rs-per-host"]).is_some() => Some(Number::Unknown(reason)),
        _ => None,
    };
    let sets = match options.text(&["n", "nrs"]) {
        Given::Is("ALL_HOSTS", _) => nodes().times(on_a_host.as_ref().unwrap_or(&Number::Exactly(1))),
        _ => number(options, &["n", "nrs"], || {
            number(options, &["p", "np"], || match &on_a_host {
                Some(count) => nodes().times(count),
                None => Number::Unknown(Reason::new("jsrun takes as many resource sets as fit", None)),
            })
        }),
    };
    let tasks = number(options, &["a", "tasks-per-rs"], || Number::Exactly(1));
    let total = sets.times(&tasks);
    let only_sets = options.get(&["a", "tasks-per-rs"]).is_none();
    let how = match only_sets {
        true => origin(options, &["n", "nrs", "p", "np"], "jsrun's resource sets"),
        false => Origin::Derived("jsrun's resource sets × tasks in each"),
    };
    let used = match (&sets, &on_a_host) {
        (Number::Exactly(_), Some(Number::Exactly(count))) => sets.spread_over(&Number::Exactly(*count)),
        _ => nodes(),
    };
    Processes::over(total, used, how)
}

pub(crate) const LRUN: Launcher = Launcher {
    name: "lrun",
    programs: &[&["lrun"]],
    modules: &[],
    grammar: Grammar {
        values: "n p T N c g W X threads smt mpibind bind gpubind core core-delay core-cpu core-gpu core-kill M",
        pairs: "",
        flags: "1 v vv vvv adv-map pack help",
        glued: "I K k",
        style: Style::Getopt,
        unlisted: Unlisted::Value,
    },
    environment: &[],
    reach: Reach::Job,
    processes: |options, around| {
        let nodes = number(options, &["N"], || around.placement.nodes.clone());
        let total = number(options, &["n", "p"], || match options.number(&["T"]) {
            Given::Is(count, _) => nodes.times(&Number::Exactly(count)),
            Given::Unknown(reason) => Number::Unknown(reason),
            Given::No => Number::Unknown(Reason::new("lrun is given no number of tasks", None)),
        });
        Processes::over(total, nodes, origin(options, &["n", "p"], "lrun's nodes × tasks on each"))
    },
};
