//! L21, L28, L29: what this cluster has and allows.

use super::super::need::{need, slurm_script};
use crate::check::{Check, Outcome, Tier};
use crate::facts::Partition;
use crate::finding::{Finding, Severity};
use crate::subject::Subject;
use crate::words::plural;

pub(crate) const L21: Check = Check {
    id: "L21",
    title: "no such partition, or it lacks the GPUs",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "The partition must exist, take jobs, and have nodes with the GPUs that are asked for, in number and type, \
                  and as many nodes as the job wants.",
    source: "sinfo; Slurm, Invalid partition name specified",
    run: partition_and_gres,
};

fn partition_and_gres(subject: &Subject<'_>) -> Outcome {
    let job = subject.job();
    let word = subject.queue_word();
    let Some(all) = subject.partitions() else { return Outcome::unknown(format!("the {word}s are not known")) };
    let mut findings = Vec::new();
    let named = &job.queue;
    for name in named.iter().flat_map(|named| named.value.split(',')) {
        let at = named.as_ref().and_then(crate::origin::Sourced::span);
        // Of PBS also a reservation's (R123), and one of another server (gpu@there).
        let is_reservation = name.starts_with(['R', 'M', 'S']) && name[1..].starts_with(|c: char| c.is_ascii_digit());
        let elsewhere = subject.scheduler().is_some() && (name.contains('@') || is_reservation);
        if name.contains('$') || elsewhere {
            continue;
        }
        match all.iter().find(|partition| partition.name == name) {
            None => {
                let mut names: Vec<_> = all.iter().map(|partition| partition.name.as_str()).collect();
                names.dedup();
                findings.push(
                    Finding::error(format!("there is no {word} '{name}'"))
                        .at(at, "unknown")
                        .help(format!("there are: {}", names.join(", "))),
                );
            }
            Some(partition) if partition.up == Some(false) => {
                findings.push(Finding::error(format!("{word} '{name}' takes no jobs now")).at(at, "down"));
            }
            Some(_) => {}
        }
    }
    let Some(kinds) = subject.node_kinds(job) else {
        return if findings.is_empty() {
            Outcome::unknown(format!("no default {word} is known"))
        } else {
            Outcome::of(findings)
        };
    };
    findings.extend(lacking_gpus(subject, &kinds));
    findings.extend(lacking_nodes(subject, &kinds));
    Outcome::of(findings)
}

fn lacking_gpus(subject: &Subject<'_>, kinds: &[Partition]) -> Option<Finding> {
    let job = subject.job();
    // What GPUs a queue's nodes have only sinfo and the site file say.
    if subject.scheduler().is_some() && kinds.iter().all(|kind| kind.gres.is_none()) {
        return None;
    }
    let request = job.gpu_request().filter(|request| request.value.count > 0)?;
    // How many on a node is only known where it was asked for by node; a total spreads.
    let wanted = match (&job.gpus_per_node, &job.gpus, &job.nodes) {
        (None, Some(_), None) => 1,
        _ => subject.first_layout().placement.gpus_per_node.as_ref()?.value.exactly()?,
    };
    let most = kinds.iter().filter_map(Partition::gpus).max().unwrap_or(0);
    if wanted > most {
        let has = if most == 0 { "none".to_owned() } else { most.to_string() };
        return Some(
            Finding::error(format!("{} on a node, and the partition's nodes have {has}", plural(wanted, "GPU")))
                .at(request.span(), "")
                .help("choose a partition with such nodes, or more nodes with fewer GPUs each"),
        );
    }
    let kind = job.gpu_kind()?;
    let has_kind = kinds.iter().any(|partition| {
        let gres = partition.gres.as_deref().and_then(|gres| gres.parse::<sbatch::value::Gres>().ok());
        // A node that names no type matches none that is asked for, but the site file may leave it out.
        gres.is_some_and(|gres| gres.0.iter().any(|item| item.kind.as_deref().is_none_or(|known| known == kind)))
    });
    (!has_kind).then(|| {
        let types: Vec<_> = kinds.iter().filter_map(|partition| partition.gres.clone()).collect();
        Finding::error(format!("the partition has no GPU of type '{kind}'"))
            .at(request.span(), "")
            .help(format!("its nodes have: {}", types.join("; ")))
    })
}

fn lacking_nodes(subject: &Subject<'_>, kinds: &[Partition]) -> Option<Finding> {
    let nodes = subject.job().nodes.as_ref()?;
    let total: usize = kinds.iter().map(|partition| partition.nodes).sum::<Option<usize>>()?;
    (nodes.value.min > total).then(|| {
        let has = if subject.scheduler().is_some() { "allows" } else { "has" };
        Finding::error(format!("{} nodes, and the {} {has} {total}", nodes.value.min, subject.queue_word()))
            .at(nodes.span(), "")
            .help(format!("ask for at most {total}"))
    })
}

pub(crate) const L28: Check = Check {
    id: "L28",
    title: "the script submits a job",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "Many sites let no jobs be submitted from compute nodes, and a script that submits itself can do so for \
                  ever. The site file says whether it is allowed: submit_from_compute_nodes.",
    source: "slurm.conf(5), SubmitHosts",
    run: |subject| {
        need!(slurm_script(subject));
        let allowed = subject.site.submit_from_compute_nodes;
        let nested = subject.commands().iter().filter_map(|command| {
            let first = command.words.first()?;
            let name = first.known()?.rsplit('/').next()?;
            let wraps = matches!(name, "sbatch" | "salloc");
            wraps.then_some(first.span)
        });
        let nested: Vec<_> = nested.collect();
        if nested.is_empty() || allowed == Some(true) {
            return Outcome::Pass;
        }
        if allowed.is_none() {
            return Outcome::unknown(
                "whether jobs may be submitted from compute nodes: submit_from_compute_nodes in the site file",
            );
        }
        Outcome::of(nested.into_iter().map(|span| {
            Finding::warning("compute nodes of this site may not submit jobs")
                .at(span, "runs on a compute node")
                .help("submit both jobs from the login node, with --dependency")
        }))
    },
};

pub(crate) const L29: Check = Check {
    id: "L29",
    title: "the controller would refuse the job",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "sbatch --test-only asks the controller whether it would take the job, and submits nothing. It is asked only \
                  with --test-only, because it costs the controller a scheduling attempt.",
    source: "sbatch(1), --test-only",
    run: |subject| {
        let answer = subject.login().and_then(|login| login.test_only.as_ref());
        let answer = need!(answer, "--test-only was not given");
        if answer.accepted {
            return Outcome::Pass;
        }
        // The controller said nothing about the job.
        const NO_ANSWER: &[&str] = &[
            "Unable to contact",
            "Connection refused",
            "Connection timed out",
            "Socket timed out",
            "Zero Bytes",
            "Unable to connect",
            "Communication connection failure",
            "Could not establish a configuration source",
            "Invalid authentication",
        ];
        if let Some(line) = answer.message.lines().find(|line| NO_ANSWER.iter().any(|words| line.contains(words))) {
            return Outcome::unknown(format!("the controller does not answer: {}", line.trim()));
        }
        Outcome::of([Finding::error(format!("sbatch --test-only refuses the job: {}", answer.message.trim()))])
    },
};
