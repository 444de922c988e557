//! Makes the checks, and keeps what each of them answered.

use shell::Reason;
use source_text::{Position, Span};

use crate::check::{Check, Outcome, Tier};
use crate::checks::CHECKS;
use crate::finding::{Finding, Severity};
use crate::subject::Subject;

/// Which checks to make.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    only: Vec<&'static str>,
    skip: Vec<&'static str>,
}

impl Selection {
    /// The checks named by `only` (all, where it is empty) without those named by `skip`.
    ///
    /// # Errors
    /// A name that no check has.
    pub(crate) fn new(only: &[String], skip: &[String]) -> anyhow::Result<Self> {
        let known = |flag: &'static str, ids: &[String]| -> anyhow::Result<Vec<&'static str>> {
            ids.iter().map(|id| Ok(find(id).ok_or_else(|| unknown(flag, id))?.id)).collect()
        };
        Ok(Self { only: known("--only", only)?, skip: known("--skip", skip)? })
    }

    fn contains(&self, id: &str) -> bool {
        (self.only.is_empty() || self.only.contains(&id)) && !self.skip.contains(&id)
    }
}

/// The check called `id`, in any case.
pub(crate) fn find(id: &str) -> Option<&'static Check> {
    CHECKS.iter().copied().find(|check| check.id.eq_ignore_ascii_case(id.trim()))
}

/// The error for a name that no check has.
pub(crate) fn unknown(flag: &str, id: &str) -> anyhow::Error {
    anyhow::anyhow!("{flag}: no check is called '{id}'; check-devices --list-checks names them")
}

/// What one check answered.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) check: &'static Check,
    pub(crate) outcome: Outcome,
    /// Findings that the script or the site allows.
    pub(crate) allowed: usize,
}

/// What all checks answered.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) checks: Vec<Judged>,
    /// Names in `allow(…)` that no check has.
    pub(crate) unknown_allowed: Vec<String>,
}

impl Judgement {
    /// All findings: in the order of the script, and behind them those without a place, worst first.
    pub(crate) fn findings(&self) -> Vec<(&'static Check, &Finding)> {
        let failed = self.checks.iter().filter_map(|judged| match &judged.outcome {
            Outcome::Fail(findings) => Some(findings.iter().map(|finding| (judged.check, finding))),
            _ => None,
        });
        let mut findings: Vec<_> = failed.flatten().collect();
        findings.sort_by_key(|(_, finding)| {
            let place = finding.primary.as_ref().map_or(usize::MAX, |label| label.span.start);
            (place, std::cmp::Reverse(finding.severity))
        });
        findings
    }

    /// What was asked for and could not be judged: the checks, and why.
    pub(crate) fn not_judged(&self) -> Vec<(Vec<&'static str>, Reason)> {
        self.unknown(Check::is_asked_for)
    }

    /// Whether nothing is wrong, as far as script and flags can say: no error, and no check for one that could not be made.
    pub(crate) fn is_ok(&self) -> bool {
        let finds_errors = |check: &Check| check.tier == Tier::Script && check.severity == Severity::Error;
        self.count(Severity::Error) == 0 && self.not_judged().is_empty() && self.unknown(finds_errors).is_empty()
    }

    /// What could not be judged, of the checks that `fits` names: those with the same reason together.
    pub(crate) fn unknown(&self, fits: impl Fn(&Check) -> bool) -> Vec<(Vec<&'static str>, Reason)> {
        let mut groups: Vec<(Vec<&'static str>, Reason)> = Vec::new();
        for judged in self.checks.iter().filter(|judged| fits(judged.check)) {
            let Outcome::Unknown(reason) = &judged.outcome else { continue };
            match groups.iter_mut().find(|(_, known)| known == reason) {
                Some((ids, _)) => ids.push(judged.check.id),
                None => groups.push((vec![judged.check.id], reason.clone())),
            }
        }
        groups
    }

    /// How many findings are of this severity.
    pub(crate) fn count(&self, severity: Severity) -> usize {
        self.findings().iter().filter(|(_, finding)| finding.severity == severity).count()
    }
}

/// Makes the selected checks on `subject`.
pub(crate) fn judge(subject: &Subject<'_>, selection: &Selection) -> Judgement {
    let allows = allows(subject);
    let of_site = subject.site.allow.iter().map(|id| Allow { id: id.clone(), line: None });
    let allows: Vec<_> = allows.into_iter().chain(of_site).collect();
    let mut unknown_allowed: Vec<_> =
        allows.iter().map(|allow| allow.id.clone()).filter(|id| find(id).is_none()).collect();
    unknown_allowed.dedup();
    let selected = CHECKS.iter().copied().filter(|check| selection.contains(check.id));
    let checks = selected.map(|check| {
        let outcome =
            if is_reachable(check.tier, subject) { (check.run)(subject) } else { Outcome::skip(check.tier.how()) };
        apply(&allows, check, outcome, subject)
    });
    Judgement { checks: checks.collect(), unknown_allowed }
}

fn is_reachable(tier: Tier, subject: &Subject<'_>) -> bool {
    match tier {
        Tier::Script => true,
        Tier::Login => subject.login().is_some() || subject.partitions().is_some(),
        Tier::Allocation => subject.allocation().is_some(),
        Tier::Ranks => subject.ranks().is_some(),
    }
}

/// `# check-devices: allow(ID, ID)`: on a line of its own for the whole script, behind a directive or a command for
/// that line.
struct Allow {
    id: String,
    line: Option<usize>,
}

fn allows(subject: &Subject<'_>) -> Vec<Allow> {
    let Some(file) = &subject.script else { return Vec::new() };
    let mut allows = Vec::new();
    for line in file.script.lines() {
        let text = &file.script.text()[line.span.range()];
        let Some((before, after)) = text.split_once("# check-devices:") else { continue };
        let Some(ids) = after.trim_start().strip_prefix("allow(").and_then(|rest| rest.split_once(')')) else {
            continue;
        };
        let line = (!before.trim().is_empty()).then_some(line.number);
        allows.extend(ids.0.split(',').map(|id| Allow { id: id.trim().to_owned(), line }));
    }
    allows
}

fn apply(allows: &[Allow], check: &'static Check, outcome: Outcome, subject: &Subject<'_>) -> Judged {
    let Outcome::Fail(findings) = outcome else { return Judged { check, outcome, allowed: 0 } };
    let text = subject.script.as_ref().map_or("", |file| file.script.text());
    let line_of = |span: Span| Position::of(text, span.start).line;
    let is_allowed = |finding: &Finding| {
        let line = finding.primary.as_ref().map(|label| line_of(label.span));
        let mut fitting = allows.iter().filter(|allow| allow.id.eq_ignore_ascii_case(check.id));
        fitting.any(|allow| allow.line.is_none() || allow.line == line)
    };
    let count = findings.len();
    let findings: Vec<_> = findings.into_iter().filter(|finding| !is_allowed(finding)).collect();
    Judged { check, allowed: count - findings.len(), outcome: Outcome::of(findings) }
}
