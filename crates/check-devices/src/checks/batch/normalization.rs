//! B05, B06: batches too small for BatchNorm.

use super::super::need::{need, ranks, shared};
use super::shares::micro_span;
use crate::check::{Check, Outcome, Tier};
use crate::commands::{TrainerKind, trainer};
use crate::finding::{Finding, Severity};

pub(crate) const B05: Check = Check {
    id: "B05",
    title: "the last batch leaves a rank one sample",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Where a loader keeps the last, incomplete batch of an epoch, a rank may get a single sample, and BatchNorm \
                  fails on it after hours (\"Expected more than 1 value per channel when training\"). rust-train drops an \
                  incomplete batch, so it is not reported there.",
    source: "PyTorch, torch/nn/functional.py",
    run: |subject| {
        let samples = need!(subject.training.samples.as_ref(), "the number of samples is not given (--samples)");
        let micro = need!(shared(subject)).micro();
        let keeps_the_last =
            subject.main_launch().and_then(trainer).is_some_and(|trainer| trainer.kind == TrainerKind::Yolo);
        if !keeps_the_last {
            return Outcome::skip("rust-train drops an incomplete batch; of other programs it is not known");
        }
        let of_a_rank = samples.value.div_ceil(need!(ranks(subject)).max(1));
        if micro == 1 || of_a_rank % micro != 1 {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!("{of_a_rank} samples on a rank leave 1 for the last batch of {micro}"))
            .at(micro_span(subject), "")
            .help("choose another batch, or drop the last one")])
    },
};

pub(crate) const B06: Check = Check {
    id: "B06",
    title: "few samples for each rank's BatchNorm",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "Without synchronized BatchNorm each rank normalizes by the statistics of its own micro-batch; below 8 \
                  samples they are noisy, and accuracy falls.",
    source: "Wu and He, Group Normalization, ECCV 2018, figure 1",
    run: |subject| {
        let micro = need!(shared(subject)).micro();
        let is_virtual = subject.training.virtual_ranks.is_some();
        if !subject.training.local_batch_norm || !is_virtual && need!(ranks(subject)) == 1 {
            return Outcome::skip("BatchNorm sees the whole batch");
        }
        if micro >= 8 {
            return Outcome::Pass;
        }
        let (whose, help) = match is_virtual {
            true => ("a virtual rank's part", "use fewer virtual ranks, or a larger batch"),
            false => ("a rank's micro-batch", "use fewer ranks, a larger batch, or less accumulation"),
        };
        Outcome::of([Finding::warning(format!("{micro} samples in {whose} are few for BatchNorm"))
            .at(micro_span(subject), "")
            .help(help)])
    },
};
