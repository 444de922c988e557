//! What `rust-train doctor` prints: a line for each thing that was found, and one for each that does not fit.

use std::fmt;

use mpi::{Abi, Choice, Launcher, Search};

use crate::{driver, mixed_mpis, shared_memory};

/// One thing of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// "libtorch".
    pub subject: &'static str,
    /// What was found, or what is wrong with it.
    pub found: Result<String, String>,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    lines: Vec<Line>,
}

impl Diagnosis {
    /// What is the machine's, whatever becomes of libtorch: MPI, opened for its name; the launcher; driver; shared memory.
    pub fn of_machine(choice: Option<&Choice>) -> Self {
        let mut diagnosis = Self::default();
        let search = mpi::find(choice);
        let mixed = mixed_mpis(&search.fitting);
        let abi = diagnosis.add_mpi(search);
        if let Some(mixed) = mixed {
            diagnosis.add("MPI", Err(mixed));
        }
        let launcher = Launcher::detect();
        let started = match &launcher {
            Some(launcher) => format!("{} started {} tasks", launcher.name, launcher.tasks),
            None => "none: this is one process".to_owned(),
        };
        diagnosis.add("launcher", Ok(started));
        diagnosis.add(
            "driver",
            Ok(driver().map_or_else(|| "no NVIDIA driver is loaded".to_owned(), |it| format!("NVIDIA {it}"))),
        );
        // Where no launcher says how many there will be, two are what makes a difference.
        let ranks = mpi::local_tasks(|name| std::env::var(name).ok()).unwrap_or(2);
        if let Some((abi, version)) = abi
            && let Some(memory) = shared_memory(abi, &version, ranks)
        {
            let text = memory.to_string();
            diagnosis.add("memory", if memory.is_too_small() { Err(text) } else { Ok(text) });
        }
        diagnosis
    }

    fn add_mpi(&mut self, search: Search) -> Option<(Abi, String)> {
        match search.open() {
            Ok(mpi) => {
                let (found, version) = (mpi.found(), mpi.version());
                let name = version.split(", package").next().unwrap_or_default();
                self.add("MPI", Ok(format!("{name} ({}, {})", mpi::path_of(found).display(), found.origin)));
                Some((found.abi, version))
            }
            Err(none) => {
                self.add("MPI", Err(none.to_string()));
                None
            }
        }
    }

    /// One thing more.
    pub fn add(&mut self, subject: &'static str, found: Result<String, String>) {
        self.lines.push(Line { subject, found });
    }

    /// How many things do not fit.
    pub fn problems(&self) -> usize {
        self.lines.iter().filter(|line| line.found.is_err()).count()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { subject, found } in &self.lines {
            match found {
                Ok(text) => writeln!(f, "{subject:9} {text}")?,
                Err(text) => writeln!(f, "{subject:9} error: {text}")?,
            }
        }
        match self.problems() {
            0 => writeln!(f, "nothing wrong was found"),
            1 => writeln!(f, "1 thing is wrong"),
            count => writeln!(f, "{count} things are wrong"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_has_a_line() {
        let mut diagnosis = Diagnosis::default();
        diagnosis.add("HDF5", Ok("1.14.6, linked in".to_owned()));
        assert_eq!(diagnosis.to_string(), "HDF5      1.14.6, linked in\nnothing wrong was found\n");
        diagnosis.add("libtorch", Err("there is no PyTorch".to_owned()));
        assert_eq!(
            diagnosis.to_string(),
            "HDF5      1.14.6, linked in\nlibtorch  error: there is no PyTorch\n1 thing is wrong\n"
        );
    }
}
