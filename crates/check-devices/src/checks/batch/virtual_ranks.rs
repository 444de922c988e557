//! B14: a batch in fixed parts, on any power of two of ranks.

use layout::nearest_multiples;
use source_text::Span;

use super::super::need::{exactly, need};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::subject::Subject;
use crate::words::plural;

pub(crate) const B14: Check = Check {
    id: "B14",
    title: "the ranks cannot share the virtual ranks",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "With --virtual-ranks V a batch is cut into V fixed parts, a power of two, which are added up along a binary tree: ranks \
                  are a power of two, too, at most V, and the batch is a multiple of V. Other numbers of ranks are refused when the job starts.",
    source: "rust-train: docs/virtual-ranks.md",
    run: |subject| {
        let virtual_ranks = need!(subject.training.virtual_ranks.as_ref(), "--virtual-ranks is not given");
        let parts = virtual_ranks.value;
        if !parts.is_power_of_two() {
            let finding = Finding::error(format!("--virtual-ranks {parts} is no power of two"));
            return Outcome::of([finding.at(virtual_ranks.span(), "")]);
        }
        let mut findings = Vec::new();
        if let Some(batch) = subject.training.batch.as_ref().filter(|batch| !batch.value.is_multiple_of(parts)) {
            let near: Vec<_> = nearest_multiples(batch.value, parts).iter().map(ToString::to_string).collect();
            let finding = Finding::error(format!("a batch of {} cannot be cut into {parts} parts", batch.value));
            findings.push(finding.at(batch.span(), "").help(format!("nearest batches that fit: {}", near.join(", "))));
        }
        let training = &subject.training;
        let others = [
            (!training.local_batch_norm, "--sync-bn"),
            (training.fit_memory, "--batch auto"),
            (training.accumulation.as_ref().is_some_and(|parts| parts.value != 1), "--accumulate"),
        ];
        for (_, flag) in others.into_iter().filter(|(is_given, _)| *is_given) {
            let finding = Finding::error(format!("--virtual-ranks does not go with {flag}"));
            findings.push(finding.at(virtual_ranks.span(), ""));
        }
        let (worlds, may_be_one) = match worlds(subject) {
            Ok(worlds) => worlds,
            Err(unknown) if findings.is_empty() => return unknown,
            Err(_) => return Outcome::of(findings),
        };
        for (ranks, place) in worlds.into_iter().filter(|(ranks, _)| !ranks.is_power_of_two() || *ranks > parts) {
            let fits = 1_usize << ranks.max(1).ilog2().min(parts.ilog2());
            let ranks = plural(ranks, "rank");
            let message = format!("{ranks} cannot share {parts} virtual ranks evenly along a binary tree");
            let finding = if may_be_one { Finding::warning(message) } else { Finding::error(message) };
            let help = format!("{}: a power of two, at most {parts}", plural(fits, "rank"));
            findings.push(finding.at(virtual_ranks.span(), "").at(place, "").help(help));
        }
        Outcome::of(findings)
    },
};

/// How many ranks there may be, and whether each is but one of several numbers: of a range of nodes. The components of a heterogeneous
/// job have them together.
fn worlds(subject: &Subject<'_>) -> Result<(Vec<(usize, Option<Span>)>, bool), Outcome> {
    let all = subject.layouts.iter().map(|layout| Ok((exactly(&layout.ranks.value)?, layout.ranks.span())));
    let mut all = all.collect::<Result<Vec<_>, Outcome>>()?;
    if subject.jobs.len() > 1 {
        let ranks = all.iter().fold(0_usize, |sum, (ranks, _)| sum.saturating_add(*ranks));
        return Ok((vec![(ranks, None)], false));
    }
    all.dedup_by_key(|(ranks, _)| *ranks);
    let may_be_one = all.len() > 1;
    Ok((all, may_be_one))
}
