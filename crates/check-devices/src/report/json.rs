//! For programs: one JSON object.

use std::io::{self, Write};

use serde::Serialize;
use source_text::{Position, Span};

use super::layout::{Row, StartRow, rows, starts};
use crate::check::Outcome;
use crate::finding::{Finding, Severity};
use crate::judge::Judgement;
use crate::subject::Subject;

#[derive(Serialize)]
struct Report<'a> {
    script: Option<&'a str>,
    /// No error, and no check for one that could not be made.
    ok: bool,
    errors: usize,
    warnings: usize,
    /// One list of rows for each component of the job.
    layout: Vec<Vec<Row>>,
    /// What was asked for and could not be judged.
    not_judged: Vec<NotJudged>,
    findings: Vec<FindingOut<'a>>,
    checks: Vec<CheckOut<'a>>,
}

#[derive(Serialize)]
struct NotJudged {
    checks: Vec<&'static str>,
    reason: String,
    place: Option<Place>,
}

#[derive(Serialize)]
struct FindingOut<'a> {
    id: &'a str,
    severity: Severity,
    message: &'a str,
    place: Option<Place>,
    label: Option<&'a str>,
    help: &'a [String],
    notes: &'a [String],
    fix: Option<FixOut<'a>>,
}

impl<'a> FindingOut<'a> {
    fn new(id: &'a str, finding: &'a Finding, text: &str) -> Self {
        Self {
            id,
            severity: finding.severity,
            message: &finding.message,
            place: finding.primary.as_ref().map(|label| Place::new(label.span, text)),
            label: finding.primary.as_ref().map(|label| label.text.as_str()),
            help: &finding.help,
            notes: &finding.notes,
            fix: finding.fix.as_ref().map(|fix| FixOut {
                description: &fix.description,
                start_byte: fix.span.start,
                end_byte: fix.span.end,
                replacement: &fix.replacement,
            }),
        }
    }
}

impl Place {
    fn new(span: Span, text: &str) -> Self {
        let (start, end) = (Position::of(text, span.start), Position::of(text, span.end));
        Self { line: start.line, column: start.column, end_line: end.line, end_column: end.column }
    }
}

#[derive(Serialize)]
struct Place {
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
}

#[derive(Serialize)]
struct FixOut<'a> {
    description: &'a str,
    start_byte: usize,
    end_byte: usize,
    replacement: &'a str,
}

#[derive(Serialize)]
struct CheckOut<'a> {
    id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

pub(super) fn write(out: &mut dyn Write, subject: &Subject<'_>, judgement: &Judgement) -> io::Result<()> {
    let text = subject.script.as_ref().map_or("", |file| file.script.text());
    let check = |judged: &'_ crate::judge::Judged| {
        let (status, reason) = match &judged.outcome {
            Outcome::Pass => ("pass", None),
            // Something good to know fails nothing.
            Outcome::Fail(findings) if findings.iter().all(|finding| finding.severity == Severity::Info) => {
                ("pass", None)
            }
            Outcome::Fail(_) => ("fail", None),
            Outcome::Skip(reason) => ("skip", Some(reason.to_string())),
            Outcome::Unknown(reason) => ("unknown", Some(reason.to_string())),
        };
        (judged.check.id, status, reason)
    };
    let checks: Vec<_> = judgement.checks.iter().map(check).collect();
    let errors = judgement.count(Severity::Error);
    let report = Report {
        script: subject.script.as_ref().map(|file| file.name.as_str()),
        ok: judgement.is_ok(),
        errors,
        warnings: judgement.count(Severity::Warning),
        layout: rows(subject),
        not_judged: judgement
            .not_judged()
            .into_iter()
            .map(|(checks, reason)| NotJudged {
                checks,
                reason: reason.text.to_string(),
                place: reason.span.map(|span| Place::new(span, text)),
            })
            .collect(),
        findings: judgement
            .findings()
            .into_iter()
            .map(|(check, finding)| FindingOut::new(check.id, finding, text))
            .collect(),
        checks: checks.iter().map(|(id, status, reason)| CheckOut { id, status, reason: reason.as_deref() }).collect(),
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

#[derive(Serialize)]
struct LayoutReport<'a> {
    script: Option<&'a str>,
    layout: Vec<Vec<Row>>,
    starts: Vec<StartRow>,
}

pub(super) fn write_layout(out: &mut dyn Write, subject: &Subject<'_>) -> io::Result<()> {
    let script = subject.script.as_ref().map(|file| file.name.as_str());
    let report = LayoutReport { script, layout: rows(subject), starts: starts(subject) };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}
