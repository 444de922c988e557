//! `[ … ]` and `[[ … ]]`, as far as they compare texts and numbers; what asks the file system is unknown.

use crate::arithmetic::evaluate;
use crate::expand::Argument;
use crate::run::Status;

impl From<bool> for Status {
    fn from(yes: bool) -> Self {
        if yes { Self::Success } else { Self::Failure }
    }
}

impl Status {
    pub(crate) fn not(self) -> Self {
        match self {
            Self::Success => Self::Failure,
            Self::Failure => Self::Success,
            Self::Unknown => Self::Unknown,
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Failure, _) | (_, Self::Failure) => Self::Failure,
            (Self::Success, Self::Success) => Self::Success,
            _ => Self::Unknown,
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }
}

/// What `words` between the brackets come to. `double`: of `[[ … ]]`, whose right side of `==` is a pattern.
pub(crate) fn holds(words: &[Argument], double: bool, variable: &dyn Fn(&str) -> Option<String>) -> Status {
    Test { words, next: 0, double, variable, depth: 0 }.whole()
}

struct Test<'a> {
    words: &'a [Argument],
    next: usize,
    double: bool,
    variable: &'a dyn Fn(&str) -> Option<String>,
    depth: usize,
}

impl Test<'_> {
    fn whole(mut self) -> Status {
        // An unquoted word that may be none at all turns the others into something else.
        if !self.double && self.words.iter().any(|word| word.is_any_number) {
            return Status::Unknown;
        }
        if self.words.is_empty() {
            return Status::Failure;
        }
        let status = self.either();
        if self.next == self.words.len() { status } else { Status::Unknown }
    }

    fn peek(&self, ahead: usize) -> Option<&str> {
        self.words.get(self.next + ahead)?.known()
    }

    fn eat(&mut self, texts: [&str; 2]) -> bool {
        let found = self.peek(0).is_some_and(|text| texts[usize::from(self.double)] == text);
        self.next += usize::from(found);
        found
    }

    fn either(&mut self) -> Status {
        let mut status = self.both();
        while self.eat(["-o", "||"]) {
            status = status.or(self.both());
        }
        status
    }

    fn both(&mut self) -> Status {
        let mut status = self.one();
        while self.eat(["-a", "&&"]) {
            status = status.and(self.one());
        }
        status
    }

    fn one(&mut self) -> Status {
        self.depth += 1;
        if self.depth > 32 {
            self.next = usize::MAX / 2;
            return Status::Unknown;
        }
        let left = self.words.len().saturating_sub(self.next);
        let status = if self.peek(0) == Some("!") && left > 1 {
            self.next += 1;
            self.one().not()
        } else if self.peek(0) == Some("(") && self.double {
            self.next += 1;
            let status = self.either();
            if self.peek(0) == Some(")") {
                self.next += 1;
                status
            } else {
                Status::Unknown
            }
        } else {
            self.primary(left)
        };
        self.depth -= 1;
        status
    }

    fn primary(&mut self, left: usize) -> Status {
        let binary = self.peek(1).filter(|_| left >= 3).and_then(operator);
        if let Some(binary) = binary {
            let (a, b) = (&self.words[self.next], &self.words[self.next + 2]);
            let status = self.compare(binary, a, b);
            self.next += 3;
            return status;
        }
        let unary = self.peek(0).filter(|text| left >= 2 && text.len() == 2 && text.starts_with('-'));
        if let Some(unary) = unary {
            let word = &self.words[self.next + 1];
            let is_empty = match word.known() {
                Some(text) => Status::from(text.is_empty()),
                // Something stands before or behind what is not known.
                None if !word.start.is_empty() || !word.end.is_empty() => Status::Failure,
                None => Status::Unknown,
            };
            let status = match unary {
                "-z" => is_empty,
                "-n" => is_empty.not(),
                _ => Status::Unknown,
            };
            self.next += 2;
            return status;
        }
        let status = self.peek(0).map_or(Status::Unknown, |text| Status::from(!text.is_empty()));
        self.next += 1;
        status
    }

    fn compare(&self, binary: Binary, a: &Argument, b: &Argument) -> Status {
        let (Some(a), Some(b)) = (a.known(), b.known()) else { return Status::Unknown };
        let numbers = || {
            let number = |text: &str| match self.double {
                true => evaluate(text, self.variable),
                false => text.trim().parse().ok(),
            };
            Some((number(a)?, number(b)?))
        };
        let of = |holds: fn(i64, i64) -> bool| numbers().map_or(Status::Unknown, |(a, b)| holds(a, b).into());
        match binary {
            // A pattern that is one is not matched here.
            Binary::Same | Binary::Differs if self.double && b.contains(['*', '?', '[']) => Status::Unknown,
            Binary::Same => (a == b).into(),
            Binary::Differs => (a != b).into(),
            Binary::Equal => of(|a, b| a == b),
            Binary::Unequal => of(|a, b| a != b),
            Binary::Less => of(|a, b| a < b),
            Binary::AtMost => of(|a, b| a <= b),
            Binary::More => of(|a, b| a > b),
            Binary::AtLeast => of(|a, b| a >= b),
            Binary::Other => Status::Unknown,
        }
    }
}

#[derive(Clone, Copy)]
enum Binary {
    Same,
    Differs,
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
    Other,
}

fn operator(text: &str) -> Option<Binary> {
    Some(match text {
        "=" | "==" => Binary::Same,
        "!=" => Binary::Differs,
        "-eq" => Binary::Equal,
        "-ne" => Binary::Unequal,
        "-lt" => Binary::Less,
        "-le" => Binary::AtMost,
        "-gt" => Binary::More,
        "-ge" => Binary::AtLeast,
        "=~" | "<" | ">" | "-nt" | "-ot" | "-ef" => Binary::Other,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use source_text::Span;

    use super::*;

    #[test]
    fn tests() {
        use Status::{Failure, Success, Unknown};
        let cases = [
            ("4 -gt 2", Success),
            ("4 -le 2", Failure),
            ("a = a", Success),
            ("a != a", Failure),
            ("-z a", Failure),
            ("-n a", Success),
            ("! -z a", Success),
            ("a", Success),
            ("-f a", Unknown),
            ("? = a", Unknown),
            ("? = a -a b = c", Failure),
            ("? = a -o b = b", Success),
            ("x -gt 2", Unknown),
            ("!", Success),
        ];
        let argument = |text: &str| match text {
            "?" => Argument { text: None, ..Argument::literal("", Span::default()) },
            _ => Argument::literal(text, Span::default()),
        };
        for (text, expected) in cases {
            let words: Vec<_> = text.split(' ').map(argument).collect();
            assert_eq!(holds(&words, false, &|_| None), expected, "{text}");
        }
        let cases = [
            ("a == b*", Unknown),
            ("a == b && ? == c", Failure),
            ("( a == a || ? == c ) && 1 -eq 1", Success),
            ("N -eq 4", Success),
            ("a =~ b", Unknown),
        ];
        for (text, expected) in cases {
            let words: Vec<_> = text.split(' ').map(argument).collect();
            let variable = |name: &str| (name == "N").then(|| "4".to_owned());
            assert_eq!(holds(&words, true, &variable), expected, "{text}");
        }
    }
}
