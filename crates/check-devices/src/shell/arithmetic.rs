//! `$((…))`: whole numbers, `+ - * / %` and brackets.

/// The value of `text`, where every variable in it is a number. Nesting is limited: a script is not trusted.
pub(super) fn evaluate(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<i64> {
    let mut reader = Reader { rest: text.trim(), variable, depth: 0 };
    let value = reader.sum()?;
    reader.skip_spaces();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
    depth: usize,
}

impl Reader<'_> {
    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn operator(&mut self, operators: &[char]) -> Option<char> {
        self.skip_spaces();
        let found = self.rest.chars().next().filter(|c| operators.contains(c))?;
        // `**`, `<<` and their like are not read.
        self.rest = &self.rest[1..];
        Some(found)
    }

    fn sum(&mut self) -> Option<i64> {
        let mut value = self.product()?;
        while let Some(operator) = self.operator(&['+', '-']) {
            let right = self.product()?;
            value = if operator == '+' { value.checked_add(right)? } else { value.checked_sub(right)? };
        }
        Some(value)
    }

    fn product(&mut self) -> Option<i64> {
        let mut value = self.atom()?;
        while let Some(operator) = self.operator(&['*', '/', '%']) {
            let right = self.atom()?;
            value = match operator {
                '*' => value.checked_mul(right)?,
                '/' => value.checked_div(right)?,
                _ => value.checked_rem(right)?,
            };
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<i64> {
        self.depth += 1;
        if self.depth > 64 {
            return None;
        }
        self.skip_spaces();
        let value = if self.operator(&['(']).is_some() {
            let value = self.sum()?;
            self.operator(&[')'])?;
            value
        } else if self.operator(&['-']).is_some() {
            self.atom()?.checked_neg()?
        } else {
            self.operator(&['$']);
            let braces = self.operator(&['{']).is_some();
            let length = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            let (name, rest) = self.rest.split_at(length);
            self.rest = rest;
            if braces {
                self.operator(&['}'])?;
            }
            match name.chars().next()? {
                c if c.is_ascii_digit() => name.parse().ok()?,
                _ => (self.variable)(name)?.trim().parse().ok()?,
            }
        };
        self.depth -= 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let variable = |name: &str| (name == "N").then(|| "4".to_owned());
        let cases = [
            ("2 * N + 1", Some(9)),
            ("$N*(${N} - 1)", Some(12)),
            ("-N / 3", Some(-1)),
            ("7 % N", Some(3)),
            ("1 / 0", None),
            ("M", None),
            ("2 **", None),
            ("", None),
            ("9223372036854775807 + 1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(evaluate(text, &variable), expected, "{text:?}");
        }
        assert_eq!(evaluate(&"(".repeat(100_000), &variable), None);
    }
}
