//! Words, and what they are made of.

use source_text::Span;

use crate::syntax::Node;

/// A part of a word.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) piece: Piece,
    /// Whether it stands in quotes, where nothing is split.
    pub(crate) quoted: bool,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// As it stands.
    Literal(String),
    /// `$NAME`, `${NAME…}`.
    Parameter(Parameter),
    /// `$((…))`: its inside, before anything in it is expanded.
    Arithmetic(Word),
    /// `$(…)` and backquotes.
    Substitution(Vec<Node>),
    /// `(a b c)` behind `NAME=`.
    Words(Vec<Word>),
    /// `<(…)`: the name of a pipe.
    Pipe,
}

/// `${NAME[INDEX]OPERATION}`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) index: Index,
    pub(crate) operation: Operation,
}

/// Which elements of an array are meant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Index {
    /// No index is given.
    None,
    /// `[@]`, `[*]`.
    All,
    /// `[…]`: the text in between.
    One(String),
}

/// What is done with a parameter's value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operation {
    /// Nothing.
    Value,
    /// `${#NAME}`.
    Length,
    /// `:-`, `-`, `:=`, `=`: this, where it is unset (or empty, behind a colon).
    Default { word: Word, empty_too: bool },
    /// `:+`, `+`: this, where it is set (and not empty, behind a colon).
    Alternative { word: Word, empty_too: bool },
    /// Anything that is not followed: `%`, `#`, `/`, `^`, `!`, `:`.
    Other,
}

/// A word and where it stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Word {
    pub(crate) parts: Vec<Part>,
    pub(crate) span: Span,
}

impl Word {
    /// The word, if it is text without quotes and expansions: what a reserved word or a name must be.
    pub(crate) fn bare(&self) -> Option<&str> {
        match &self.parts[..] {
            [Part { piece: Piece::Literal(text), quoted: false }] => Some(text),
            _ => None,
        }
    }

    /// The word, if it is nothing but text, quoted or not.
    pub(crate) fn literal(&self) -> Option<String> {
        let texts = self.parts.iter().map(|part| match &part.piece {
            Piece::Literal(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }
}

pub(crate) fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether `text` can be a variable's name.
pub(crate) fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(is_name)
}

/// Parts in the making: neighbouring texts of a kind are one.
#[derive(Default)]
pub(crate) struct Parts(pub(crate) Vec<Part>);

impl Parts {
    pub(crate) fn literal(&mut self, text: &str, quoted: bool) {
        match self.0.last_mut() {
            Some(Part { piece: Piece::Literal(last), quoted: known }) if *known == quoted => last.push_str(text),
            _ => self.push(Piece::Literal(text.to_owned()), quoted),
        }
    }

    pub(crate) fn push(&mut self, piece: Piece, quoted: bool) {
        self.0.push(Part { piece, quoted });
    }

    /// `NAME=`, `NAME+=`.
    pub(crate) fn is_array_assignment(&self) -> bool {
        match &self.0[..] {
            [Part { piece: Piece::Literal(text), quoted: false }] => {
                text.strip_suffix('=').is_some_and(|name| is_variable(name.strip_suffix('+').unwrap_or(name)))
            }
            _ => false,
        }
    }
}
