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
