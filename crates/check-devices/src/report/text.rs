//! For people: the layout, then findings as rustc shows them, then the count.

use std::collections::BTreeMap;
use std::io::{self, Write};

use annotate_snippets::{AnnotationKind, Group, Level, Patch, Renderer, Snippet};

use super::layout::rows;
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::judge::Judgement;
use crate::subject::Subject;
use crate::words::plural;

const DIM: anstyle::Style = anstyle::Style::new().dimmed();
const BOLD: anstyle::Style = anstyle::Style::new().bold();
const GOOD: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
const BAD: anstyle::Style = anstyle::AnsiColor::BrightRed.on_default().bold();

/// Lines are kept to this width where that is possible.
const WIDTH: usize = 100;

pub(super) fn write(
    out: &mut dyn Write,
    subject: &Subject<'_>,
    judgement: &Judgement,
    verbose: bool,
) -> io::Result<()> {
    let components = rows(subject);
    for (index, rows) in components.iter().enumerate() {
        if components.len() > 1 {
            writeln!(out, "{BOLD}component {index}{BOLD:#}")?;
        }
        for row in rows {
            writeln!(out, "{:<22} {:>10}   {DIM}({}){DIM:#}", row.name, row.value, row.origin)?;
        }
    }
    let renderer = Renderer::styled().term_width(WIDTH);
    for (check, finding) in judgement.findings() {
        writeln!(out, "\n{}", renderer.render(&groups(subject, check, finding)))?;
    }
    for id in &judgement.unknown_allowed {
        writeln!(out, "\nnote: the script allows '{id}', and no check has that name")?;
    }
    if verbose {
        write_skipped(out, judgement)?;
    }
    write_summary(out, judgement)
}

/// A finding as annotate-snippets takes it: the message with its places and words, then the change.
fn groups<'a>(subject: &'a Subject<'_>, check: &Check, finding: &'a Finding) -> Vec<Group<'a>> {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let title = level.primary_title(finding.message.as_str()).id(check.id);
    let file = subject.script.as_ref();
    let snippet = || file.map(|file| (file.script.text(), file.name.as_str()));
    let mut group = match (snippet(), &finding.primary) {
        (Some((text, path)), Some(primary)) => {
            let labels = std::iter::once((AnnotationKind::Primary, primary));
            let labels = labels.chain(finding.context.iter().map(|label| (AnnotationKind::Context, label)));
            let annotations = labels.map(|(kind, label)| {
                let annotation = kind.span(label.span.range());
                if label.text.is_empty() { annotation } else { annotation.label(label.text.as_str()) }
            });
            let elements = Snippet::source(text).path(path).annotations(annotations);
            title.element(elements)
        }
        _ => Group::with_title(title),
    };
    for help in &finding.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    for note in &finding.notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    let mut groups = vec![group];
    if let (Some(fix), Some((text, path))) = (&finding.fix, snippet()) {
        let patch = Patch::new(fix.span.range(), fix.replacement.as_str());
        let title = Level::HELP.secondary_title(fix.description.as_str());
        groups.push(title.element(Snippet::source(text).path(path).patch(patch)));
    }
    groups
}

fn write_skipped(out: &mut dyn Write, judgement: &Judgement) -> io::Result<()> {
    writeln!(out)?;
    for judged in &judgement.checks {
        let (status, reason) = match &judged.outcome {
            Outcome::Skip(reason) => ("skipped", reason),
            Outcome::Unknown(reason) => ("unknown", reason),
            Outcome::Pass | Outcome::Fail(_) => continue,
        };
        writeln!(out, "{DIM}{status} {} {}: {reason}{DIM:#}", judged.check.id, judged.check.title)?;
    }
    Ok(())
}

/// What to type for the checks of a tier.
fn more(tier: Tier) -> &'static str {
    match tier {
        Tier::Script => "for a batch script: check-devices SCRIPT",
        Tier::Login => "on a login node: --login",
        Tier::Allocation => "in the allocation: srun check-devices",
        Tier::Ranks => "by all ranks together: srun check-devices --probe",
    }
}

fn write_summary(out: &mut dyn Write, judgement: &Judgement) -> io::Result<()> {
    let (errors, warnings) = (judgement.count(Severity::Error), judgement.count(Severity::Warning));
    let verdict = match (errors, warnings) {
        (0, 0) => format!("{GOOD}ok{GOOD:#}"),
        (0, _) => format!("{GOOD}ok{GOOD:#}, with {}", plural(warnings, "warning")),
        (_, 0) => format!("{BAD}{}{BAD:#}", plural(errors, "error")),
        _ => format!("{BAD}{}{BAD:#}, {}", plural(errors, "error"), plural(warnings, "warning")),
    };
    let mut passed = 0;
    let mut unknown = 0;
    let mut allowed = 0;
    let mut not_applicable = 0;
    let mut tiers: BTreeMap<_, usize> = BTreeMap::new();
    for judged in &judgement.checks {
        allowed += judged.allowed;
        match &judged.outcome {
            Outcome::Pass => passed += 1,
            Outcome::Unknown(_) => unknown += 1,
            Outcome::Skip(reason) if reason == judged.check.tier.how() => {
                *tiers.entry(judged.check.tier).or_default() += 1;
            }
            Outcome::Skip(_) => not_applicable += 1,
            Outcome::Fail(findings) if findings.iter().all(|finding| finding.severity == Severity::Info) => passed += 1,
            Outcome::Fail(_) => {}
        }
    }
    writeln!(out, "\n{verdict}: {} passed, {not_applicable} did not apply", plural(passed, "check"))?;
    for (count, words) in [(allowed, "allowed by the script"), (unknown, "could not be read (-v says why)")] {
        if count > 0 {
            writeln!(out, "{DIM}{count} {words}{DIM:#}")?;
        }
    }
    for (tier, count) in tiers {
        writeln!(out, "{DIM}{count} more {}{DIM:#}", more(tier))?;
    }
    Ok(())
}
