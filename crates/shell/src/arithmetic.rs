//! `$((…))` and `(( … ))`: whole numbers, as C and bash reckon with them.

/// The value of `text`, where every variable in it is a number; `None` where that is not so, or where it changes a
/// variable. Nesting is limited: a script is not trusted.
pub(crate) fn evaluate(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<i64> {
    let mut reader = Reader { rest: text.trim(), variable, depth: 0 };
    let value = reader.choice()?;
    reader.skip_spaces();
    reader.rest.is_empty().then_some(value)
}

/// An assignment that `text` is: the variable, and its new value where that is known. `i++`, `i += 2`, `n = 4`.
pub(crate) fn assignment<'t>(
    text: &'t str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Option<(&'t str, Option<i64>)> {
    let text = text.trim();
    let step = |name: &'t str, by: i64| {
        let value = || (variable)(name)?.trim().parse::<i64>().ok()?.checked_add(by);
        crate::word::is_variable(name).then(|| (name, value()))
    };
    for (mark, by) in [("++", 1), ("--", -1)] {
        if let Some(name) = text.strip_prefix(mark).or_else(|| text.strip_suffix(mark)) {
            return step(name.trim(), by);
        }
    }
    let length = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let (name, rest) = text.split_at(length);
    let rest = rest.trim_start();
    if !crate::word::is_variable(name) || rest.starts_with("==") {
        return None;
    }
    if let Some(right) = rest.strip_prefix('=') {
        return Some((name, evaluate(right, variable)));
    }
    let operator = rest.chars().next().filter(|c| "+-*/%".contains(*c))?;
    let right = rest[1..].strip_prefix('=')?;
    Some((name, evaluate(&format!("{name} {operator} ({right})"), variable)))
}

struct Reader<'a> {
    rest: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
    depth: usize,
}

/// Binary operators, loosest first.
const LEVELS: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl Reader<'_> {
    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, text: &str) -> bool {
        self.skip_spaces();
        let found = self.rest.starts_with(text);
        if found {
            self.rest = &self.rest[text.len()..];
        }
        found
    }

    fn choice(&mut self) -> Option<i64> {
        self.depth += 1;
        if self.depth > 32 {
            return None;
        }
        let condition = self.binary(0)?;
        let value = if self.eat("?") {
            let yes = self.choice()?;
            if !self.eat(":") {
                return None;
            }
            let no = self.choice()?;
            if condition != 0 { yes } else { no }
        } else {
            condition
        };
        self.depth -= 1;
        Some(value)
    }

    /// The operator of this level that comes next, unless a longer one of another level does.
    fn operator(&mut self, level: usize) -> Option<&'static str> {
        self.skip_spaces();
        let longest = LEVELS.iter().copied().flatten().filter(|operator| self.rest.starts_with(**operator));
        let longest = longest.max_by_key(|operator| operator.len())?;
        let is_assignment =
            self.rest[longest.len()..].starts_with('=') && !matches!(*longest, "==" | "<=" | ">=" | "!=");
        // `**` is one operator, and assignments change what was worked out.
        if self.rest.starts_with("**") || is_assignment || !LEVELS[level].contains(longest) {
            return None;
        }
        self.rest = &self.rest[longest.len()..];
        Some(longest)
    }

    fn binary(&mut self, level: usize) -> Option<i64> {
        if level == LEVELS.len() {
            return self.power();
        }
        let mut value = self.binary(level + 1)?;
        while let Some(operator) = self.operator(level) {
            let right = self.binary(level + 1)?;
            value = match operator {
                "||" => i64::from(value != 0 || right != 0),
                "&&" => i64::from(value != 0 && right != 0),
                "|" => value | right,
                "^" => value ^ right,
                "&" => value & right,
                "==" => i64::from(value == right),
                "!=" => i64::from(value != right),
                "<=" => i64::from(value <= right),
                ">=" => i64::from(value >= right),
                "<" => i64::from(value < right),
                ">" => i64::from(value > right),
                "<<" => value.checked_shl(u32::try_from(right).ok()?)?,
                ">>" => value.checked_shr(u32::try_from(right).ok()?)?,
                "+" => value.checked_add(right)?,
                "-" => value.checked_sub(right)?,
                "*" => value.checked_mul(right)?,
                "/" => value.checked_div(right)?,
                _ => value.checked_rem(right)?,
            };
        }
        Some(value)
    }

    fn power(&mut self) -> Option<i64> {
        let base = self.atom()?;
        if !self.eat("**") {
            return Some(base);
        }
        self.depth += 1;
        let exponent = if self.depth > 32 { None } else { self.power() };
        self.depth -= 1;
        base.checked_pow(u32::try_from(exponent?).ok()?)
    }

    fn atom(&mut self) -> Option<i64> {
        self.depth += 1;
        if self.depth > 32 {
            return None;
        }
        self.skip_spaces();
        let value = if self.eat("(") {
            let value = self.choice()?;
            if !self.eat(")") {
                return None;
            }
            value
        } else if self.rest.starts_with("++") || self.rest.starts_with("--") {
            return None;
        } else if self.eat("-") {
            self.atom()?.checked_neg()?
        } else if self.eat("+") {
            self.atom()?
        } else if self.eat("!") {
            i64::from(self.atom()? == 0)
        } else if self.eat("~") {
            !self.atom()?
        } else {
            let length = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            let (name, rest) = self.rest.split_at(length);
            self.rest = rest;
            match name.chars().next()? {
                c if c.is_ascii_digit() => number(name)?,
                _ => number((self.variable)(name)?.trim())?,
            }
        };
        self.skip_spaces();
        if self.rest.starts_with("++") || self.rest.starts_with("--") {
            return None;
        }
        self.depth -= 1;
        Some(value)
    }
}

/// `42`, `0x2a`, `052` (which is 42, too).
fn number(text: &str) -> Option<i64> {
    let (text, sign) = text.strip_prefix('-').map_or((text, 1), |text| (text, -1));
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let value = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => i64::from_str_radix(digits, 16).ok()?,
        None if text.len() > 1 && text.starts_with('0') => i64::from_str_radix(text, 8).ok()?,
        None => text.parse().ok()?,
    };
    value.checked_mul(sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let variable = |name: &str| (name == "N").then(|| "4".to_owned());
        let cases = [
            ("2 * N + 1", Some(9)),
            ("N*(N - 1)", Some(12)),
            ("-N / 3", Some(-1)),
            ("7 % N", Some(3)),
            ("N > 2 && N <= 4", Some(1)),
            ("N == 4 ? 8 : 16", Some(8)),
            ("!N || 1 << 3", Some(1)),
            ("2 ** 3 * 2", Some(16)),
            ("0x10 + 010", Some(24)),
            ("1 - -1", Some(2)),
            ("08", None),
            ("1 / 0", None),
            ("M", None),
            ("2 **", None),
            ("", None),
            ("N++", None),
            ("N += 1", None),
            ("9223372036854775807 + 1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(evaluate(text, &variable), expected, "{text:?}");
        }
        for text in ["(", "-", "!", "1**", "1?", "1+"] {
            assert_eq!(evaluate(&text.repeat(100_000), &variable), None);
        }
    }

    #[test]
    fn assignments() {
        let variable = |name: &str| (name == "i").then(|| "4".to_owned());
        let cases = [
            ("i++", Some(("i", Some(5)))),
            ("--i", Some(("i", Some(3)))),
            ("i += 2 * i", Some(("i", Some(12)))),
            ("n = i + 1", Some(("n", Some(5)))),
            ("n = m", Some(("n", None))),
            ("n++", Some(("n", None))),
            ("i == 4", None),
            ("i < 4", None),
            ("4", None),
        ];
        for (text, expected) in cases {
            assert_eq!(assignment(text, &variable), expected, "{text:?}");
        }
    }
}
