//! `--fix`: the changes that are safe, made to the script in place, whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

use crate::finding::Fix;

/// `text` with all of `fixes` made that do not overlap, and how many were made.
pub(crate) fn apply(text: &str, fixes: &[&Fix]) -> (String, usize) {
    let mut fixes = fixes.to_vec();
    fixes.sort_by_key(|fix| (fix.span.start, fix.span.end));
    let mut fixed = String::with_capacity(text.len());
    let (mut done, mut at) = (0, 0);
    for fix in fixes {
        if fix.span.start < at {
            continue; // overlaps the one before; the next call of --fix sees what became of it
        }
        fixed.push_str(&text[at..fix.span.start]);
        fixed.push_str(&fix.replacement);
        at = fix.span.end;
        done += 1;
    }
    fixed.push_str(&text[at..]);
    (fixed, done)
}

/// Puts `text` in the place of the file `path`, with its permissions; a link keeps pointing to what it points to.
///
/// # Errors
/// What the file system said. The file is as it was then.
pub(crate) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let target = fs::canonicalize(path).with_context(|| path.display().to_string())?;
    let folder = target.parent().context("a file has a folder")?;
    let permissions = fs::metadata(&target).with_context(|| target.display().to_string())?.permissions();
    let write = || -> anyhow::Result<()> {
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        temporary.write_all(text.as_bytes())?;
        temporary.as_file().set_permissions(permissions)?;
        temporary.as_file().sync_all()?;
        temporary.persist(&target)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", target.display()))
}

#[cfg(test)]
mod tests {
    use source_text::Span;

    use super::*;

    #[test]
    fn changes_that_overlap_wait() {
        let fix = |start, end, text: &str| Fix {
            description: String::new(),
            span: Span::new(start, end),
            replacement: text.to_owned(),
        };
        let fixes = [fix(4, 6, "X"), fix(0, 2, "YY"), fix(5, 7, "Z"), fix(8, 8, "!")];
        let fixes: Vec<_> = fixes.iter().collect();
        assert_eq!(apply("abcdefgh", &fixes), ("YYcdXgh!".to_owned(), 3));
    }
}
