//! The folders in which Python keeps packages, seen from where pip has put this program.

use std::fs;
use std::path::{Path, PathBuf};

/// What decides where packages may lie.
pub struct Surroundings<'a> {
    /// This program's file, links followed.
    pub program: PathBuf,
    /// The environment's variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Surroundings<'_> {
    /// The folders of packages, the nearest first, each once: that of the environment which this program lies in, those that it
    /// includes, the user's own, `PYTHONPATH`, and those of an environment that is active. They need not exist.
    pub(crate) fn sites(&self) -> Vec<PathBuf> {
        let mut sites = Vec::new();
        let mut is_closed = false;
        if let Some(prefix) = self.program.ancestors().nth(2) {
            sites.push(prefix.to_owned()); // pip install --target
            sites.extend(of_prefix(prefix));
            let settings = fs::read_to_string(prefix.join("pyvenv.cfg")).unwrap_or_default();
            is_closed = !settings.is_empty();
            let value = |wanted: &str| {
                let mut pairs = settings.lines().filter_map(|line| line.split_once('='));
                pairs.find(|(name, _)| name.trim() == wanted).map(|(_, value)| value.trim().to_owned())
            };
            if value("include-system-site-packages").is_some_and(|answer| answer == "true") {
                is_closed = false;
                let home = value("home").map(PathBuf::from);
                sites.extend(home.as_deref().and_then(Path::parent).into_iter().flat_map(of_prefix));
            }
        }
        if !is_closed {
            let of_user = (self.variable)("HOME").map(|home| Path::new(&home).join(".local"));
            let of_user = (self.variable)("PYTHONUSERBASE").map(PathBuf::from).or(of_user);
            sites.extend(of_user.iter().flat_map(|base| of_prefix(base)));
        }
        let named = (self.variable)("PYTHONPATH").unwrap_or_default();
        sites.extend(named.split(':').filter(|folder| !folder.is_empty()).map(PathBuf::from));
        for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
            sites.extend((self.variable)(name).iter().flat_map(|prefix| of_prefix(Path::new(prefix))));
        }
        let mut seen = Vec::new();
        sites.retain(|site| {
            let is_new = !seen.contains(site);
            seen.push(site.clone());
            is_new
        });
        sites
    }
}

/// The folders of packages under the root of a Python's files: `lib/python3.12/site-packages`, newest Python first; also
/// `lib64`, and Debian's `dist-packages`.
fn of_prefix(prefix: &Path) -> Vec<PathBuf> {
    let mut sites = Vec::new();
    for lib in ["lib", "lib64", "local/lib"] {
        let entries = fs::read_dir(prefix.join(lib)).into_iter().flatten().flatten();
        let mut pythons: Vec<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let minor = name.strip_prefix("python3")?;
                let minor = if minor.is_empty() { 0 } else { minor.strip_prefix('.')?.parse::<u32>().ok()? };
                Some((minor, entry.path()))
            })
            .collect();
        pythons.sort_by_key(|(minor, _)| std::cmp::Reverse(*minor));
        for (_, python) in pythons {
            let packages = ["site-packages", "dist-packages"].map(|folder| python.join(folder));
            sites.extend(packages.into_iter().filter(|folder| folder.is_dir()));
        }
    }
    // `lib64` is often a link to `lib`.
    let mut seen = Vec::new();
    sites.retain(|site| {
        let real = site.canonicalize().unwrap_or_else(|_| site.clone());
        let is_new = !seen.contains(&real);
        seen.push(real);
        is_new
    });
    sites
}

/// The program that the launcher stands for, `rust_train/rust-train` in a folder of packages.
///
/// # Errors
/// Where was looked.
pub fn find_program(surroundings: &Surroundings<'_>) -> Result<PathBuf, Vec<PathBuf>> {
    let places: Vec<_> = surroundings.sites().into_iter().map(|site| site.join("rust_train/rust-train")).collect();
    places.iter().find(|place| place.is_file()).cloned().ok_or(places)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Makes empty files and folders below `root`.
    pub(crate) fn make(root: &Path, files: &[&str]) {
        for file in files {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), []).unwrap();
        }
    }

    #[test]
    fn packages_are_found_in_every_layout() {
        const PACKAGE: &str = "rust_train/rust-train";
        // (where the program lies, where its package lies, variables)
        let cases: &[(&str, &str, &[(&str, &str)])] = &[
            ("venv/bin/rust-train", "venv/lib/python3.12/site-packages", &[]),
            ("venv/bin/rust-train", "venv/lib64/python3.13/site-packages", &[]), // Fedora
            ("usr/local/bin/rust-train", "usr/local/lib/python3.11/dist-packages", &[]), // Debian, as root
            ("usr/bin/rust-train", "usr/lib/python3/dist-packages", &[]),
            ("usr/bin/rust-train", "usr/local/lib/python3.13/dist-packages", &[]),
            ("home/.local/bin/rust-train", "home/.local/lib/python3.11/site-packages", &[]), // --user
            ("conda/bin/rust-train", "conda/lib/python3.12/site-packages", &[]),
            ("target/bin/rust-train", "target", &[]), // --target
            ("opt/bin/rust-train", "site", &[("PYTHONPATH", "nothing:site")]),
            ("opt/bin/rust-train", "active/lib/python3.12/site-packages", &[("VIRTUAL_ENV", "active")]),
        ];
        for (program, site, variables) in cases {
            let root = tempfile::tempdir().unwrap();
            let root = root.path();
            make(root, &[program, &format!("{site}/{PACKAGE}")]);
            let inside = |value: &str| {
                value.split(':').map(|folder| root.join(folder).display().to_string()).collect::<Vec<_>>().join(":")
            };
            let variable =
                |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| inside(value));
            let surroundings = Surroundings { program: root.join(program), variable: &variable };
            assert_eq!(find_program(&surroundings), Ok(root.join(site).join(PACKAGE)), "{program} {site}");
        }
    }

    #[test]
    fn a_virtual_environment_sees_the_system_only_if_it_says_so() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        make(
            root,
            &[
                "venv/bin/rust-train",
                "usr/lib/python3.11/site-packages/x",
                "home/.local/lib/python3.11/site-packages/x",
            ],
        );
        let variable = |name: &str| (name == "HOME").then(|| root.join("home").display().to_string());
        for (answer, expected) in [("false", 0), ("true", 2)] {
            let home = root.join("usr/bin").display().to_string();
            let settings = format!("home = {home}\ninclude-system-site-packages = {answer}\n");
            fs::write(root.join("venv/pyvenv.cfg"), settings).unwrap();
            let surroundings = Surroundings { program: root.join("venv/bin/rust-train"), variable: &variable };
            let sites = surroundings.sites();
            let outside = sites.iter().filter(|site| !site.starts_with(root.join("venv"))).count();
            assert_eq!(outside, expected, "{sites:?}");
        }
    }
}
