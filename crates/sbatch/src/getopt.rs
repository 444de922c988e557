//! Words become options, as glibc's `getopt_long` makes them with sbatch's table (whose option string starts with `+`:
//! the first word that is neither option nor value ends the options).

use crate::options::{Argument, OPTIONS, OptionSpec};
use crate::problem::{Problem, ProblemKind};
use crate::token::Token;
use source_text::Span;

/// An option as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Which option.
    pub option: &'static OptionSpec,
    /// Its value without quotes, where it has one.
    pub value: Option<String>,
    /// Option and value as written.
    pub span: Span,
    /// The value as written; where there is none, the option.
    pub value_span: Span,
    /// As spelled, with its dashes: `--ntasks-per-n`, `-N`.
    pub spelled: String,
    /// The unquoted `#` that cut the value off.
    pub cut: Option<Span>,
}

/// How words that are no options are taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strays {
    /// As problems, reading on behind them: a script.
    Report,
    /// As the end of the options: a command line, where the script's name stands.
    Stop,
}

/// The options of a command line: what stands between `sbatch` and the script's name.
pub fn read_command_line(words: &[String]) -> (Vec<Directive>, Vec<Problem>) {
    let tokens: Vec<_> = words.iter().map(|word| Token::detached(word)).collect();
    let mut problems = Vec::new();
    let directives = directives(&tokens, Strays::Stop, &mut problems);
    (directives, problems)
}

/// All options among `tokens`, and what is wrong with the rest.
pub(crate) fn directives(tokens: &[Token], strays: Strays, problems: &mut Vec<Problem>) -> Vec<Directive> {
    let mut reader = Reader { tokens, next: 0, found: Vec::new(), problems };
    while let Some(token) = reader.take() {
        match token.text.strip_prefix("--") {
            // Behind a bare `--` nothing is an option. With nothing behind it, it does no harm.
            Some("") => {
                if let Some(stray) = reader.take()
                    && strays == Strays::Report
                {
                    reader.stray(stray);
                }
                break;
            }
            Some(long) => reader.long(token, long),
            None if token.text.starts_with('-') && token.text.len() > 1 => reader.short(token),
            None if strays == Strays::Stop => break,
            None => reader.stray(token),
        }
    }
    reader.found
}

struct Reader<'a> {
    tokens: &'a [Token],
    next: usize,
    found: Vec<Directive>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn take(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.next)?;
        self.next += 1;
        Some(token)
    }

    fn problem(&mut self, kind: ProblemKind, span: Span) {
        self.problems.push(Problem { kind, span });
    }

    fn stray(&mut self, token: &Token) {
        self.problem(ProblemKind::StrayToken { text: token.text.clone() }, token.span);
    }

    fn push(
        &mut self,
        option: &'static OptionSpec,
        spelled: &str,
        token: &Token,
        value: Option<(String, Span)>,
        cut: Option<Span>,
    ) {
        let (value, value_span) = value.map_or((None, token.span), |(text, span)| (Some(text), span));
        let span = token.span.cover(value_span);
        self.found.push(Directive { option, value, span, value_span, spelled: spelled.to_owned(), cut });
    }

    /// `--name`, `--name=value`, `--name value`, and any prefix of the name that fits one option only.
    fn long(&mut self, token: &'a Token, long: &str) {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let spelled = format!("--{name}");
        let name_span = token.part(0, 2 + name.len());
        let option = match find(name) {
            Found::One(option) => option,
            Found::None => {
                self.problem(ProblemKind::UnknownOption { name: spelled }, name_span);
                self.skip_value(value.is_some());
                return;
            }
            Found::Several(candidates) => {
                self.problem(ProblemKind::AmbiguousOption { name: spelled, candidates }, name_span);
                self.skip_value(value.is_some());
                return;
            }
        };
        let attached = value.map(|value| (value.to_owned(), token.part(2 + name.len() + 1, token.text.len())));
        match (option.argument, attached) {
            (Argument::None, Some(_)) => {
                self.problem(ProblemKind::UnexpectedArgument { name: option.name }, token.span);
            }
            (Argument::Required, None) => match self.take() {
                Some(next) => self.push(option, &spelled, token, Some((next.text.clone(), next.span)), next.cut),
                None => self.problem(ProblemKind::MissingArgument { name: spelled }, token.span),
            },
            (_, attached) => self.push(option, &spelled, token, attached, token.cut),
        }
    }

    /// `-N2`, `-N 2`, `-vN2`: letters bundle up to the first that takes a value, which gets the rest of the word.
    fn short(&mut self, token: &'a Token) {
        for (at, letter) in token.text.char_indices().skip(1) {
            let spelled = format!("-{letter}");
            let behind = at + letter.len_utf8();
            let Some(option) = OPTIONS.iter().find(|option| option.short == Some(letter)) else {
                self.problem(ProblemKind::UnknownOption { name: spelled }, token.part(at, behind));
                continue;
            };
            let rest = &token.text[behind..];
            let attached = (!rest.is_empty()).then(|| (rest.to_owned(), token.part(behind, token.text.len())));
            match (option.argument, attached) {
                (Argument::None, _) => {
                    self.push(option, &spelled, token, None, token.cut);
                    continue;
                }
                (Argument::Required, None) => match self.take() {
                    Some(next) => self.push(option, &spelled, token, Some((next.text.clone(), next.span)), next.cut),
                    None => self.problem(ProblemKind::MissingArgument { name: spelled }, token.span),
                },
                (_, attached) => self.push(option, &spelled, token, attached, token.cut),
            }
            return;
        }
    }

    /// Behind an option that nobody knows, a word without dashes is likely its value: one problem is enough.
    fn skip_value(&mut self, has_value: bool) {
        if !has_value && self.tokens.get(self.next).is_some_and(|next| !next.text.starts_with('-')) {
            self.next += 1;
        }
    }
}

enum Found {
    One(&'static OptionSpec),
    None,
    Several(Vec<&'static str>),
}

fn find(name: &str) -> Found {
    if let Some(exact) = crate::options::option(name) {
        return Found::One(exact);
    }
    let fitting: Vec<_> = OPTIONS.iter().filter(|option| option.name.starts_with(name)).collect();
    match fitting[..] {
        [] => Found::None,
        [only] => Found::One(only),
        _ => Found::Several(fitting.iter().map(|option| option.name).collect()),
    }
}
