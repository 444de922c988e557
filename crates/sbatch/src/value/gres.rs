//! `--gres=gpu:a100:4,shard:2` and `--gpus…=[type:]count`: generic resources.

use std::str::FromStr;

use super::ValueError;

/// One resource of a `--gres` list, or of what `sinfo` prints for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GresItem {
    /// The resource: `gpu`.
    pub name: String,
    /// Its type: `a100`.
    pub kind: Option<String>,
    /// How many on each node.
    pub count: u64,
}

/// The resources of each node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gres(pub Vec<GresItem>);

impl Gres {
    /// The GPUs among them, if there are any: their sum over all types.
    pub fn gpus(&self) -> Option<u64> {
        let mut gpus = self.0.iter().filter(|item| item.name == "gpu").peekable();
        gpus.peek()?;
        Some(gpus.fold(0, |sum, item| sum.saturating_add(item.count)))
    }

    /// The type of the GPUs, where one is named.
    pub fn gpu_kind(&self) -> Option<&str> {
        self.0.iter().filter(|item| item.name == "gpu").find_map(|item| item.kind.as_deref())
    }
}

impl FromStr for Gres {
    type Err = ValueError;

    /// Also reads what nodes print: `gpu:a100:4(S:0-1)`, `(null)`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.eq_ignore_ascii_case("none") || text == "(null)" {
            return Ok(Self::default());
        }
        let items: Option<Vec<_>> = split_outside_brackets(text).into_iter().map(item).collect();
        items.map(Self).ok_or_else(|| {
            ValueError::new("list of generic resources", text, "use name[:type]:count, such as gpu:4 or gpu:a100:4")
        })
    }
}

/// At commas, but not at those in the `(IDX:0,2)` that nodes print.
fn split_outside_brackets(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn item(text: &str) -> Option<GresItem> {
    let text = text.split('(').next().unwrap_or_default();
    let text = text.strip_prefix("gres:").or_else(|| text.strip_prefix("gres/")).unwrap_or(text);
    let parts: Vec<_> = text.split([':', '=']).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    let (kind, count) = match parts[1..] {
        [] => (None, 1),
        // A number is a count; anything else is a type, of which there is one.
        [only] => count(only).map_or((Some(only), 1), |count| (None, count)),
        [kind, number] => (Some(kind), count(number)?),
        _ => return None,
    };
    Some(GresItem { name: parts[0].to_owned(), kind: kind.map(str::to_owned), count })
}

/// A number with the suffix K, M, G, T or P, in powers of 1024.
fn count(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let exponent = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        _ => return None,
    };
    digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(1024u64.pow(exponent))
}

/// `--gpus`, `--gpus-per-node`, `--gpus-per-task`, `--gpus-per-socket`: `4`, `a100:4`, `a100:2,v100:2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuCount {
    /// The type, where exactly one is named.
    pub kind: Option<String>,
    /// How many, over all types.
    pub count: usize,
}

impl FromStr for GpuCount {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError::new("number of GPUs", text, "use [type:]count, such as 4 or a100:4");
        let mut kinds = Vec::new();
        let mut sum = 0u64;
        for part in text.split(',') {
            let (kind, number) = match part.rsplit_once([':', '=']) {
                Some((kind, number)) => (Some(kind), number),
                None => (None, part),
            };
            if kind.is_some_and(str::is_empty) {
                return Err(error());
            }
            kinds.extend(kind);
            sum = sum.saturating_add(count(number).ok_or_else(error)?);
        }
        let count = usize::try_from(sum).ok().filter(|&count| count <= i32::MAX as usize).ok_or_else(error)?;
        Ok(Self { kind: (kinds.len() == 1).then(|| kinds[0].to_owned()), count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_resources() {
        let gpus = |text: &str| text.parse::<Gres>().ok().map(|gres| (gres.gpus(), gres.gpu_kind().map(str::to_owned)));
        let cases = [
            ("gpu", Some((Some(1), None))),
            ("gpu:4", Some((Some(4), None))),
            ("gpu:a100:4,shard:2", Some((Some(4), Some("a100")))),
            ("gpu:a100", Some((Some(1), Some("a100")))),
            ("gpu:a100:2,gpu:v100:2", Some((Some(4), Some("a100")))),
            ("gres:gpu:2", Some((Some(2), None))),
            ("gpu:a100:4(S:0-1)", Some((Some(4), Some("a100")))),
            ("gpu:h100:4(IDX:0,2),tmp:1T", Some((Some(4), Some("h100")))),
            ("lustre:1", Some((None, None))),
            ("none", Some((None, None))),
            ("(null)", Some((None, None))),
            ("gpu:", None),
            ("gpu:a100:x", None),
            ("gpu:a:b:2", None),
            ("", None),
            ("gpu:2,", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(count, kind): (_, Option<&str>)| (count, kind.map(str::to_owned)));
            assert_eq!(gpus(text), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_of_gpus() {
        let cases = [
            ("4", Some((4, None))),
            ("a100:4", Some((4, Some("a100")))),
            ("a100:2,v100:2", Some((4, None))),
            ("0", Some((0, None))),
            ("", None),
            ("a100", None),
            (":2", None),
            ("a100:two", None),
            ("-1", None),
        ];
        for (text, expected) in cases {
            let got = text.parse::<GpuCount>().ok().map(|gpus| (gpus.count, gpus.kind));
            assert_eq!(got, expected.map(|(count, kind)| (count, kind.map(str::to_owned))), "{text:?}");
        }
    }
}
