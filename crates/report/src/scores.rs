//! What a model is judged by, and how that is read.

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A number that says how good a model is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// Its key in records: `top1`.
    pub name: String,
    /// For people: `top-1`.
    pub title: String,
    /// Which of two results is better.
    pub better: Better,
    /// Whether it is a share, 0–1, which is shown in percent.
    pub is_share: bool,
}

/// Which of two results is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The higher one.
    Higher,
    /// The lower one.
    Lower,
}

impl Metric {
    /// A share, 0–1, of which more is better.
    pub fn share(name: &str, title: &str) -> Self {
        Self { name: name.to_owned(), title: title.to_owned(), better: Better::Higher, is_share: true }
    }

    /// An error or a loss: a number of which less is better, called `name` everywhere.
    pub fn error(name: &str) -> Self {
        Self { name: name.to_owned(), title: name.to_owned(), better: Better::Lower, is_share: false }
    }

    /// A number of which more is better, called `name` everywhere.
    pub fn number(name: &str) -> Self {
        Self { better: Better::Higher, ..Self::error(name) }
    }

    /// The same under another name for people.
    #[must_use]
    pub fn titled(self, title: &str) -> Self {
        Self { title: title.to_owned(), ..self }
    }

    /// The metric that a record of an older run calls `name`.
    pub(crate) fn of_name(name: &str) -> Self {
        match name {
            "top1" => Self::share(name, "top-1"),
            "top5" => Self::share(name, "top-5"),
            _ => Self::error(name),
        }
    }

    /// Whether `value` is a better result than `best`. NaN is no result.
    pub fn is_better(&self, value: f64, best: f64) -> bool {
        match self.better {
            Better::Higher => value > best,
            Better::Lower => value < best,
        }
    }

    /// A value of it for people, with a `space` before the sign of percent.
    pub(crate) fn shown(&self, value: f64, space: char) -> String {
        if self.is_share { format!("{:.2}{space}%", value * 100.0) } else { format!("{value:.4}") }
    }

    /// A value of it with its title: `top-1 97.50 %`.
    pub fn words(&self, value: f64) -> String {
        format!("{} {}", self.title, self.shown(value, ' '))
    }
}

/// Values of metrics, by name, in the order in which they are shown. The first one decides which of two models is better.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores(pub Vec<(String, f64)>);

impl Scores {
    /// The value of the metric called `name`; NaN where there is none.
    pub fn get(&self, name: &str) -> f64 {
        self.0.iter().find(|(known, _)| known == name).map_or(f64::NAN, |(_, value)| *value)
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Whatever of a map is a number, or null, which is NaN.
impl<'de> Deserialize<'de> for Scores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;

        impl<'de> Visitor<'de> for Numbers {
            type Value = Scores;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("numbers by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scores, A::Error> {
                let mut scores = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    match value {
                        Value::Null => scores.push((name, f64::NAN)),
                        value => scores.extend(value.as_f64().map(|value| (name, value))),
                    }
                }
                Ok(Scores(scores))
            }
        }
        deserializer.deserialize_map(Numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_written() {
        let scores = Scores(vec![("mae".to_owned(), 0.25), ("a".to_owned(), f64::NAN)]);
        let text = serde_json::to_string(&scores).unwrap();
        assert_eq!(text, "{\"mae\":0.25,\"a\":null}");
        let read: Scores = serde_json::from_str(&text.replace('}', ",\"note\":[1]}")).unwrap();
        assert_eq!((read.get("mae"), read.0.len(), read.get("a").is_nan()), (0.25, 2, true));
    }

    #[test]
    fn the_better_of_two_results_is_the_metric_s_word() {
        let (share, error) = (Metric::share("iou", "IoU"), Metric::error("mae"));
        assert!(share.is_better(0.6, 0.5) && !share.is_better(0.5, 0.5) && !share.is_better(f64::NAN, 0.5));
        assert!(error.is_better(0.4, 0.5) && !error.is_better(0.5, 0.5) && !error.is_better(f64::NAN, 0.5));
        assert_eq!((share.words(0.975), error.words(0.5)), ("IoU 97.50 %".to_owned(), "mae 0.5000".to_owned()));
    }
}
