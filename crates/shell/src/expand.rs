//! A word of a script to the words that a command gets: variables, arithmetic, arrays, and splitting at white space.

use std::rc::Rc;

use source_text::Span;

use crate::arithmetic::evaluate;
use crate::run::Shell;
use crate::variables::{Found, Reason, Value};
use crate::word::{Index, Operation, Parameter, Part, Piece, Word};

/// A word of a command, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// The word; `None` where it cannot be known.
    pub text: Option<String>,
    /// Where it stands.
    pub span: Span,
    /// The variables that the shell expands in it, also through others.
    pub variables: Vec<String>,
    /// What it surely starts with, where it is not known: `--nproc_per_node=` of `--nproc_per_node=$N`.
    pub start: String,
    /// What it surely ends with, where it is not known: `/bin/srun` of `$SLURM/bin/srun`.
    pub end: String,
    /// Whether it may be several words, or none: an unquoted `$FLAGS`.
    pub is_any_number: bool,
    /// Why it is not known.
    pub why: Option<Reason>,
}

impl Argument {
    /// A word that is known.
    pub fn literal(text: impl Into<String>, span: Span) -> Self {
        Self {
            text: Some(text.into()),
            span,
            variables: Vec::new(),
            start: String::new(),
            end: String::new(),
            is_any_number: false,
            why: None,
        }
    }

    /// The text, where it is known.
    pub fn known(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Why it is not known.
    pub fn reason(&self) -> Reason {
        self.why.clone().unwrap_or_else(|| Reason::new("a word is not known", self.span))
    }

    /// The same place and origin with another text: a part of the word.
    pub fn part(&self, text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..self.clone() }
    }
}

/// Longer values are not followed: a loop of A=$A$A doubles with every line.
const LONGEST_TEXT: usize = 64 << 10;

/// More words of one are not followed.
const MOST_WORDS: usize = 4096;

/// A word in the making.
struct Builder {
    done: Vec<Argument>,
    now: Argument,
    /// Whether there is a word at all: quotes make one, an empty `$X` none.
    started: bool,
    /// The length of what is known behind the last thing that is not.
    known: String,
    span: Span,
}

impl Builder {
    fn new(span: Span) -> Self {
        Self { done: Vec::new(), now: Argument::literal("", span), started: false, known: String::new(), span }
    }

    fn push(&mut self, text: &str) {
        self.started = true;
        self.known.push_str(text);
        if let Some(now) = &mut self.now.text {
            now.push_str(text);
        }
        if self.known.len() > LONGEST_TEXT {
            self.unknown(&Reason::new("a text is too long to be followed", self.span), false);
        }
    }

    fn unknown(&mut self, why: &Reason, is_any_number: bool) {
        self.started = true;
        if let Some(start) = self.now.text.take() {
            self.now.start = start;
            self.now.why = Some(why.clone());
        }
        self.known.clear();
        self.now.is_any_number |= is_any_number;
    }

    fn uses(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if !self.now.variables.contains(&name) && self.now.variables.len() < 64 {
                self.now.variables.push(name);
            }
        }
    }

    fn end_word(&mut self) {
        let mut word = std::mem::replace(&mut self.now, Argument::literal("", self.span));
        let end = std::mem::take(&mut self.known);
        if word.text.is_none() {
            word.end = end;
        }
        if std::mem::take(&mut self.started) && self.done.len() < MOST_WORDS {
            self.done.push(word);
        }
    }

    /// A value, cut at white space.
    fn push_split(&mut self, text: &str, uses: &[String]) {
        let is_space = |c: char| matches!(c, ' ' | '\t' | '\n');
        for (index, field) in text.split(is_space).enumerate() {
            if index > 0 {
                self.end_word();
            }
            if !field.is_empty() {
                self.uses(uses.iter().cloned());
                self.push(field);
            }
        }
    }

    fn words(&mut self, words: &[Argument], uses: &[String]) {
        for (index, word) in words.iter().enumerate() {
            if index > 0 {
                self.end_word();
            }
            self.uses(uses.iter().cloned());
            self.uses(word.variables.iter().cloned());
            match &word.text {
                Some(text) => self.push(text),
                None => {
                    self.push(&word.start);
                    self.unknown(&word.reason(), word.is_any_number);
                    self.push(&word.end);
                }
            }
        }
    }

    fn finish(mut self) -> Vec<Argument> {
        self.end_word();
        self.done
    }
}

/// What a parameter comes to.
enum Expansion {
    Text(String),
    Words(Vec<Argument>),
    Unknown(Reason),
    Unset,
}

impl Shell<'_> {
    /// The words that `word` becomes: none, one or several.
    pub(crate) fn expand(&self, word: &Word) -> Vec<Argument> {
        let mut builder = Builder::new(word.span);
        self.expand_into(word, &mut builder, false);
        builder.finish()
    }

    /// The one word that `word` becomes where nothing is split: an assignment's value, a pattern.
    pub(crate) fn expand_to_one(&self, word: &Word) -> Argument {
        let mut builder = Builder::new(word.span);
        builder.started = true;
        self.expand_into(word, &mut builder, true);
        let mut words = builder.finish();
        match words.len() {
            0 | 1 => words.pop().unwrap_or_else(|| Argument::literal("", word.span)),
            _ => {
                let texts: Option<Vec<_>> = words.iter().map(|word| word.text.clone()).collect();
                let mut first = words.swap_remove(0);
                let why = words.iter().find_map(|word| word.why.clone());
                first.why = first.why.or(why);
                first.text = texts.map(|texts| texts.join(" "));
                first
            }
        }
    }

    fn expand_into(&self, word: &Word, builder: &mut Builder, keeps_whole: bool) {
        for Part { piece, quoted } in &word.parts {
            let whole = *quoted || keeps_whole;
            match piece {
                Piece::Literal(text) => builder.push(text),
                Piece::Parameter(parameter) => self.expand_parameter(parameter, builder, whole, word.span),
                Piece::Arithmetic(inside) => {
                    let inside = self.expand_to_one(inside);
                    builder.uses(inside.variables.iter().cloned());
                    // A name in it is a variable without a dollar.
                    let names = inside.text.as_deref().unwrap_or_default();
                    let names = names.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    for name in names.filter(|name| crate::word::is_variable(name)) {
                        builder.uses(self.uses_of(name));
                    }
                    let value = inside.known().and_then(|text| evaluate(text, &|name| self.number(name)));
                    match value {
                        Some(value) => builder.push(&value.to_string()),
                        None => {
                            let why = inside.why.or_else(|| self.why_no_number(inside.text.as_deref().unwrap_or("")));
                            let why = why.unwrap_or_else(|| Reason::new("$((…)) cannot be worked out", word.span));
                            builder.unknown(&why, false);
                        }
                    }
                }
                Piece::Substitution(nodes) => match self.prints(nodes) {
                    Some(text) if whole => builder.push(text.trim_end_matches('\n')),
                    Some(text) => builder.push_split(&text, &[]),
                    None => builder.unknown(&Reason::new("it is what a command prints", word.span), !whole),
                },
                Piece::Pipe => builder.unknown(&Reason::new("it is a pipe's name", word.span), false),
                Piece::Words(words) => {
                    let words: Vec<_> = words.iter().flat_map(|word| self.expand(word)).collect();
                    builder.words(&words, &[]);
                }
            }
        }
    }

    fn expand_parameter(&self, parameter: &Parameter, builder: &mut Builder, whole: bool, at: Span) {
        let name = &parameter.name;
        let uses = self.uses_of(name);
        let (word, is_wanted) = match (&parameter.operation, self.look_up(parameter, at)) {
            (Operation::Default { word, empty_too }, found) => match self.is_absent(&found, *empty_too) {
                Some(absent) => (Some(word), absent),
                None => return self.doubtful(builder, &uses, parameter, at, whole),
            },
            (Operation::Alternative { word, empty_too }, found) => match self.is_absent(&found, *empty_too) {
                Some(absent) if absent => return,
                Some(_) => (Some(word), true),
                None => return self.doubtful(builder, &uses, parameter, at, whole),
            },
            _ => (None, false),
        };
        if let (Some(word), true) = (word, is_wanted) {
            builder.uses([name.clone()]);
            return self.expand_into(word, builder, whole);
        }
        match self.look_up(parameter, at) {
            Expansion::Text(text) if whole => {
                builder.uses(uses.iter().cloned());
                builder.push(&text);
            }
            Expansion::Text(text) => builder.push_split(&text, &uses),
            Expansion::Words(words) => builder.words(&words, &uses),
            Expansion::Unknown(why) => {
                builder.uses(uses.iter().cloned());
                builder.unknown(&why, !whole || parameter.index == Index::All || matches!(name.as_str(), "@"));
            }
            Expansion::Unset => {
                builder.uses(uses.iter().cloned());
                builder.unknown(&self.not_set(name, at), !whole);
            }
        }
    }

    fn doubtful(&self, builder: &mut Builder, uses: &[String], parameter: &Parameter, at: Span, whole: bool) {
        builder.uses(uses.iter().cloned());
        let why = match self.look_up(parameter, at) {
            Expansion::Unknown(why) => why,
            _ => self.not_set(&parameter.name, at),
        };
        builder.unknown(&why, !whole);
    }

    fn not_set(&self, name: &str, at: Span) -> Reason {
        match &self.variables.disturbed {
            Some(reason) => reason.clone(),
            None if name.starts_with(|c: char| c.is_ascii_digit()) || matches!(name, "@" | "*" | "#") => {
                Reason::new("the script's own arguments are not given here", at)
            }
            None => Reason::new(format!("${name} is not set here"), at),
        }
    }

    /// Whether the parameter is unset (or empty); `None` where that cannot be known.
    fn is_absent(&self, found: &Expansion, empty_too: bool) -> Option<bool> {
        match found {
            Expansion::Text(text) => Some(empty_too && text.is_empty()),
            Expansion::Words(words) => Some(words.is_empty()),
            Expansion::Unknown(_) => None,
            // As it would be submitted from here; but what was read in between may have set it.
            Expansion::Unset => self.variables.disturbed.is_none().then_some(true),
        }
    }

    fn uses_of(&self, name: &str) -> Vec<String> {
        let mut uses = vec![name.to_owned()];
        if let Found::Set(variable) = self.variables.find(name) {
            uses.extend(variable.uses.iter().cloned());
        }
        uses
    }

    fn look_up(&self, parameter: &Parameter, at: Span) -> Expansion {
        let name = parameter.name.as_str();
        let opaque = || Expansion::Unknown(Reason::new(format!("what is done with ${name} here is not followed"), at));
        if parameter.operation == Operation::Other {
            return opaque();
        }
        let value = match name {
            "@" | "*" => match &self.positional {
                Some(words) => Expansion::Words(words.to_vec()),
                None => Expansion::Unset,
            },
            "#" => match &self.positional {
                Some(words) if words.iter().all(|word| !word.is_any_number) => Expansion::Text(words.len().to_string()),
                Some(_) => opaque(),
                None => Expansion::Unset,
            },
            "0" | "?" | "$" | "!" | "-" => {
                Expansion::Unknown(Reason::new(format!("${name} is known only when it runs"), at))
            }
            _ if name.starts_with(|c: char| c.is_ascii_digit()) => self.argument(name),
            _ => match self.variables.find(name) {
                Found::Set(variable) => match &variable.value {
                    Value::Text(text) => Expansion::Text(text.clone()),
                    Value::Words(words) => Expansion::Words(words.clone()),
                    Value::Unknown(reason) => Expansion::Unknown(reason.clone()),
                },
                Found::Inherited(text) => Expansion::Text(text),
                Found::Unset => Expansion::Unset,
            },
        };
        let element = |words: &[Argument], index: usize| match words.get(index) {
            _ if words.iter().take(index + 1).any(|word| word.is_any_number) => opaque(),
            Some(Argument { text: Some(text), .. }) => Expansion::Text(text.clone()),
            Some(word) => Expansion::Unknown(word.reason()),
            None => Expansion::Text(String::new()),
        };
        let is_list = matches!(name, "@" | "*");
        let value = match (value, &parameter.index) {
            (Expansion::Words(words), Index::None) if !is_list => element(&words, 0),
            (Expansion::Words(words), Index::One(text)) => {
                let index = evaluate(text, &|name| self.number(name)).and_then(|index| usize::try_from(index).ok());
                index.map_or_else(opaque, |index| element(&words, index))
            }
            (Expansion::Text(text), Index::One(index)) => match index.as_str() {
                "0" => Expansion::Text(text),
                _ => opaque(),
            },
            (value, _) => value,
        };
        match (&parameter.operation, value) {
            (Operation::Length, Expansion::Text(text)) => Expansion::Text(text.chars().count().to_string()),
            (Operation::Length, Expansion::Words(words)) => match words.iter().any(|word| word.is_any_number) {
                true => opaque(),
                false => Expansion::Text(words.len().to_string()),
            },
            (_, value) => value,
        }
    }

    /// `$1`, `$2`…
    fn argument(&self, name: &str) -> Expansion {
        let Some(words) = &self.positional else { return Expansion::Unset };
        let Some(index) = name.parse::<usize>().ok().filter(|index| *index > 0) else { return Expansion::Unset };
        if let Some(any) = words.iter().take(index).find(|word| word.is_any_number) {
            return Expansion::Unknown(any.reason());
        }
        match words.get(index - 1) {
            Some(Argument { text: Some(text), .. }) => Expansion::Text(text.clone()),
            Some(word) => Expansion::Unknown(word.reason()),
            None => Expansion::Text(String::new()),
        }
    }

    /// A variable's text, for arithmetic: one that is not set is 0 there, and that is not relied on.
    pub(crate) fn number(&self, name: &str) -> Option<String> {
        match self.variables.find(name) {
            Found::Set(variable) => match &variable.value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            },
            Found::Inherited(text) => Some(text),
            Found::Unset => None,
        }
    }

    /// Why a name in `text` has no number.
    pub(crate) fn why_no_number(&self, text: &str) -> Option<Reason> {
        let names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        names.filter(|name| crate::word::is_variable(name)).find_map(|name| match self.variables.find(name) {
            Found::Set(variable) => match &variable.value {
                Value::Unknown(reason) => Some(reason.clone()),
                _ => None,
            },
            Found::Inherited(_) => None,
            Found::Unset => Some(Reason::new(format!("${name} is not set here"), None)),
        })
    }

    /// All uses of a word, for the variable that it is given to.
    pub(crate) fn uses(argument: &Argument) -> Rc<[String]> {
        argument.variables.iter().cloned().collect()
    }
}
