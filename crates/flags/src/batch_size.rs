//! The global batch as it is typed.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// `64`, or `auto:64`: in micro-batches that fit in the memory. `auto` alone is the default batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    /// Images per step, over all ranks.
    pub images: usize,
    /// Whether it is computed in as many parts as the memory asks for.
    pub fit_memory: bool,
}

impl FromStr for BatchSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, fit_memory) = match text {
            "auto" => ("64", true),
            _ => text.strip_prefix("auto:").map_or((text, false), |number| (number, true)),
        };
        let images = number.parse().map_err(|_| "is not a number of images, nor auto:NUMBER".to_owned())?;
        Ok(Self { images, fit_memory })
    }
}

impl fmt::Display for BatchSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.fit_memory { "auto:" } else { "" }, self.images)
    }
}

impl Serialize for BatchSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.fit_memory { serializer.collect_str(self) } else { serializer.serialize_u64(self.images as u64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_read_as_it_is_written() {
        for (text, images, fit_memory) in [("48", 48, false), ("auto:256", 256, true)] {
            let batch: BatchSize = text.parse().unwrap();
            assert_eq!((batch, batch.to_string().as_str()), (BatchSize { images, fit_memory }, text));
        }
        assert_eq!("auto".parse(), Ok(BatchSize { images: 64, fit_memory: true }));
        for text in ["", "many", "auto:", "auto:x", "-1", "6.5"] {
            assert!(text.parse::<BatchSize>().is_err(), "{text}");
        }
    }
}
