//! For people: the layout, then findings as rustc shows them, then the count.

use std::collections::BTreeMap;
use std::io::{self, Write};

use annotate_snippets::{AnnotationKind, Group, Level, Patch, Renderer, Snippet};
use shell::Reason;

use super::layout::{rows, starts};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::judge::Judgement;
use crate::origin::in_words;
use crate::subject::Subject;
use crate::words::plural;

const DIM: anstyle::Style = anstyle::Style::new().dimmed();
const BOLD: anstyle::Style = anstyle::Style::new().bold();
const GOOD: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
const UNSURE: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();
const BAD: anstyle::Style = anstyle::AnsiColor::BrightRed.on_default().bold();

/// Lines are kept to this width where that is possible.
const WIDTH: usize = 100;

pub(super) fn write(
    out: &mut dyn Write,
    subject: &Subject<'_>,
    judgement: &Judgement,
    verbose: bool,
) -> io::Result<()> {
    write_rows(out, subject)?;
    let renderer = Renderer::styled().term_width(WIDTH);
    let script = subject.script.as_ref().map(|file| (file.name.as_str(), file.script.text()));
    for (check, finding) in judgement.findings() {
        writeln!(out, "\n{}", renderer.render(&groups(subject, check, finding)))?;
    }
    for id in &judgement.unknown_allowed {
        writeln!(out, "\nnote: the script allows '{id}', and no check has that name")?;
    }
    if verbose {
        write_skipped(out, judgement, script)?;
    }
    write_summary(out, judgement, script)
}

/// A script's name and text, to show places in.
type Named<'a> = Option<(&'a str, &'a str)>;

fn write_rows(out: &mut dyn Write, subject: &Subject<'_>) -> io::Result<()> {
    let components = rows(subject);
    for (index, rows) in components.iter().enumerate() {
        if components.len() > 1 {
            writeln!(out, "{BOLD}component {index}{BOLD:#}")?;
        }
        for row in rows {
            writeln!(out, "{:<22} {:>10}   {DIM}({}){DIM:#}", row.name, row.value, row.origin)?;
        }
    }
    Ok(())
}

/// The layout, and what each command starts.
pub(super) fn write_layout(out: &mut dyn Write, subject: &Subject<'_>) -> io::Result<()> {
    write_rows(out, subject)?;
    for start in starts(subject) {
        let chain = start.launchers.iter().copied().chain(start.program.as_deref());
        let chain: Vec<_> = chain.collect();
        let trains = if start.trains { "   <- trains" } else { "" };
        writeln!(
            out,
            "{:<22} {:>10}   {}{trains}",
            format!("line {} starts", start.line),
            start.ranks,
            chain.join(" > ")
        )?;
        if let Some(reason) = start.unknown {
            writeln!(out, "{:<36}{DIM}({reason}){DIM:#}", "")?;
        }
    }
    Ok(())
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
    let shown = finding.fix.as_ref().filter(|fix| !fix.description.is_empty());
    if let (Some(fix), Some((text, path))) = (shown, snippet()) {
        let patch = Patch::new(fix.span.range(), fix.replacement.as_str());
        let title = Level::HELP.secondary_title(fix.description.as_str());
        groups.push(title.element(Snippet::source(text).path(path).patch(patch)));
    }
    groups
}

fn write_skipped(out: &mut dyn Write, judgement: &Judgement, script: Named<'_>) -> io::Result<()> {
    writeln!(out)?;
    for judged in &judgement.checks {
        let (status, reason) = match &judged.outcome {
            Outcome::Skip(reason) => ("skipped", reason.to_string()),
            Outcome::Unknown(reason) => ("unknown", in_words(reason, script)),
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

fn write_summary(out: &mut dyn Write, judgement: &Judgement, script: Named<'_>) -> io::Result<()> {
    let (errors, warnings) = (judgement.count(Severity::Error), judgement.count(Severity::Warning));
    let verdict = match (errors, warnings) {
        // "ok" is a word for what was judged.
        (0, 0) if !judgement.is_ok() => format!("{UNSURE}no error found{UNSURE:#}"),
        (0, _) if !judgement.is_ok() => format!("{UNSURE}no error found{UNSURE:#}, {}", plural(warnings, "warning")),
        (0, 0) => format!("{GOOD}ok{GOOD:#}"),
        (0, _) => format!("{GOOD}ok{GOOD:#}, with {}", plural(warnings, "warning")),
        (_, 0) => format!("{BAD}{}{BAD:#}", plural(errors, "error")),
        _ => format!("{BAD}{}{BAD:#}, {}", plural(errors, "error"), plural(warnings, "warning")),
    };
    // What was asked for and is not known is never "ok".
    let not_judged = judgement.not_judged();
    let shown = |groups: &[(Vec<&'static str>, Reason)]| {
        let shown: Vec<_> =
            groups.iter().map(|(ids, reason)| format!("{} ({})", ids.join(", "), in_words(reason, script))).collect();
        shown.join("; ")
    };
    let verdict = match (not_judged.is_empty(), errors, warnings) {
        (true, ..) => verdict,
        (false, 0, 0) => format!("{UNSURE}not judged{UNSURE:#}: {}", shown(&not_judged)),
        (false, 0, _) => {
            format!("{}, {UNSURE}not judged{UNSURE:#}: {}", plural(warnings, "warning"), shown(&not_judged))
        }
        _ => format!("{verdict}, {UNSURE}not judged{UNSURE:#}: {}", shown(&not_judged)),
    };
    let mut passed = 0;
    let mut allowed = 0;
    let mut not_applicable = 0;
    let mut tiers: BTreeMap<_, usize> = BTreeMap::new();
    for judged in &judgement.checks {
        allowed += judged.allowed;
        match &judged.outcome {
            Outcome::Pass => passed += 1,
            Outcome::Unknown(_) => {}
            Outcome::Skip(reason) if reason == judged.check.tier.how() => {
                *tiers.entry(judged.check.tier).or_default() += 1;
            }
            Outcome::Skip(_) => not_applicable += 1,
            Outcome::Fail(findings) if findings.iter().all(|finding| finding.severity == Severity::Info) => passed += 1,
            Outcome::Fail(_) => {}
        }
    }
    match not_judged.is_empty() {
        true => writeln!(out, "\n{verdict}: {} passed, {not_applicable} did not apply", plural(passed, "check"))?,
        false => {
            writeln!(out, "\n{verdict}")?;
            writeln!(out, "{} passed, {not_applicable} did not apply", plural(passed, "check"))?;
        }
    }
    if allowed > 0 {
        writeln!(out, "{DIM}{allowed} allowed by the script or the site{DIM:#}")?;
    }
    for (ids, reason) in judgement.unknown(|check| !check.is_asked_for()) {
        writeln!(out, "{DIM}unknown {}: {}{DIM:#}", ids.join(", "), in_words(&reason, script))?;
    }
    for (tier, count) in tiers {
        writeln!(out, "{DIM}{count} more {}{DIM:#}", more(tier))?;
    }
    Ok(())
}
