//! B14: a batch in fixed parts, on any power of two of ranks.

use layout::nearest_multiples;

use super::super::need::{exactly, need};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
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
        // Of a range of nodes each number is one that the job may get.
        let may_be_one = subject.layouts.len() > 1;
        let mut refused = Vec::new();
        for layout in &subject.layouts {
            let ranks = need!(exactly(&layout.ranks.value));
            if !ranks.is_power_of_two() || ranks > parts {
                refused.push((ranks, layout.ranks.span()));
            }
        }
        refused.dedup_by_key(|(ranks, _)| *ranks);
        for (ranks, place) in refused {
            let fits = 1_usize << ranks.max(1).ilog2().min(parts.ilog2());
            let message =
                format!("{} cannot share {parts} virtual ranks evenly along a binary tree", plural(ranks, "rank"));
            let finding = if may_be_one { Finding::warning(message) } else { Finding::error(message) };
            findings.push(
                finding
                    .at(virtual_ranks.span(), "")
                    .at(place, "")
                    .help(format!("{}: a power of two, at most {parts}", plural(fits, "rank"))),
            );
        }
        Outcome::of(findings)
    },
};
