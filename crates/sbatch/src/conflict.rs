//! Options that exclude each other: sbatch ends with a fatal error.

use std::fmt;
use std::str::FromStr;

use crate::request::{Request, Setting};
use crate::value::{Gres, ValueError};

/// A release of Slurm: year and month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The year, two digits.
    pub year: u16,
    /// The month.
    pub month: u16,
}

impl Version {
    /// The release `year.month`.
    pub const fn new(year: u16, month: u16) -> Self {
        Self { year, month }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.year, self.month)
    }
}

impl FromStr for Version {
    type Err = ValueError;

    /// Reads `23.02`, `23.02.6` and what `sinfo --version` prints: `slurm 23.02.6`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || ValueError {
            what: "release of Slurm",
            text: text.to_owned(),
            expected: "use year and month, such as 23.02",
        };
        // Debian's says `slurm-wlm 22.05.8`.
        let number = text.split_whitespace().last().unwrap_or_default();
        let mut parts = number.split(['.', '-']).map(|part| part.parse().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(year @ 14..), Some(month @ 1..=12)) => Ok(Self { year, month }),
            _ => Err(error()),
        }
    }
}

/// Two settings that exclude each other.
#[derive(Clone, Copy, Debug)]
pub struct Conflict<'r> {
    /// The setting to keep, if in doubt.
    pub first: &'r Setting,
    /// The other.
    pub second: &'r Setting,
    /// The release from which sbatch ends on it; before, one of the two was ignored in silence. `None`: it always did.
    pub since: Option<Version>,
}

/// Options of which one job may use one, and since which release (from Slurm's history).
const PAIRS: &[(&str, &str, Option<Version>)] = &[
    ("mem", "mem-per-cpu", None),
    ("mem", "mem-per-gpu", None),
    ("mem-per-cpu", "mem-per-gpu", None),
    ("cpus-per-task", "cpus-per-gpu", Some(Version::new(23, 11))),
    ("ntasks-per-gpu", "gpus-per-task", None),
    ("ntasks-per-gpu", "gpus-per-socket", None),
    ("ntasks-per-gpu", "ntasks-per-node", None),
    ("ntasks-per-gpu", "tres-per-task", None),
    ("exclusive", "oversubscribe", Some(Version::new(23, 2))),
    ("core-spec", "thread-spec", None),
    ("bb", "bbf", None),
];

/// Pairs that clash even where the environment set one of them.
const CLASH_WITH_ENVIRONMENT: &[&str] = &["ntasks-per-gpu"];

impl Request {
    /// The settings for which `sbatch` ends with "mutually exclusive".
    ///
    /// An option from the environment yields to one that excludes it from script or command line, except beside
    /// `--ntasks-per-gpu`.
    pub fn conflicts(&self) -> Vec<Conflict<'_>> {
        let both = |&(first, second, since): &(&str, &str, Option<Version>)| {
            let (first, second) = (self.get(first)?, self.get(second)?);
            let yields = first.is_from_environment() != second.is_from_environment()
                && !CLASH_WITH_ENVIRONMENT.contains(&first.option.key());
            (!yields).then_some(Conflict { first, second, since })
        };
        PAIRS.iter().filter_map(both).collect()
    }

    /// `--gres=gpu…` beside `--gpus-per-node`: fatal from [`Version`] 26.05 on, merged before.
    pub fn gres_beside_gpus_per_node(&self) -> Option<Conflict<'_>> {
        let (gres, gpus) = (self.get("gres")?, self.get("gpus-per-node")?);
        gres.parse::<Gres>().ok()?.gpus()?;
        Some(Conflict { first: gpus, second: gres, since: Some(Version::new(26, 5)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflicts(
        words: &str,
        environment: &'static [(&'static str, &'static str)],
    ) -> Vec<(&'static str, &'static str)> {
        let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
        let lookup =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let request = Request::without_script(lookup, &words);
        request.conflicts().iter().map(|conflict| (conflict.first.option.name, conflict.second.option.name)).collect()
    }

    #[test]
    fn pairs() {
        assert_eq!(conflicts("--mem=4G --mem-per-cpu=1G", &[]), [("mem", "mem-per-cpu")]);
        assert_eq!(conflicts("-c4 --cpus-per-gpu=2", &[]), [("cpus-per-task", "cpus-per-gpu")]);
        assert_eq!(conflicts("--ntasks-per-gpu=1 --ntasks-per-node=4", &[]), [("ntasks-per-gpu", "ntasks-per-node")]);
        assert_eq!(conflicts("--exclusive -s", &[]), [("exclusive", "oversubscribe")]);
        assert_eq!(conflicts("--mem=4G", &[("SBATCH_MEM_PER_CPU", "1G")]), []);
        assert_eq!(
            conflicts("--ntasks-per-gpu=1", &[("SBATCH_GPUS_PER_TASK", "1")]),
            [("ntasks-per-gpu", "gpus-per-task")]
        );
    }

    #[test]
    fn versions() {
        let cases = [
            ("23.02", Some((23, 2))),
            ("slurm 22.05.8", Some((22, 5))),
            ("slurm-wlm 22.05.8", Some((22, 5))),
            ("two", None),
        ];
        for (text, expected) in cases {
            let got = text.parse::<Version>().ok().map(|version| (version.year, version.month));
            assert_eq!(got, expected, "{text}");
        }
        assert!(Version::new(23, 11) > Version::new(22, 5));
    }
}
