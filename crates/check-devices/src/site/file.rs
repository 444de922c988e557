//! Reading the site file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sbatch::Version;
use sbatch::value::Memory;
use serde::Deserialize;

use crate::facts::Partition;

/// What a site says about itself. Everything is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Site {
    /// Slurm's release: `"23.02"`.
    pub(crate) slurm_version: Option<String>,
    /// Options of sbatch that plugins of this site add, without dashes.
    pub(crate) plugin_options: Vec<String>,
    /// Whether compute nodes reach the internet.
    pub(crate) internet_on_compute_nodes: Option<bool>,
    /// Folders that each node has for itself.
    pub(crate) node_local: Vec<String>,
    /// Whether jobs may be submitted from compute nodes.
    pub(crate) submit_from_compute_nodes: Option<bool>,
    /// Checks whose findings this site does not want to hear.
    pub(crate) allow: Vec<String>,
    /// Memory of accelerators that the built-in table lacks: `"my-gpu" = "48G"`.
    pub(crate) accelerators: BTreeMap<String, String>,
    /// The partitions.
    pub(crate) partition: Vec<Partition>,
    /// Where it was read from.
    #[serde(skip)]
    pub(crate) path: Option<PathBuf>,
}

impl Site {
    /// The site file that counts: the one named, else `$CHECK_DEVICES_SITE`, else the user's own
    /// (`check-devices.toml` in the user's configuration folder), else `/etc/check-devices.toml`, else nothing.
    ///
    /// # Errors
    /// A file that is named and cannot be read, or any that does not make sense.
    pub(crate) fn load(named: Option<&Path>, environment: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let variable = || environment("CHECK_DEVICES_SITE").filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(path) = named.map(Path::to_path_buf).or_else(variable) {
            let text = std::fs::read_to_string(&path).with_context(|| format!("site file {}", path.display()))?;
            return Self::parse(&text, Some(path));
        }
        let user = environment("XDG_CONFIG_HOME").map(PathBuf::from);
        let user = user.or_else(|| environment("HOME").map(|home| Path::new(&home).join(".config")));
        let usual = user.map(|folder| folder.join("check-devices.toml"));
        for path in usual.into_iter().chain([PathBuf::from("/etc/check-devices.toml")]) {
            match std::fs::read_to_string(&path) {
                Ok(text) => return Self::parse(&text, Some(path)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("site file {}", path.display())),
            }
        }
        Ok(Self::default())
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// What does not make sense, with its line.
    pub(crate) fn parse(text: &str, path: Option<PathBuf>) -> anyhow::Result<Self> {
        let shown =
            path.as_ref().map_or_else(|| "site file".to_owned(), |path| format!("site file {}", path.display()));
        let mut site: Self = toml::from_str(text).with_context(|| shown.clone())?;
        if let Some(version) = &site.slurm_version {
            version.parse::<Version>().with_context(|| format!("{shown}: slurm_version"))?;
        }
        for (name, memory) in &site.accelerators {
            memory.parse::<Memory>().with_context(|| format!("{shown}: accelerators.{name}"))?;
        }
        site.path = path;
        Ok(site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_file_is_read_strictly() {
        let text = "slurm_version = '23.02'\n[accelerators]\nx = '48G'\n[[partition]]\nname = 'gpu'\ncpus = 64\ngres = 'gpu:a100:4'\n";
        let site = Site::parse(text, None).unwrap();
        assert_eq!((site.partition[0].cpus, site.partition[0].gres.as_deref()), (Some(64), Some("gpu:a100:4")));
        for (text, words) in [
            ("slurm = 1", "unknown field `slurm`"),
            ("slurm_version = 'new'", "use year and month"),
            ("[accelerators]\nx = 'much'", "accelerators.x"),
        ] {
            let error = format!("{:#}", Site::parse(text, None).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }
}
