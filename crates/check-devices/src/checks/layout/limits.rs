//! L14–L17: memory and time.

use sbatch::value::{Memory, TimeLimit};

use super::super::need::{need, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::subject::Subject;

pub(crate) const L14: Check = Check {
    id: "L14",
    title: "no memory is asked for",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "Without --mem, --mem-per-cpu or --mem-per-gpu the job gets the partition's default, often a few GB for \
                  each CPU, and is killed when decoding images needs more. --exclusive gives all CPUs and GPUs of a \
                  node, but not its memory; --mem=0 does. A warning where the default is known to be less than all \
                  (--login, site file), good to know otherwise.",
    source: "sbatch(1), --mem, --exclusive; slurm.conf(5), DefMemPerCPU",
    run: |subject| {
        need!(slurm_script(subject));
        let job = subject.job();
        if ["mem", "mem-per-cpu", "mem-per-gpu"].iter().any(|option| job.has(option)) {
            return Outcome::Pass;
        }
        let kinds = subject.node_kinds(job);
        let defaults: Option<Vec<_>> = kinds.iter().flatten().map(|kind| kind.default_memory.clone()).collect();
        let finding = match (&kinds, defaults.as_deref()) {
            (Some(_), Some([all, ..])) if all == "all" => return Outcome::Pass,
            (Some(_), Some([default, ..])) => {
                Finding::warning(format!("the job asks for no memory, and gets the partition's default, {default}"))
            }
            (Some(_), _) => Finding::warning("the job asks for no memory, and gets the partition's default"),
            // What that is may be all that a node has.
            (None, _) => {
                Finding::info("the job asks for no memory, and gets the partition's default, which is not known here")
            }
        };
        let finding = match job.has("exclusive") {
            true => finding.at(job.span("exclusive"), "gives CPUs and GPUs, not memory"),
            false => finding,
        };
        Outcome::of([finding.help("add --mem=64G (on each node), or --mem=0 for all that a node has")])
    },
};

pub(crate) const L15: Check = Check {
    id: "L15",
    title: "more memory than a node has",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "Memory on each node must not exceed what Slurm counts as a node's memory, which is less than what is built \
                  in. The job would be refused.",
    source: "sinfo; Slurm, Requested node configuration is not available",
    run: |subject| {
        let job = subject.job();
        let (wanted, at) = match wanted_memory(subject) {
            Some(wanted) => wanted,
            None => return Outcome::skip("no amount of memory on a node follows from the job"),
        };
        let kinds = subject.node_kinds(job).unwrap_or_default();
        let Some(most) = kinds.iter().filter_map(|kind| kind.memory_mib).max() else {
            return Outcome::unknown("the memory of the partition's nodes is not known");
        };
        if wanted <= most {
            return Outcome::Pass;
        }
        let (wanted, most) = (Memory { mib: wanted }, Memory { mib: most });
        Outcome::of([Finding::error(format!("{wanted} on a node, and the partition's nodes have {most}"))
            .at(at, "")
            .help(format!("ask for at most --mem={}M, or --mem=0 for all of it", most.mib))])
    },
};

/// MiB on the fullest node, and where that was asked for.
fn wanted_memory(subject: &Subject<'_>) -> Option<(u64, Option<source_text::Span>)> {
    let job = subject.job();
    let layout = subject.first_layout();
    if let Some(memory) = &job.memory_per_node {
        return Some((memory.value.mib, memory.span()));
    }
    if let Some(memory) = &job.memory_per_cpu {
        let tasks = layout.placement.tasks_per_node.exactly()?;
        let cpus = job.cpus_per_task.as_ref().map_or(1, |cpus| cpus.value).saturating_mul(tasks);
        return Some((memory.value.mib.saturating_mul(cpus as u64), memory.span()));
    }
    let memory = job.memory_per_gpu.as_ref()?;
    let gpus = layout.placement.gpus_per_node.as_ref()?.value.exactly()? as u64;
    Some((memory.value.mib.saturating_mul(gpus), memory.span()))
}

pub(crate) const L16: Check = Check {
    id: "L16",
    title: "no time limit",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "Without --time the job gets the partition's default, which may be minutes or its maximum. A limit near the \
                  truth also lets the scheduler start the job earlier, in gaps between others.",
    source: "sbatch(1), --time; slurm.conf(5), DefaultTime",
    run: |subject| {
        need!(slurm_script(subject));
        if subject.job().has("time") {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning("the job has no time limit, and gets the partition's default")
            .help("add --time=hours:minutes:seconds")])
    },
};

pub(crate) const L17: Check = Check {
    id: "L17",
    title: "more time than the partition allows",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "A time limit above the partition's is refused, or waits for ever, as the site has set it up.",
    source: "sinfo; slurm.conf(5), EnforcePartLimits",
    run: |subject| {
        let job = subject.job();
        let time = need!(job.time.as_ref(), "the job has no time limit");
        let kinds = subject.node_kinds(job).unwrap_or_default();
        let limits: Vec<_> =
            kinds.iter().filter_map(|kind| kind.time_limit.as_deref()?.parse::<TimeLimit>().ok()).collect();
        let Some(longest) = limits.into_iter().max() else {
            return Outcome::unknown(format!("the {}'s time limit is not known", subject.queue_word()));
        };
        if time.value <= longest {
            return Outcome::Pass;
        }
        let above = format!("the time limit {} is above the {}'s, {longest}", time.value, subject.queue_word());
        Outcome::of([Finding::error(above).at(time.span(), "").help(match subject.scheduler() {
            None => format!("use at most --time={longest}"),
            Some(_) => format!("use at most {longest} (days-hours:minutes:seconds)"),
        })])
    },
};
