//! Runs scripts on a real Slurm that goes with them: `scripts/slurm-sandbox`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::{Job, Outcome, binary};

/// What every script may use. (`sbatch --wait` looks only every ten seconds.)
const PRELUDE: &str = r#"
set -euo pipefail
wait_for() { until grep -q -- "$1" "$2" 2>/dev/null; do sleep 0.05; done; }
state() { scontrol show job "$1" -o | grep -om1 'JobState=[A-Z_]*' | cut -d= -f2; }
ended() { until [[ $(state "$1") =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL|OUT_OF_MEMORY)$ ]]; do sleep 0.1; done; state "$1"; }
submit() { ended "$(sbatch --parsable "$@")"; }
"#;

/// A Slurm of a test's own.
#[derive(Clone, Debug)]
pub struct Sandbox {
    options: Vec<String>,
    timeout: Duration,
}

impl Sandbox {
    /// A Slurm with so many nodes, each of 16 CPUs and 4 made-up GPUs. `None`, and a word about why, where none can be
    /// started here.
    pub fn new(nodes: usize) -> Option<Self> {
        static CHECK: OnceLock<Option<String>> = OnceLock::new();
        let missing = CHECK.get_or_init(|| {
            let check = Command::new(script()).arg("--check").output().expect("bash is there");
            (!check.status.success()).then(|| String::from_utf8_lossy(&check.stderr).trim().to_owned())
        });
        if let Some(missing) = missing {
            eprintln!("SKIPPED: no Slurm can be started here: {missing}");
            return None;
        }
        let options = ["--nodes".to_owned(), nodes.to_string()];
        Some(Self { options: options.to_vec(), timeout: Duration::from_secs(120) })
    }

    /// The script must end within this time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs a bash script to its end, as on a login node, in `folder`, which all nodes share. `$BIN` is the folder of
    /// this workspace's binaries, `$ROOT` the repository; `wait_for WORDS FILE` waits until the words stand in the file,
    /// `ended JOB` until the job has ended, and prints its state; `submit` takes sbatch's arguments and does both.
    ///
    /// # Panics
    /// If it cannot be started, or does not end in time: then with everything it wrote.
    pub fn run(&self, folder: &Path, script: &str) -> Outcome {
        self.start(folder, script).wait()
    }

    /// Starts a bash script as [`Sandbox::run`] does, and returns while it runs.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(&self, folder: &Path, script: &str) -> Job {
        let program = binary("rust-train");
        let mut command = Command::new(self::script());
        command.args(&self.options).args(["bash", "-c", &format!("{PRELUDE}{script}")]).current_dir(folder);
        command.envs([("BIN", program.parent().expect("it lies in a folder")), ("ROOT", &root())]);
        command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
        // All nodes share the cores of this machine.
        command.env("OMPI_MCA_mpi_yield_when_idle", "1");
        Job::start(command, self.timeout)
    }
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the repository").to_owned()
}

fn script() -> PathBuf {
    root().join("scripts/slurm-sandbox")
}
