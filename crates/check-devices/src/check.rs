//! What a check is, and what it can answer.

use std::borrow::Cow;

use serde::Serialize;
use shell::Reason;

use crate::finding::{Finding, Severity};
use crate::subject::Subject;

/// Where a check can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tier {
    /// From script and flags alone.
    Script,
    /// On a login node: partitions, file systems, libraries.
    Login,
    /// By one task inside the allocation: devices, cores, limits.
    Allocation,
    /// By all ranks together.
    Ranks,
}

impl Tier {
    /// What to type to have the checks of this tier made.
    pub(crate) fn how(self) -> &'static str {
        match self {
            Self::Script => "give a batch script",
            Self::Login => "--login",
            Self::Allocation => "srun check-devices, in the allocation",
            Self::Ranks => "srun check-devices --probe",
        }
    }
}

/// One check.
#[derive(Debug)]
pub(crate) struct Check {
    /// Its name: a letter for the family and a number.
    pub(crate) id: &'static str,
    /// What is wrong when it fires, in a few words.
    pub(crate) title: &'static str,
    /// The worst that it reports.
    pub(crate) severity: Severity,
    /// Where it can be made.
    pub(crate) tier: Tier,
    /// Why it matters and what to do: what `--explain` prints.
    pub(crate) explanation: &'static str,
    /// Where the rule comes from.
    pub(crate) source: &'static str,
    /// Makes the check.
    pub(crate) run: fn(&Subject<'_>) -> Outcome,
}

impl Check {
    /// Whether it judges something that somebody gave to be judged: a batch, or a model for a memory. Where it cannot, the
    /// headline says so.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.tier == Tier::Script && self.severity > Severity::Info && self.id.starts_with(['B', 'M'])
    }
}

/// What a check answers. Status is not severity: what cannot be read is never a pass.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Looked, and all is well.
    Pass,
    /// Something is wrong.
    Fail(Vec<Finding>),
    /// There is nothing to look at.
    Skip(Cow<'static, str>),
    /// It should be judged, and cannot be.
    Unknown(Reason),
}

/// The most findings of one check.
const MOST_FINDINGS: usize = 100;

impl Outcome {
    /// Skipped, because.
    pub(crate) fn skip(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Skip(reason.into())
    }

    /// Not known, because.
    pub(crate) fn unknown(reason: impl Into<std::rc::Rc<str>>) -> Self {
        Self::Unknown(Reason::new(reason, None))
    }

    /// The findings, or a pass where there are none. What comes behind the first hundred says nothing new, and a file that
    /// is no script must not take minutes.
    pub(crate) fn of(findings: impl IntoIterator<Item = Finding>) -> Self {
        let findings: Vec<_> = findings.into_iter().take(MOST_FINDINGS).collect();
        if findings.is_empty() { Self::Pass } else { Self::Fail(findings) }
    }
}
