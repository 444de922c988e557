//! A directive line as words, cut as `sbatch` cuts them: quotes group, a backslash takes the next character literally,
//! and an unquoted `#` ends the line wherever it stands.

use crate::problem::{Problem, ProblemKind};
use source_text::Span;

/// A word of a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The word without its quotes and backslashes.
    pub text: String,
    /// The word as written, quotes included.
    pub span: Span,
    /// The unquoted `#` inside the word that cut it and the rest of the line off.
    pub cut: Option<Span>,
    /// For each byte of `text` the place in the script, and at last the end of the word.
    offsets: Vec<usize>,
}

impl Token {
    /// A word that was not written in a script (from a command line or a variable).
    pub(crate) fn detached(text: &str) -> Self {
        Self { text: text.to_owned(), span: Span::default(), cut: None, offsets: vec![0; text.len() + 1] }
    }

    /// Where `text[start..end]` was written.
    pub fn part(&self, start: usize, end: usize) -> Span {
        let last = self.offsets.len() - 1;
        Span::new(self.offsets[start.min(last)], self.offsets[end.min(last)])
    }
}

/// C's `isspace`.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// Whether `rest` starts with the word that separates the components of a heterogeneous job.
pub(crate) fn is_separator(rest: &str) -> bool {
    ["hetjob", "packjob"].iter().any(|word| {
        rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
            && rest[word.len()..].chars().next().is_none_or(is_space)
    })
}

/// Cuts `line`, which starts at byte `base` of the script. After a problem the rest of the line is lost, as it is in
/// sbatch (which exits).
pub(crate) fn tokens(line: &str, base: usize, problems: &mut Vec<Problem>) -> Vec<Token> {
    let line = line.split('\0').next().unwrap_or_default(); // a C string ends there
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(is_space);
        let start = base + line.len() - rest.len();
        // The separator's word is blanked wherever it stands, and a blank word ends the line.
        if rest.is_empty() || is_separator(rest) {
            return words;
        }
        if rest.starts_with(':') {
            problems.push(Problem { kind: ProblemKind::UnexpectedColon, span: Span::new(start, start + 1) });
            return words;
        }
        match word(rest, start) {
            Ok((token, used)) => {
                if token.text.is_empty() {
                    return words; // a comment, or an empty pair of quotes: sbatch sees no word and reads no further
                }
                words.push(token);
                rest = &rest[used..];
            }
            Err(problem) => {
                problems.push(problem);
                return words;
            }
        }
    }
}

/// The first word of `rest`, which starts at byte `start` of the script, and how many bytes it takes.
fn word(rest: &str, start: usize) -> Result<(Token, usize), Problem> {
    let mut text = String::new();
    let mut offsets = Vec::new();
    let mut cut = None;
    let mut quote: Option<(char, usize)> = None;
    let mut escaped = false;
    let mut end = rest.len();
    for (at, c) in rest.char_indices() {
        if quote.is_none() && is_space(c) && !(escaped && c == ' ') {
            end = at;
            break;
        }
        match c {
            _ if escaped => escaped = false,
            '\\' => {
                escaped = true;
                continue;
            }
            _ if quote.is_some_and(|(open, _)| open == c) => {
                quote = None;
                continue;
            }
            _ if quote.is_some() => {}
            '"' | '\'' => {
                quote = Some((c, at));
                continue;
            }
            '#' => {
                end = at;
                cut = Some(Span::new(start + at, start + at + 1));
                break;
            }
            _ => {}
        }
        offsets.extend((0..c.len_utf8()).map(|byte| start + at + byte));
        text.push(c);
    }
    if let Some((quote, at)) = quote {
        let span = Span::new(start + at, start + rest.len());
        return Err(Problem { kind: ProblemKind::UnmatchedQuote { quote }, span });
    }
    offsets.push(start + end);
    Ok((Token { text, span: Span::new(start, start + end), cut, offsets }, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let words = tokens(line, 0, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        words.into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn words_are_cut_as_sbatch_cuts_them() {
        let cases: &[(&str, &[&str])] = &[
            (" --nodes=2 --ntasks-per-node 4 # x", &["--nodes=2", "--ntasks-per-node", "4"]),
            (r#"--job-name="my job""#, &["--job-name=my job"]),
            (r"--job-name=my\ job", &["--job-name=my job"]),
            (r"--job-name=a\#b", &["--job-name=a#b"]),
            ("--job-name=foo#bar --nodes=2", &["--job-name=foo"]),
            (r#"--comment="a # b" -N1"#, &["--comment=a # b", "-N1"]),
            (r"--nodes=2 \", &["--nodes=2"]),
            (r#""" --nodes=2"#, &[]),
            ("hetjob --nodes=2", &[]),
            ("-N1 HetJob -n2", &["-N1"]),
            ("hetjobs", &["hetjobs"]),
            ("-J 'it''s'", &["-J", "its"]),
            ("-J größe", &["-J", "größe"]),
            ("-N1 \0-n2", &["-N1"]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line), *expected, "{line:?}");
        }
    }

    #[test]
    fn a_part_of_a_word_knows_its_place() {
        let line = r#" --job-name="my job""#;
        let token = &tokens(line, 100, &mut Vec::new())[0];
        assert_eq!(token.span, Span::new(101, 120));
        assert_eq!(token.part(11, 17), Span::new(113, 120));
        assert_eq!(&line[13..19], "my job");
    }
}
