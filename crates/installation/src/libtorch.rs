//! Libtorch, as PyTorch's wheel brings it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::sites::Surroundings;

/// The release of libtorch that this program speaks with: that of tch. c10d's C++ interface changes between patches.
pub const LIBTORCH_RELEASE: &str = "2.11.0";

/// Names a folder with libtorch, which then is the one.
const VARIABLE: &str = "RUST_TRAIN_LIBTORCH";

/// A libtorch of the right release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libtorch {
    /// The folder of `libtorch_cpu.so`.
    pub folder: PathBuf,
    /// "2.11.0+cu130".
    pub version: String,
    /// Whether its half for GPUs is there, NVIDIA's or AMD's.
    pub has_cuda: bool,
}

/// There is none, or none of the right release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoLibtorch {
    /// What was found: folders and releases.
    pub others: Vec<(PathBuf, String)>,
    /// Where was looked.
    pub looked: Vec<PathBuf>,
}

impl std::error::Error for NoLibtorch {}

impl fmt::Display for NoLibtorch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.others.first() {
            Some((folder, version)) => write!(
                f,
                "PyTorch {version} in {} does not do, {LIBTORCH_RELEASE} is needed: pip install torch=={LIBTORCH_RELEASE}",
                folder.display()
            ),
            None => {
                let looked: Vec<_> = self.looked.iter().map(|folder| folder.display().to_string()).collect();
                write!(
                    f,
                    "there is no PyTorch, whose libtorch is needed: pip install torch=={LIBTORCH_RELEASE}, or name its folder with \
                     {VARIABLE}=DIR (looked in {})",
                    looked.join(", ")
                )
            }
        }
    }
}

/// Looks for libtorch: where the user says, else among Python's packages, else where `LIBTORCH` and `LD_LIBRARY_PATH` say.
///
/// # Errors
/// That there is none of this release, what else there is, and where was looked.
pub fn find_libtorch(surroundings: &Surroundings<'_>) -> Result<Libtorch, NoLibtorch> {
    let variable = surroundings.variable;
    let in_folder = |folder: PathBuf| [folder.join("lib"), folder];
    let mut places = Vec::new();
    match variable(VARIABLE).filter(|folder| !folder.is_empty()) {
        Some(folder) => places.extend(in_folder(folder.into())),
        None => {
            places.extend(surroundings.sites().into_iter().map(|site| site.join("torch/lib")));
            places.extend(variable("LIBTORCH").into_iter().flat_map(|folder| in_folder(folder.into())));
            let paths = variable("LD_LIBRARY_PATH").unwrap_or_default();
            places.extend(paths.split(':').filter(|folder| !folder.is_empty()).map(PathBuf::from));
        }
    }
    let mut none = NoLibtorch { others: Vec::new(), looked: Vec::new() };
    for folder in places {
        if !folder.join("libtorch_cpu.so").exists() {
            none.looked.push(folder);
            continue;
        }
        let version = version(&folder).unwrap_or_else(|| "of an unknown release".to_owned());
        if version.split('+').next() == Some(LIBTORCH_RELEASE) {
            let has_cuda = ["libtorch_cuda.so", "libtorch_hip.so"].iter().any(|half| folder.join(half).exists());
            return Ok(Libtorch { folder, version, has_cuda });
        }
        none.others.push((folder, version));
    }
    Err(none)
}

/// What the package, or libtorch's own folder, says of its release.
fn version(lib: &Path) -> Option<String> {
    let folder = lib.parent()?;
    let of_package = fs::read_to_string(folder.join("version.py")).ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("__version__"))?;
        Some(line.trim_matches([' ', '=', '\'', '"']).to_owned())
    });
    of_package.or_else(|| Some(fs::read_to_string(folder.join("build-version")).ok()?.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sites::tests::make;

    #[test]
    fn the_release_decides() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let site = root.join("venv/lib/python3.12/site-packages");
        let surroundings = Surroundings { program: root.join("venv/bin/rust-train"), variable: &|_| None };
        make(root, &["venv/bin/rust-train", "venv/lib/python3.12/site-packages/x"]);
        let none = find_libtorch(&surroundings).unwrap_err().to_string();
        assert!(none.starts_with("there is no PyTorch"), "{none}");
        assert!(none.contains("python3.12/site-packages/torch/lib"), "{none}");

        make(root, &["venv/lib/python3.12/site-packages/torch/lib/libtorch_cpu.so"]);
        let say = |text: &str| fs::write(site.join("torch/version.py"), text).unwrap();
        say("from typing import Optional\n\n__version__ = '2.10.0+cpu'\ndebug = False\n");
        let other = find_libtorch(&surroundings).unwrap_err().to_string();
        assert!(other.starts_with("PyTorch 2.10.0+cpu in "), "{other}");
        say("__version__ = '2.11.0+cu130'\n");
        let found = find_libtorch(&surroundings).unwrap();
        assert_eq!((found.version.as_str(), found.has_cuda), ("2.11.0+cu130", false));

        // The user's word counts, whatever is nearer.
        make(root, &["own/lib/libtorch_cpu.so", "own/lib/libtorch_cuda.so"]);
        fs::write(root.join("own/build-version"), "2.11.0\n").unwrap();
        let own = root.join("own").display().to_string();
        let variable = |name: &str| (name == VARIABLE).then(|| own.clone());
        let found = find_libtorch(&Surroundings { variable: &variable, ..surroundings }).unwrap();
        assert_eq!((found.folder, found.has_cuda), (root.join("own/lib"), true));
    }
}
