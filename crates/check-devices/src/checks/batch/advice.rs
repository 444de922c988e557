//! B10, B11: good to know.

use flags::PrecisionKind;

use super::super::need::{need, shared};
use super::shares::micro_span;
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};

pub(crate) const B10: Check = Check {
    id: "B10",
    title: "the micro-batch is not a multiple of 8 in half precision",
    severity: Severity::Info,
    tier: Tier::Script,
    explanation: "Tensor cores compute half-precision products in tiles of 8; other sizes are padded.",
    source: "NVIDIA, Deep Learning Performance: Matrix Multiplication",
    run: |subject| {
        let precision = need!(subject.training.precision.as_ref(), "the precision is not given (--precision)");
        let micro = need!(shared(subject)).micro();
        if precision.value == PrecisionKind::Fp32 || micro % 8 == 0 {
            return Outcome::Pass;
        }
        Outcome::of([
            Finding::info(format!("a micro-batch of {micro} is not a multiple of 8")).at(micro_span(subject), "")
        ])
    },
};

pub(crate) const B11: Check = Check {
    id: "B11",
    title: "the learning rate is far from the usual one for this batch",
    severity: Severity::Info,
    tier: Tier::Script,
    explanation: "SGD on ImageNet-like data uses about 0.1 for a batch of 256, scaled linearly with the batch. More than four \
                  times off, either way, is reported.",
    source: "Goyal et al., Accurate, Large Minibatch SGD, 2017",
    run: |subject| {
        let rate = need!(subject.training.learning_rate.as_ref(), "the learning rate is not given (--lr)");
        let batch = need!(shared(subject)).global();
        let usual = 0.1 * batch as f64 / 256.0;
        if (0.25..=4.0).contains(&(rate.value / usual)) {
            return Outcome::Pass;
        }
        Outcome::of([Finding::info(format!(
            "a learning rate of {} for a batch of {batch}; linear scaling gives {usual:.3}",
            rate.value
        ))])
    },
};
