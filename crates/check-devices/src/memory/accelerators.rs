//! Accelerators by name and the memory that their driver reports.

use anyhow::bail;
use sbatch::value::Memory;

use crate::site::Site;

/// An accelerator and its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accelerator {
    /// Its name in the table.
    pub(crate) name: String,
    /// Memory in bytes.
    pub(crate) bytes: u64,
}

const MIB: u64 = 1024 * 1024;

/// Name and MiB as the driver reports them. Where a model exists in two sizes, its bare name is the smaller one.
const TABLE: &[(&str, u64)] = &[
    ("a10", 23_028),
    ("a100", 40_960),
    ("a100-40", 40_960),
    ("a100-80", 81_920),
    ("a30", 24_576),
    ("a40", 46_068),
    ("b200", 183_359),
    ("gh200", 97_871),
    ("h100", 81_559),
    ("h100-80", 81_559),
    ("h100-94", 95_830),
    ("h200", 143_771),
    ("l4", 23_034),
    ("l40", 46_068),
    ("l40s", 46_068),
    ("mi100", 32_752),
    ("mi210", 65_520),
    ("mi250", 65_520), // each of its two devices
    ("mi250x", 65_520),
    ("mi300x", 196_592),
    ("mi325x", 262_128),
    ("p100", 16_384),
    ("rtx-2080-ti", 11_264),
    ("rtx-3090", 24_576),
    ("rtx-4090", 24_564),
    ("rtx-6000-ada", 49_140),
    ("rtx-a5000", 24_564),
    ("rtx-a6000", 49_140),
    ("t4", 15_360),
    ("v100", 16_384),
    ("v100-16", 16_384),
    ("v100-32", 32_768),
];

/// The names of the table.
fn known_names() -> String {
    TABLE.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The accelerator called `name`: the site file's, else the table's, else an amount of memory such as `48G`. Case, `_`
/// and a leading `nvidia` or `amd instinct` do not matter, and Slurm's `a100_80gb` is `a100-80`.
///
/// # Errors
/// The names that there are.
pub(crate) fn accelerator(name: &str, site: &Site) -> anyhow::Result<Accelerator> {
    let found = |name: &str, bytes: u64| Accelerator { name: name.to_owned(), bytes };
    if let Some(memory) = site.accelerators.get(name) {
        return Ok(found(name, memory.parse::<Memory>()?.mib * MIB));
    }
    let normal = name.to_ascii_lowercase().replace(['_', ' '], "-");
    let normal = ["nvidia-", "amd-", "instinct-"]
        .iter()
        .fold(normal.as_str(), |name, maker| name.strip_prefix(maker).unwrap_or(name))
        .trim_end_matches("gb");
    let tokens: Vec<_> = normal.split('-').collect();
    // `a100-sxm4-80` has the words of `a100-80`; the longest name whose words all occur is meant.
    let fits = |known: &&(&str, u64)| known.0.split('-').all(|word| tokens.contains(&word));
    if let Some(&(known, mib)) = TABLE.iter().filter(fits).max_by_key(|known| known.0.len()) {
        return Ok(found(known, mib * MIB));
    }
    if name.ends_with(|c: char| c.is_ascii_alphabetic())
        && let Ok(memory) = name.parse::<Memory>()
    {
        return Ok(found(name, memory.mib * MIB));
    }
    bail!("no accelerator is called '{name}'; there are: {}; or give its memory, such as 48G", known_names())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_and_slurm_write_them() {
        let site = Site { accelerators: [("mine".to_owned(), "48G".to_owned())].into(), ..Site::default() };
        let cases = [
            ("a100-40", Some(("a100-40", 40_960))),
            ("A100_80GB", Some(("a100-80", 81_920))),
            ("nvidia_a100-sxm4-80gb", Some(("a100-80", 81_920))),
            ("a100", Some(("a100", 40_960))),
            ("NVIDIA L40S", Some(("l40s", 46_068))),
            ("rtx_2080_ti", Some(("rtx-2080-ti", 11_264))),
            ("AMD Instinct MI300X", Some(("mi300x", 196_592))),
            ("mi250x", Some(("mi250x", 65_520))),
            ("mine", Some(("mine", 49_152))),
            ("48G", Some(("48G", 49_152))),
            ("quantum", None),
            ("48", None),
        ];
        for (name, expected) in cases {
            let got = accelerator(name, &site).ok();
            let got = got.as_ref().map(|got| (got.name.as_str(), got.bytes / MIB));
            assert_eq!(got, expected, "{name}");
        }
    }
}
