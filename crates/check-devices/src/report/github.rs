//! For GitHub's workflows: one command a finding, which the site shows beside the line.

use std::io::{self, Write};

use source_text::Position;

use crate::finding::Severity;
use crate::judge::Judgement;
use crate::subject::Subject;
use crate::words::plural;

pub(super) fn write(out: &mut dyn Write, subject: &Subject<'_>, judgement: &Judgement) -> io::Result<()> {
    for (check, finding) in judgement.findings() {
        let command = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "notice",
        };
        let mut properties = format!("title={}", property(&format!("{}: {}", check.id, check.title)));
        if let (Some(file), Some(label)) = (&subject.script, &finding.primary) {
            let text = file.script.text();
            let (start, end) = (Position::of(text, label.span.start), Position::of(text, label.span.end));
            properties = format!(
                "file={},line={},endLine={},col={},endColumn={},{properties}",
                property(&file.name),
                start.line,
                end.line,
                start.column,
                end.column
            );
        }
        let words = std::iter::once(&finding.message).chain(&finding.help).chain(&finding.notes);
        let message = words.map(String::as_str).collect::<Vec<_>>().join("\n");
        writeln!(out, "::{command} {properties}::{}", data(&message))?;
    }
    for (ids, reason) in judgement.not_judged() {
        let text = format!("not judged: {}: {}", ids.join(", "), reason.text);
        writeln!(out, "::warning title=not judged::{}", data(&text))?;
    }
    let (errors, warnings) = (judgement.count(Severity::Error), judgement.count(Severity::Warning));
    writeln!(out, "check-devices: {}, {}", plural(errors, "error"), plural(warnings, "warning"))
}

/// Escapes the text of a command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_ends_a_command() {
        assert_eq!(data("50 %\nof::it"), "50 %25%0Aof::it");
        assert_eq!(property("a:b,c"), "a%3Ab%2Cc");
    }
}
