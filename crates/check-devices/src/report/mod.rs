//! How a judgement is shown: to people, to programs, to GitHub's workflows.

mod github;
mod json;
mod layout;
mod text;

use std::io::{self, Write};

use crate::cli::Format;
use crate::judge::Judgement;
use crate::subject::Subject;

/// Writes the judgement of `subject` in `format`. `verbose` names every skipped check.
pub(crate) fn write(
    out: &mut dyn Write,
    format: Format,
    subject: &Subject<'_>,
    judgement: &Judgement,
    verbose: bool,
) -> io::Result<()> {
    match format {
        Format::Text => text::write(out, subject, judgement, verbose),
        Format::Json => json::write(out, subject, judgement),
        Format::Github => github::write(out, subject, judgement),
    }
}

/// Writes the layout of `subject` with the origin of every value, and what each of its commands starts.
pub(crate) fn write_layout(out: &mut dyn Write, format: Format, subject: &Subject<'_>) -> io::Result<()> {
    match format {
        Format::Json => json::write_layout(out, subject),
        Format::Text | Format::Github => text::write_layout(out, subject),
    }
}
