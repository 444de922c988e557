//! A number, and what is known of it.

use std::fmt;

use shell::Reason;

/// A count that may not be known: then nothing is judged by it, and the reason is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// This many.
    Exactly(usize),
    /// This many or more: why there may be more.
    AtLeast(usize, Reason),
    /// Nobody knows: why.
    Unknown(Reason),
}

impl Number {
    /// The number, where it is known exactly.
    pub(crate) fn exactly(&self) -> Option<usize> {
        match self {
            Self::Exactly(number) => Some(*number),
            Self::AtLeast(..) | Self::Unknown(_) => None,
        }
    }

    /// What it is not below.
    pub(crate) fn least(&self) -> usize {
        match self {
            Self::Exactly(number) | Self::AtLeast(number, _) => *number,
            Self::Unknown(_) => 0,
        }
    }

    /// Why it is not known exactly.
    pub(crate) fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Exactly(_) => None,
            Self::AtLeast(_, reason) | Self::Unknown(reason) => Some(reason),
        }
    }

    /// The number of one thing for each of another.
    pub(crate) fn times(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Exactly(a), Self::Exactly(b)) => Self::Exactly(a.saturating_mul(*b)),
            (Self::Unknown(reason), _) | (_, Self::Unknown(reason)) => Self::Unknown(reason.clone()),
            (Self::AtLeast(a, reason), b) | (b, Self::AtLeast(a, reason)) => {
                Self::AtLeast(a.saturating_mul(b.least()), reason.clone())
            }
        }
    }

    /// How many of these come on each of `places` at most, where they are spread evenly.
    pub(crate) fn spread_over(&self, places: &Self) -> Self {
        match (self, places) {
            (Self::Exactly(a), Self::Exactly(b)) => Self::Exactly(a.div_ceil((*b).max(1))),
            (Self::Exactly(0 | 1), _) => self.clone(),
            (Self::AtLeast(a, reason), Self::Exactly(b)) => Self::AtLeast(a.div_ceil((*b).max(1)), reason.clone()),
            (Self::Unknown(reason), _) | (_, Self::Unknown(reason) | Self::AtLeast(_, reason)) => {
                Self::Unknown(reason.clone())
            }
        }
    }

    /// The same, of which there may be more.
    pub(crate) fn or_more(self, reason: Reason) -> Self {
        match self {
            Self::Exactly(number) => Self::AtLeast(number, reason),
            number => number,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(number) => f.pad(&number.to_string()),
            Self::AtLeast(number, _) => f.pad(&format!("{number} or more")),
            Self::Unknown(_) => f.pad("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_stays_so() {
        let why = Reason::new("because", None);
        let (two, three, unknown) = (Number::Exactly(2), Number::Exactly(3), Number::Unknown(why.clone()));
        let more = two.clone().or_more(why.clone());
        assert_eq!(two.times(&three), Number::Exactly(6));
        assert_eq!(more.times(&three), Number::AtLeast(6, why.clone()));
        assert_eq!(two.times(&unknown), unknown);
        assert_eq!(three.spread_over(&two), Number::Exactly(2));
        assert_eq!(three.spread_over(&more), unknown);
        assert_eq!(Number::Exactly(1).spread_over(&unknown), Number::Exactly(1));
        assert_eq!((more.to_string(), unknown.to_string()), ("2 or more".to_owned(), "unknown".to_owned()));
    }
}
