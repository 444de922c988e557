//! M: does it fit into the accelerator's memory, and the job's into the node's?

use flags::{DEFAULT_MOMENTUM, OptimizerKind, PrecisionKind};

use super::need::{exactly, need, ranks, shared};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::memory::{Accelerator, Bytes, Estimate, Recipe, estimate};
use crate::subject::{Subject, Teacher, Training};

/// The estimate with its assumptions, and what there is for it.
struct Fit {
    estimate: Estimate,
    /// Bytes of its memory that are one rank's.
    memory: u64,
    assumptions: String,
}

fn fit(subject: &Subject<'_>) -> Result<Fit, Outcome> {
    let training = &subject.training;
    let Some(model) = &training.model else { return Err(Outcome::skip("the model is not given (--model)")) };
    if subject.layouts.iter().all(|layout| layout.on_cpu) && training.accelerator.is_none() {
        return Err(Outcome::skip("the ranks compute on the CPU"));
    }
    let Some(accelerator) = training.accelerator.as_ref().map(|accelerator| &accelerator.value) else {
        return Err(Outcome::skip(
            "the accelerator is not given (--gpu), nor known from the job's GPU type or the site file",
        ));
    };
    let recipe = recipe(training, &model.value);
    let ranks = if training.zero { ranks(subject)? } else { subject.first_layout().ranks.value.least().max(1) };
    let estimate = estimate(&recipe, ranks).map_err(|error| Outcome::unknown(format!("{error:#}")))?;
    let mut assumptions = assumptions(training, &recipe, ranks, &estimate, accelerator);
    let sharers = training.sharers() as u64;
    if sharers > 1 {
        assumptions += &format!(", which {sharers} ranks share");
    }
    Ok(Fit { estimate, memory: accelerator.bytes / sharers, assumptions })
}

/// What `training` says that memory depends on, with `rust-train`'s defaults where it says nothing.
pub(super) fn recipe<'t>(training: &'t Training, model: &'t str) -> Recipe<'t> {
    Recipe {
        model,
        image_size: training.image_size.as_ref().map(|size| size.value),
        classes: training.classes,
        channels: training.channels,
        optimizer: training.optimizer.as_ref().map_or(OptimizerKind::Sgd, |optimizer| optimizer.value),
        momentum: training.momentum.as_ref().map_or(DEFAULT_MOMENTUM, |momentum| momentum.value),
        precision: training.precision.as_ref().map_or(PrecisionKind::Fp32, |precision| precision.value),
        zero: training.zero,
        ema: training.ema,
        recompute: training.recompute,
        auxiliary: training.auxiliary,
        teacher: training.teacher.as_ref().and_then(|teacher| teacher.network.as_deref()),
    }
}

/// What the estimate is of; what nobody said is marked.
fn assumptions(
    training: &Training,
    recipe: &Recipe<'_>,
    ranks: usize,
    estimate: &Estimate,
    accelerator: &Accelerator,
) -> String {
    let given = |given: bool| if given { "" } else { " (assumed)" };
    let name = recipe.optimizer.name();
    let optimizer = match (recipe.optimizer, recipe.momentum == 0.0) {
        (OptimizerKind::Sgd, true) => "SGD without momentum",
        (OptimizerKind::Sgd, false) => "SGD with momentum",
        _ => &name,
    };
    let precision = match recipe.precision {
        PrecisionKind::Fp32 => "single precision",
        PrecisionKind::Bf16 => "bfloat16 autocast",
        PrecisionKind::Fp16 => "float16 autocast",
    };
    let mut words = format!(
        "{} at {} pixels, {:.1} M parameters, {optimizer}{}, {precision}{}",
        recipe.model,
        estimate.image_size,
        estimate.parameters as f64 / 1e6,
        given(training.optimizer.is_some()),
        given(training.precision.is_some()),
    );
    if let Some(channels) = recipe.channels {
        words += &format!(", images of {channels} channels");
    }
    if recipe.zero {
        words += &format!(", its state over {ranks} ranks");
    }
    if recipe.ema {
        words += ", a moving average of the weights";
    }
    if recipe.recompute {
        words += ", blocks recomputed";
    }
    if recipe.auxiliary {
        words += ", with its auxiliary heads";
    }
    match &training.teacher {
        Some(Teacher { network: Some(network) }) => words += &format!(", its teacher {network}"),
        Some(Teacher { network: None }) => words += ", without its teacher, whose network is not said",
        None => {}
    }
    if training.is_frozen {
        words += ", as if nothing were frozen";
    }
    words + &format!(", on {} with {}", accelerator.name, Bytes(accelerator.bytes))
}

/// The images that a rank computes together, at least: of a batch that the program fits into memory, one.
fn micro(subject: &Subject<'_>) -> Result<usize, Outcome> {
    let batch = shared(subject)?;
    Ok(if subject.training.fit_memory { 1 } else { batch.micro() })
}

pub(crate) const M01: Check = Check {
    id: "M01",
    title: "weights, gradients and optimizer do not fit",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "Bytes for each parameter: 12 for SGD with momentum in single precision (weight, gradient, momentum), 16 for \
                  Adam; 4 more for a moving average (--ema), 2 more under autocast for the half-precision copy, and with \
                  --zero the optimizer's part is shared by all ranks. An error above the accelerator's memory, a warning \
                  above 90 % of it.",
    source: "PyTorch, optimizers' state; automatic mixed precision",
    run: |subject| {
        let fit = need!(fit(subject));
        let (states, memory) = (fit.estimate.states, fit.memory);
        let message = format!("weights, gradients and optimizer take {} of {}", Bytes(states), Bytes(memory));
        let finding = match states {
            states if states > memory => Finding::error(message),
            states if states > memory / 10 * 9 => Finding::warning(message),
            _ => return Outcome::Pass,
        };
        Outcome::of([finding.note(fit.assumptions)])
    },
};

pub(crate) const M02: Check = Check {
    id: "M02",
    title: "the micro-batch does not fit",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "States plus what the micro-batch takes at its peak plus the overhead of a CUDA context. The peak is found by \
                  walking through the network forward and backward and counting what is alive; measured peaks are within \
                  15 % of it. An error where 15 % less would not fit either, a warning where 15 % more would not. Of \
                  --batch auto:N, which finds a micro-batch that fits by itself, one image must fit.",
    source: "architectures: the network walked as data",
    run: |subject| {
        let fit = need!(fit(subject));
        let micro = need!(micro(subject));
        let total = fit.estimate.total(micro);
        let memory = fit.memory;
        let message = format!("a micro-batch of {micro} takes {total} of {}", Bytes(memory));
        let finding = match total {
            total if total.low > memory => Finding::error(message),
            total if total.high > memory => Finding::warning(format!("{message}: it may not fit")),
            _ => return Outcome::Pass,
        };
        let (safe, optimistic) = fit.estimate.largest_micro(memory);
        let recompute = if subject.training.recompute { "" } else { "--recompute blocks, " };
        let help = match optimistic {
            _ if micro == 1 => format!("{recompute}--precision bf16, --zero or a smaller --image-size take less"),
            _ => format!(
                "{safe} fit surely, {optimistic} at best; {recompute}a larger --accumulate or more ranks take less each"
            ),
        };
        Outcome::of([finding.at(subject.batch_span(), "").help(help).note(fit.assumptions)])
    },
};

pub(crate) const M03: Check = Check {
    id: "M03",
    title: "the overhead of CUDA and NCCL counts",
    severity: Severity::Info,
    tier: Tier::Script,
    explanation: "About 0.55 GiB of each device go to the CUDA context with its kernels and to NCCL's buffers. Reported where \
                  the micro-batch fits without it and not with it, or where it is more than 5 % of the memory.",
    source: "measured with PyTorch 2 on Ampere and Hopper",
    run: |subject| {
        let fit = need!(fit(subject));
        let memory = fit.memory;
        let decides = micro(subject).is_ok_and(|micro| {
            let total = fit.estimate.total(micro).high;
            total > memory && total - fit.estimate.overhead <= memory
        });
        if !decides && fit.estimate.overhead <= memory / 20 {
            return Outcome::Pass;
        }
        Outcome::of([Finding::info(format!(
            "{} of the {} go to CUDA and NCCL",
            Bytes(fit.estimate.overhead),
            Bytes(memory)
        ))])
    },
};

pub(crate) const M04: Check = Check {
    id: "M04",
    title: "less memory is free than the job needs",
    severity: Severity::Error,
    tier: Tier::Allocation,
    explanation: "What other processes hold on a device is not there for the job, whatever its size.",
    source: "NVML, nvmlDeviceGetMemoryInfo",
    run: |subject| {
        let fit = need!(fit(subject));
        let micro = need!(micro(subject));
        let facts = need!(subject.allocation(), Tier::Allocation.how());
        let Some(devices) = &facts.devices else { return Outcome::unknown(super::devices::nvml_error(facts)) };
        let needed = fit.estimate.total(micro).low;
        Outcome::of(devices.iter().filter_map(|device| {
            let free = device.free_bytes.filter(|&free| free < needed)?;
            Some(Finding::error(format!(
                "device {}: {} are free, and the job needs at least {}",
                device.index,
                Bytes(free),
                Bytes(needed)
            )))
        }))
    },
};

pub(crate) const M05: Check = Check {
    id: "M05",
    title: "the job's memory may not hold the ranks",
    severity: Severity::Warning,
    tier: Tier::Script,
    explanation: "A rank of rust-train takes about 400 MiB, and its loader holds four micro-batches: a byte for each value as \
                  decoded, four as floats. All ranks of a node share its --mem.",
    source: "measured: rust-train on the CPU; dataset's loader",
    run: |subject| {
        let micro = need!(shared(subject)).micro();
        let job = subject.job();
        let layout = subject.first_layout();
        let of_cpus = || {
            let memory = job.memory_per_cpu.as_ref()?;
            let tasks = layout.placement.tasks_per_node.exactly()?;
            let cpus = job.cpus_per_task.as_ref().map_or(1, |cpus| cpus.value).saturating_mul(tasks);
            Some((memory.value.mib.saturating_mul(cpus as u64), memory.span()))
        };
        let of_node = job.memory_per_node.as_ref().filter(|memory| memory.value.mib > 0);
        let memory = of_node.map(|memory| (memory.value.mib, memory.span())).or_else(of_cpus);
        let (mib, at) = need!(memory, "no amount of memory on a node follows from the job");
        let size = subject.training.image_size.as_ref().map(|size| size.value);
        let size = size
            .or_else(|| Some(architectures::architecture(&subject.training.model.as_ref()?.value).ok()?.image_size));
        let size = need!(size, "neither model nor image size is given");
        let buffers = [4, micro as u64, 3, size as u64, size as u64, 5]
            .iter()
            .fold(1u64, |product, factor| product.saturating_mul(*factor));
        let of_rank = buffers.saturating_add(400 << 20);
        let ranks = need!(exactly(&layout.ranks_per_node.value)) as u64;
        let needed = of_rank.saturating_mul(ranks);
        if needed <= mib.saturating_mul(1 << 20) {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning(format!(
            "{ranks} ranks on a node want about {}, and the job has {}",
            Bytes(needed),
            Bytes(mib.saturating_mul(1 << 20))
        ))
        .at(at, "for all ranks of the node")
        .help(format!("ask for --mem={}G", needed.div_ceil(1 << 30)))])
    },
};

pub(crate) const M06: Check = Check {
    id: "M06",
    title: "what fits",
    severity: Severity::Info,
    tier: Tier::Script,
    explanation: "The memory that the job needs, and the largest micro-batch that fits: surely, if activations take 15 % more \
                  than the estimate, and at best, if they take 15 % less. An estimate with its assumptions, not a promise.",
    source: "architectures: the network walked as data",
    run: |subject| {
        let fit = need!(fit(subject));
        let (safe, optimistic) = fit.estimate.largest_micro(fit.memory);
        let finding = match micro(subject) {
            Ok(micro) => {
                Finding::info(format!("a rank needs {} with a micro-batch of {micro}", fit.estimate.total(micro)))
            }
            Err(_) => Finding::info(format!(
                "a rank needs {} for its states",
                Bytes(fit.estimate.states + fit.estimate.overhead)
            )),
        };
        Outcome::of([finding
            .note(format!(
                "largest micro-batch: {safe} surely, {optimistic} at best; activations {} an image",
                fit.estimate.activations
            ))
            .note(fit.assumptions)])
    },
};
