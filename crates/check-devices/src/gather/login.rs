//! What a login node knows: sinfo, srun --mpi=list, sbatch --test-only, the program's libraries, file systems.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use batch_script::Scheduler;
use installation::{LIBTORCH_RELEASE, Surroundings, find_libtorch};

use super::files::path_facts;
use super::run::run;
use crate::facts::{LoginFacts, Partition, ProgramFacts, TestOnly};
use crate::site::{SINFO_FORMAT, complete_by_scontrol, partitions_of_sinfo, queues_of_bqueues, queues_of_qstat};
use crate::subject::{PathUse, Subject};

/// What to ask for beyond what is always asked for.
pub(crate) struct Questions<'a> {
    /// The script's path, for `sbatch --test-only`.
    pub(crate) test_only: Option<&'a Path>,
    /// Options of sbatch that override the script's.
    pub(crate) sbatch: &'a [String],
}

/// Looks around for `subject`.
pub(crate) fn login(subject: &Subject<'_>, questions: &Questions<'_>) -> LoginFacts {
    let (slurm_version, partitions) = match subject.scheduler() {
        None => sinfo(),
        Some(scheduler) => (None, queues(scheduler)),
    };
    let program = subject.main_launch().and_then(|launch| launch.program.as_ref()?.known().map(str::to_owned));
    let folder = subject.script.as_ref().map(|file| file.folder.clone()).unwrap_or_default();
    let paths = subject.training.paths.iter().filter(|(purpose, _)| *purpose != PathUse::Weights);
    let paths = paths.map(|(_, path)| (path.value.clone(), path_facts(&folder.join(&path.value))));
    LoginFacts {
        slurm_version,
        partitions,
        mpi_plugins: run("srun", &["--mpi=list"]).map(|printed| mpi_plugins(&(printed.stdout + &printed.stderr))),
        test_only: questions.test_only.and_then(|script| test_only(script, questions.sbatch)),
        program: program.and_then(|name| program_facts(&name, &folder)),
        paths: paths.collect(),
        mpi_commands: ["mpirun", "mpicc"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), resolved(name)?)))
            .collect(),
        stored_weights: stored_weights(),
    }
}

/// Slurm's release and its partitions.
pub(crate) fn sinfo() -> (Option<String>, Option<Vec<Partition>>) {
    let version = run("sinfo", &["--version"]).filter(|printed| printed.success);
    let version = version.and_then(|printed| printed.stdout.split_whitespace().last().map(str::to_owned));
    let partitions = run("sinfo", &["-h", "-o", SINFO_FORMAT]).filter(|printed| printed.success);
    let partitions = partitions.map(|printed| {
        let mut partitions = partitions_of_sinfo(&printed.stdout);
        let scontrol = |what: &[&str]| run("scontrol", what).filter(|printed| printed.success);
        if let Some(shown) = scontrol(&["show", "partition", "-o"]) {
            let config = scontrol(&["show", "config"]).map(|printed| printed.stdout).unwrap_or_default();
            complete_by_scontrol(&mut partitions, &shown.stdout, &config);
        }
        partitions
    });
    (version, partitions)
}

/// The queues of PBS or LSF.
pub(crate) fn queues(scheduler: Scheduler) -> Option<Vec<Partition>> {
    let printed = |program: &str, arguments: &[&str]| {
        run(program, arguments).filter(|printed| printed.success).map(|printed| printed.stdout)
    };
    match scheduler {
        Scheduler::Pbs => {
            let queues = printed("qstat", &["-Qf"])?;
            Some(queues_of_qstat(&queues, &printed("qstat", &["-Bf"]).unwrap_or_default()))
        }
        Scheduler::Lsf => {
            let queues = printed("bqueues", &["-l"])?;
            Some(queues_of_bqueues(&queues, &printed("bparams", &[]).unwrap_or_default()))
        }
        Scheduler::Flux | Scheduler::Sge => None,
    }
    .filter(|queues| !queues.is_empty())
}

/// The names that `srun --mpi=list` prints, one a line behind a heading, or in one line.
fn mpi_plugins(output: &str) -> Vec<String> {
    let words = output.split(|c: char| c.is_whitespace() || c == ',');
    let known = words.filter(|word| word.starts_with("pmi") || matches!(*word, "none" | "cray_shasta"));
    let mut plugins: Vec<String> = Vec::new();
    for word in known {
        if !plugins.iter().any(|plugin| plugin == word) {
            plugins.push(word.to_owned());
        }
    }
    plugins
}

fn test_only(script: &Path, options: &[String]) -> Option<TestOnly> {
    let mut arguments = vec!["--test-only"];
    arguments.extend(options.iter().map(String::as_str));
    let script = script.to_str()?;
    arguments.push(script);
    let printed = run("sbatch", &arguments)?;
    Some(TestOnly { accepted: printed.success, message: printed.stderr })
}

/// The first file called `name` on the PATH, links followed.
fn resolved(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())?;
    Some(fs::canonicalize(found).ok()?.to_string_lossy().into_owned())
}

fn program_facts(name: &str, folder: &Path) -> Option<ProgramFacts> {
    let path = if name.contains('/') { folder.join(name) } else { PathBuf::from(resolved(name)?) };
    let mut magic = [0; 4];
    fs::File::open(&path).ok()?.read_exact(&mut magic).ok()?;
    if magic != *b"\x7fELF" {
        return None;
    }
    let path = fs::canonicalize(&path).ok()?;
    let printed = run("ldd", &[path.to_str()?])?;
    let (libraries, missing_libraries) = libraries_of_ldd(&printed.stdout);
    let of_torch = libraries.iter().find(|(name, _)| name.starts_with("libtorch")).map(|(_, path)| path.clone());
    let libtorch_version = of_torch.and_then(|library| {
        let folder = Path::new(&library).parent()?.parent()?;
        Some(fs::read_to_string(folder.join("build-version")).ok()?.trim().to_owned())
    });
    let is_rust_train = path.file_name().is_some_and(|name| name == "rust-train");
    // As pip installs it, what is called so finds libtorch when it starts.
    let libtorch_version = libtorch_version.or_else(|| is_rust_train.then(|| libtorch_of_python(&path))?);
    Some(ProgramFacts {
        path: path.to_string_lossy().into_owned(),
        libraries,
        missing_libraries,
        libtorch_version,
        libtorch_expected: is_rust_train.then(|| LIBTORCH_RELEASE.to_owned()),
        opens_mpi: is_rust_train,
        cpu_flags: Vec::new(),
    })
}

/// The release of the libtorch that the rust-train of a Python package would take.
fn libtorch_of_python(program: &Path) -> Option<String> {
    let surroundings = Surroundings { program: program.to_owned(), variable: &|name| std::env::var(name).ok() };
    match find_libtorch(&surroundings) {
        Ok(libtorch) => Some(libtorch.version),
        Err(none) => none.others.into_iter().next().map(|(_, version)| version),
    }
}

/// What is found, and what is not: `name => path (address)`, `name => not found`.
fn libraries_of_ldd(output: &str) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut found, mut missing) = (BTreeMap::new(), Vec::new());
    for (name, rest) in output.lines().filter_map(|line| line.trim().split_once(" => ")) {
        match rest.split(" (").next().unwrap_or(rest).trim() {
            "not found" | "" => missing.push(name.to_owned()),
            path => drop(found.insert(name.to_owned(), path.to_owned())),
        }
    }
    (found, missing)
}

/// Names of the files in rust-train's store, and of the models of the Hugging Face Hub of which there are files of a commit:
/// `timm--resnet50.a1_in1k`.
fn stored_weights() -> Option<Vec<String>> {
    let names = |folder: &Path| -> Option<Vec<String>> {
        let entries = fs::read_dir(folder).ok()?;
        Some(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    };
    let store = user_cache::folder();
    let has_files = |model: &String| {
        let commits = names(&store.join("hf").join(model)).unwrap_or_default();
        commits.iter().any(|name| name.len() == 40 && name.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    let models = names(&store.join("hf")).unwrap_or_default().into_iter().filter(has_files);
    Some(names(&store)?.into_iter().chain(models).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_programs_print() {
        let ldd =
            "\tlinux-vdso.so.1 (0x7ffd)\n\tlibmpi.so.40 => /lib/libmpi.so.40 (0x7f)\n\tlibtorch.so => not found\n";
        let (found, missing) = libraries_of_ldd(ldd);
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("libmpi.so.40".to_owned(), "/lib/libmpi.so.40".to_owned())]
        );
        assert_eq!(missing, ["libtorch.so"]);
        assert_eq!(
            mpi_plugins(
                "MPI plugin types are...\n\tnone\n\tpmi2\n\tpmix\nspecific pmix plugin versions available: pmix_v4"
            ),
            ["none", "pmi2", "pmix", "pmix_v4"]
        );
    }
}
