//! What words come to: variables that the script sets from text, that Slurm sets from the layout, and that the
//! environment brings.

use std::collections::HashMap;

use sbatch::Span;

use super::arithmetic::evaluate;
use super::lexer::{Command, Piece, Word};

/// A word of a command, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    /// What the shell would make of it; `None` where that cannot be known.
    pub(crate) text: Option<String>,
    /// Where it stands.
    pub(crate) span: Span,
    /// The variables that the batch shell expands in it.
    pub(crate) variables: Vec<String>,
}

impl Argument {
    /// The text, where it is known.
    pub(crate) fn known(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

/// `NAME=value`, alone, exported, or before a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) name: String,
    pub(crate) value: Argument,
    /// Whether commands see it.
    pub(crate) exported: bool,
}

/// A simple command with its words expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Executed {
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) words: Vec<Argument>,
    pub(crate) span: Span,
}

/// Goes through `commands` in their order. `known` are the variables that Slurm sets (`None`: set, but unknown here),
/// and `environment` is what else the job's shell inherits.
pub(crate) fn execute(
    commands: &[Command],
    known: HashMap<String, Option<String>>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Vec<Executed> {
    let mut variables = Variables { known, environment };
    commands.iter().map(|command| variables.execute(command)).collect()
}

struct Variables<'a> {
    known: HashMap<String, Option<String>>,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

/// Longer values are not followed: a loop of A=$A$A doubles with every line.
const LONGEST_TEXT: usize = 64 << 10;

const DECLARING: &[&str] = &["export", "declare", "typeset", "readonly", "local"];

impl Variables<'_> {
    fn lookup(&self, name: &str) -> Option<String> {
        match self.known.get(name) {
            Some(value) => value.clone(),
            None => (self.environment)(name),
        }
    }

    fn execute(&mut self, command: &Command) -> Executed {
        let first = command.words.first().and_then(Word::literal);
        let declares = first.is_some_and(|word| DECLARING.contains(&word));
        let exports = first == Some("export");
        let mut assignments = Vec::new();
        let mut words = Vec::new();
        for word in &command.words {
            let assigned = (words.is_empty() || declares).then(|| assignment(word)).flatten();
            match assigned {
                Some((name, value)) => {
                    let value = self.expand(&value);
                    assignments.push(Assignment { name, value, exported: exports });
                }
                None => words.push(self.expand(word)),
            }
        }
        let before_a_command = !declares && !words.is_empty();
        for assignment in &mut assignments {
            if before_a_command {
                assignment.exported = true; // seen by that command alone
            } else {
                self.known.insert(assignment.name.clone(), assignment.value.text.clone());
            }
        }
        match words.first().and_then(Argument::known) {
            Some("for" | "read" | "select") => {
                if let Some(name) = words.get(1).and_then(Argument::known) {
                    self.known.insert(name.to_owned(), None);
                }
            }
            Some("unset") => {
                for name in words.iter().skip(1).filter_map(Argument::known) {
                    self.known.insert(name.to_owned(), Some(String::new()));
                }
            }
            _ => {}
        }
        Executed { assignments, words, span: command.span }
    }

    fn expand(&self, word: &Word) -> Argument {
        let mut text = Some(String::new());
        let mut variables = Vec::new();
        for piece in &word.pieces {
            let part = match piece {
                Piece::Literal(text) => Some(text.clone()),
                Piece::Variable { name, default } => {
                    variables.push(name.clone());
                    let unset_is_known = !self.known.contains_key(name);
                    match self.lookup(name) {
                        Some(value) if !value.is_empty() => Some(value),
                        Some(empty) => Some(default.clone().unwrap_or(empty)),
                        None if unset_is_known => default.clone(),
                        None => None,
                    }
                }
                Piece::Arithmetic(text) => evaluate(text, &|name| self.lookup(name)).map(|value| value.to_string()),
                Piece::Opaque => None,
            };
            text = text.zip(part).map(|(text, part)| text + &part).filter(|text| text.len() <= LONGEST_TEXT);
        }
        Argument { text, span: word.span, variables }
    }
}

/// `NAME=…` taken apart.
fn assignment(word: &Word) -> Option<(String, Word)> {
    let Some(Piece::Literal(first)) = word.pieces.first() else { return None };
    let (name, rest) = first.split_once('=')?;
    let name = name.strip_suffix('+').unwrap_or(name);
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    let mut pieces = vec![Piece::Literal(rest.to_owned())];
    pieces.extend_from_slice(&word.pieces[1..]);
    Some((name.to_owned(), Word { pieces, span: word.span }))
}

#[cfg(test)]
mod tests {
    use super::super::lexer::read;
    use super::*;

    fn last_words(text: &str) -> Vec<Option<String>> {
        let known = [("SLURM_NTASKS", Some("8")), ("SLURM_JOB_ID", None)];
        let known = known.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).into();
        let executed = execute(&read(text).commands, known, &|name| (name == "HOME").then(|| "/home/me".to_owned()));
        executed.last().unwrap().words.iter().map(|word| word.text.clone()).collect()
    }

    #[test]
    fn what_words_come_to() {
        let doubling = format!("A=x\n{}a $A", "A=$A$A\n".repeat(60));
        let cases: &[(&str, &[Option<&str>])] = &[
            ("N=4; a $N", &[Some("a"), Some("4")]),
            ("B=${B:-64}\na --batch $B", &[Some("a"), Some("--batch"), Some("64")]),
            ("B=32; B=${B:-64}; a $B", &[Some("a"), Some("32")]),
            ("export B=$((SLURM_NTASKS * 2)); a $B", &[Some("a"), Some("16")]),
            ("a $SLURM_JOB_ID ${HOME}/x $NOWHERE", &[Some("a"), None, Some("/home/me/x"), None]),
            ("B=$(cat f); a $B ${B:-1}", &[Some("a"), None, None]),
            ("for i in 1 2; do a $i; done", &[Some("a"), None]),
            ("X=1 a $X", &[Some("a"), None]),
            (&doubling, &[Some("a"), None]),
        ];
        for (text, expected) in cases {
            let text = text.trim_end_matches("; done");
            let expected: Vec<_> = expected.iter().map(|word| word.map(str::to_owned)).collect();
            assert_eq!(last_words(text), expected, "{text:?}");
        }
    }
}
