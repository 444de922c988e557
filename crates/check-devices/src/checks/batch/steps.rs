//! B07–B09: steps of an epoch.

use super::super::need::{need, ranks, shared};
use crate::check::{Check, Outcome, Tier};
use crate::commands::trainer;
use crate::finding::{Finding, Severity};

pub(crate) const B07: Check = Check {
    id: "B07",
    title: "ranks take different numbers of steps",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Where samples are dealt out to ranks without padding or dropping, some ranks have a batch more than others; \
                  the others are done while these wait in a collective for ever. rust-train and PyTorch's \
                  DistributedSampler give every rank the same number.",
    source: "pytorch/pytorch#33148, horovod/horovod#708",
    run: |subject| {
        let samples = need!(subject.training.samples.as_ref(), "the number of samples is not given (--samples)");
        let micro = need!(shared(subject)).micro();
        let Some(launch) = subject.main_launch() else { return Outcome::Pass };
        if trainer(launch).is_some() {
            return Outcome::Pass;
        }
        let ranks = need!(ranks(subject)).max(1);
        let (most, least) = (samples.value.div_ceil(ranks).div_ceil(micro), (samples.value / ranks).div_ceil(micro));
        if most == least {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!(
            "{} samples over {ranks} ranks: some take {most} steps, some {least}",
            samples.value
        ))
        .at(launch.program.as_ref().map(|program| program.span), "unless it pads or drops")
        .help("let the sampler drop the last batch (drop_last), or pad")])
    },
};

pub(crate) const B08: Check = Check {
    id: "B08",
    title: "an epoch has no step",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "A global batch larger than the data set leaves no whole batch, and training that drops incomplete batches \
                  does nothing at all.",
    source: "dataset, order: incomplete batches are dropped",
    run: |subject| {
        let samples = need!(subject.training.samples.as_ref(), "the number of samples is not given (--samples)").value;
        if samples / need!(shared(subject)).global() > 0 {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!("{samples} samples hold no whole batch"))
            .at(subject.batch_span(), "")
            .help(format!("use a batch of at most {samples}"))])
    },
};

pub(crate) const B09: Check = Check {
    id: "B09",
    title: "micro-batches are left over at the end of an epoch",
    severity: Severity::Info,
    tier: Tier::Script,
    explanation: "Where accumulation is counted in micro-batches and an epoch has no multiple of them, the last ones are \
                  dropped, or mixed with the next epoch's.",
    source: "global = micro × accumulation × ranks",
    run: |subject| {
        let samples = need!(subject.training.samples.as_ref(), "the number of samples is not given (--samples)");
        let batch = need!(shared(subject));
        let (micro, accumulation) = (batch.micro(), batch.accumulation());
        let ranks = need!(ranks(subject)).max(1);
        let left = samples.value / (micro * ranks) % accumulation;
        if left == 0 {
            return Outcome::Pass;
        }
        Outcome::of([Finding::info(format!(
            "{left} of {accumulation} micro-batches are left over at the end of an epoch"
        ))])
    },
};
