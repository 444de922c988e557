//! N: variables of NCCL and OpenMP.

use super::layout::cpus_of_a_rank;
use super::need::{exactly, need, script};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::number::Number;
use crate::subject::Subject;
use crate::words::plural;

/// The variable's value, from the script's exports, else from the task's environment.
fn value<'s>(subject: &'s Subject<'_>, name: &str) -> Option<(&'s str, Option<source_text::Span>)> {
    let of_script = subject.exports(name).and_then(|set| Some((set.value.known()?, Some(set.value.span))));
    of_script.or_else(|| subject.allocation()?.environment.get(name).map(|text| (text.as_str(), None)))
}

/// Variables for hunting bugs, and the values that cost speed or flood the log.
const DEBUGGING: &[(&str, &[&str], &str)] = &[
    ("NCCL_DEBUG", &["INFO", "TRACE"], "floods the log from every rank"),
    ("NCCL_P2P_DISABLE", &["1"], "sends gradients through host memory"),
    ("NCCL_SHM_DISABLE", &["1"], "sends gradients through the network"),
    ("TORCH_DISTRIBUTED_DEBUG", &["DETAIL"], "checks every collective"),
    ("CUDA_LAUNCH_BLOCKING", &["1"], "waits for every kernel"),
    ("TORCH_CUDNN_V8_API_DEBUG", &["1"], "checks every convolution"),
];

pub(crate) const N01: Check = Check {
    id: "N01",
    title: "a variable for debugging is left set",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "NCCL_DEBUG=INFO, NCCL_P2P_DISABLE=1, CUDA_LAUNCH_BLOCKING=1 and their like help to find a fault, and cost \
                  speed or fill the log once it is found.",
    source: "NCCL, Environment Variables; CUDA C++ Programming Guide",
    run: |subject| {
        need!(script(subject));
        let layout = subject.first_layout();
        let one = Number::Exactly(1);
        let one_device = layout.placement.nodes == one && layout.devices.value == one;
        let one_rank = layout.ranks.value == one || one_device;
        let no_device = layout.on_cpu || layout.devices.value.least() == 0 && !subject.job().asks_for_gpus();
        Outcome::of(DEBUGGING.iter().filter_map(|(name, values, harm)| {
            // One rank sends nothing, and without a GPU there is no kernel.
            if one_rank && name.starts_with("NCCL_") || no_device && name.starts_with("CUDA_") {
                return None;
            }
            let set = subject.exports(name)?;
            let text = set.value.known()?;
            values.iter().any(|value| value.eq_ignore_ascii_case(text)).then(|| {
                Finding::warning(format!("{name}={text} {harm}"))
                    .at(set.value.span, "for debugging")
                    .help("remove it when the fault is found")
            })
        }))
    },
};

pub(crate) const N02: Check = Check {
    id: "N02",
    title: "NCCL_SOCKET_IFNAME names no interface of the node",
    severity: Severity::Error,
    tier: Tier::Allocation,
    explanation: "NCCL_SOCKET_IFNAME is a list of prefixes (eth matches eth0), with = in front for whole names and ^ to \
                  exclude. Where it matches no interface, NCCL ends: \"no socket interface found\".",
    source: "NCCL, Environment Variables",
    run: |subject| {
        let facts = need!(subject.allocation(), Tier::Allocation.how());
        let (list, at) = need!(value(subject, "NCCL_SOCKET_IFNAME"), "NCCL_SOCKET_IFNAME is not set");
        if facts.interfaces.is_empty() {
            return Outcome::unknown("the node's interfaces cannot be read");
        }
        let (excludes, rest) = list.strip_prefix('^').map_or((false, list), |rest| (true, rest));
        let (whole, rest) = rest.strip_prefix('=').map_or((false, rest), |rest| (true, rest));
        let named = |interface: &String| {
            rest.split(',').any(|name| if whole { interface == name } else { interface.starts_with(name) })
        };
        if facts.interfaces.iter().any(|interface| named(interface) != excludes) {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!(
            "NCCL_SOCKET_IFNAME={list} matches no interface of {}: {}",
            facts.host,
            facts.interfaces.join(", ")
        ))
        .at(at, "")])
    },
};

pub(crate) const N03: Check = Check {
    id: "N03",
    title: "InfiniBand is switched off",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "NCCL_IB_DISABLE=1 sends the gradients between nodes over TCP, often ten times slower.",
    source: "NCCL, Environment Variables",
    run: |subject| {
        need!(script(subject));
        let (text, at) = need!(value(subject, "NCCL_IB_DISABLE"), "NCCL_IB_DISABLE is not set");
        let nodes = subject.layouts.iter().map(|layout| layout.placement.nodes.least()).max().unwrap_or(1);
        if text != "1" || nodes < 2 {
            return Outcome::Pass;
        }
        // Another network carries NCCL then: a plugin for libfabric, or one of its own.
        const OTHERS: &[&str] = &["FI_PROVIDER", "NCCL_NET", "NCCL_NET_PLUGIN", "NCCL_NET_OFI_MODULE"];
        if OTHERS.iter().any(|name| subject.exports(name).is_some()) {
            return Outcome::skip("NCCL is given another network");
        }
        Outcome::of([
            Finding::warning(format!("NCCL_IB_DISABLE=1 sends the gradients of {nodes} nodes over TCP")).at(at, "")
        ])
    },
};

pub(crate) const N04: Check = Check {
    id: "N04",
    title: "more threads than CPUs",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "OMP_NUM_THREADS is for each rank. Above its CPUs (--cpus-per-task of srun, else of the job) its threads take turns on them, \
                  and all become slower.",
    source: "OpenMP, OMP_NUM_THREADS; sbatch(1), --cpus-per-task",
    run: |subject| {
        need!(script(subject));
        let (text, at) = need!(value(subject, "OMP_NUM_THREADS"), "OMP_NUM_THREADS is not set");
        let Ok(threads) = text.parse::<usize>() else { return Outcome::Pass };
        let (cpus, cpus_at) = need!(cpus_of_a_rank(subject));
        if threads <= cpus {
            return Outcome::Pass;
        }
        let ranks = need!(exactly(&subject.first_layout().ranks_per_node.value));
        Outcome::of([Finding::warning(format!(
            "{threads} threads for each of {} on a node, and {} for each",
            plural(ranks, "rank"),
            plural(cpus, "CPU")
        ))
        .at(at, "threads of each rank")
        .at(cpus_at, "CPUs of each task")
        .help(format!("export OMP_NUM_THREADS=${{SLURM_CPUS_PER_TASK:-1}}, or --cpus-per-task={threads}"))])
    },
};
