//! Launches programs under `mpirun`, with a time-out, on one node or on several that are made up on this machine; and under
//! Slurm ([`slurm`]). Or by themselves, interrupted in the middle of what they do to files ([`interrupt`]).

pub mod arrays;
pub mod interrupt;
pub mod run;
pub mod slurm;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Runs `rust-train` in `folder` with these arguments, on so many ranks.
pub fn rust_train(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    Mpirun::new(ranks).directory(folder).run(&binary("rust-train"), arguments.split_whitespace())
}

/// The lines of the metrics of the run in the folder `run` that have this key, and its values.
///
/// # Panics
/// If there are none, or they are no JSON.
pub fn metric(run: &Path, key: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("a run has metrics");
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON"));
    lines.filter_map(|line| line.get(key)?.as_f64()).collect()
}

/// How a job ended.
#[derive(Debug)]
pub struct Outcome {
    /// The launcher's exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// What all ranks wrote to stdout.
    pub stdout: String,
    /// What all ranks and the launcher wrote to stderr.
    pub stderr: String,
    /// From the start to the end.
    pub elapsed: Duration,
}

impl Outcome {
    /// Asserts that the job succeeded.
    ///
    /// # Panics
    /// With everything that the job wrote, where it did not.
    pub fn expect_success(&self) -> &Self {
        assert_eq!(self.status, Some(0), "the job failed:\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Whether the launcher has said that a rank was killed: Open MPI's by its number, MPICH's by its process.
    pub fn says_killed(&self, rank: usize) -> bool {
        let hydra = "BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES";
        self.stderr.contains(&format!("process rank {rank} with PID"))
            || (self.stdout.contains(hydra) && self.stdout.contains("EXIT CODE: 9"))
    }

    /// The lines of the ranks' own errors on stderr, without the launcher's words.
    pub fn error_lines(&self) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with("error: ")).collect()
    }
}

/// A job of several ranks.
#[derive(Clone, Debug)]
pub struct Mpirun {
    ranks: usize,
    nodes: usize,
    timeout: Duration,
    directory: Option<PathBuf>,
    is_once: bool,
    variables: Vec<(String, OsString)>,
}

impl Mpirun {
    /// A job of `ranks` on this node.
    pub fn new(ranks: usize) -> Self {
        Self {
            ranks,
            nodes: 1,
            timeout: Duration::from_secs(120),
            directory: None,
            is_once: false,
            variables: Vec::new(),
        }
    }

    /// Spreads the ranks over `nodes`, which are made with a host name each in a UTS namespace of its own. To MPI they
    /// are different machines: TCP runs between them, shared memory within.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// The job must end within this time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The job is started once, even where its ranks do not find each other.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.is_once = true;
        self
    }

    /// The ranks start in this folder.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// The launcher, and with it the ranks, get this environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Every node (of several) gets a disk of its own at `directory`, of `size` in tmpfs's words: "64m".
    #[must_use]
    pub fn node_local(self, directory: &Path, size: &str) -> Self {
        self.variable("NODE_LOCAL", directory).variable("NODE_LOCAL_SIZE", size)
    }

    /// Runs `program` to its end.
    ///
    /// # Panics
    /// If it cannot be started, or does not end in time: then with everything it wrote.
    pub fn run<S: AsRef<OsStr>>(&self, program: &Path, arguments: impl IntoIterator<Item = S>) -> Outcome {
        // MPICH's MPI_Init over several nodes sometimes does not end: all its ranks wait for each other inside it (seen with 5.0 over
        // libfabric's tcp and sockets, 3 of 100 starts of 6 ranks on 2 cores). What is tested has not begun then, so it is said, and
        // tried again, whether the ranks still wait or have given up: a short time-out ends them at 30 s, with an error of that name.
        const STAND_STILL: [&str; 2] = ["(MPI_Init, 30 s so far)", "error: MPI_Init has waited"];
        const MOST_STARTS: usize = 3;
        let arguments: Vec<S> = arguments.into_iter().collect();
        let mut job = self.start(program, &arguments);
        for _ in 1..MOST_STARTS {
            if self.is_once || is_open_mpi() {
                break;
            }
            let stands_still = |job: &Job| STAND_STILL.iter().any(|words| job.stderr().contains(words));
            while job.is_running() && job.start.elapsed() < self.timeout && !stands_still(&job) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !stands_still(&job) {
                break;
            }
            eprintln!("started again, because MPI_Init did not end:\n{}", job.stderr());
            drop(job); // which ends it
            job = self.start(program, &arguments);
        }
        job.wait()
    }

    /// Starts `program` and returns while it runs.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start<S: AsRef<OsStr>>(&self, program: &Path, arguments: impl IntoIterator<Item = S>) -> Job {
        let mut command = Command::new(mpirun());
        command.arg("-n").arg(self.ranks.to_string());
        if is_open_mpi() {
            command.args(["--oversubscribe", "--bind-to", "none"]);
            command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
        }
        if self.nodes > 1 {
            let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("node-agent");
            let per_node = self.ranks.div_ceil(self.nodes);
            let hosts: Vec<_> = (1..=self.nodes).map(|node| format!("n{node}:{per_node}")).collect();
            if is_open_mpi() {
                command.args(["--mca", "plm_rsh_agent"]).arg(agent).args(["--host", &hosts.join(",")]);
            } else {
                let hydra = ["-launcher", "rsh", "-launcher-exec"];
                command.args(hydra).arg(agent).args(["-hosts", &hosts.join(",")]);
                // UCX takes nodes for one that share a kernel, and their memory, which they do not.
                command.env("MPIR_CVAR_CH4_NETMOD", "ofi");
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.arg(program).args(arguments);
        Job::start(command, self.timeout)
    }
}

/// A job that runs.
#[derive(Debug)]
pub struct Job {
    child: Child,
    out: tempfile::NamedTempFile,
    err: tempfile::NamedTempFile,
    start: Instant,
    timeout: Duration,
}

impl Job {
    /// Starts `command` by itself, without a launcher.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(mut command: Command, timeout: Duration) -> Self {
        let [out, err] = [(); 2].map(|()| tempfile::NamedTempFile::new().expect("a temporary file"));
        command.process_group(0).stdin(Stdio::null());
        command.stdout(out.reopen().expect("the file is there")).stderr(err.reopen().expect("the file is there"));
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; is it installed: scripts/setup?"));
        Self { child, out, err, start: Instant::now(), timeout }
    }

    /// The launcher's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the launcher, or the program that was started without one.
    pub fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id() as i32).expect("a process has a number");
        let _ = kill_process(process, signal); // it may have ended by itself
    }

    /// Whether it has not come to its end.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What the job has written to stderr so far.
    pub fn stderr(&self) -> String {
        read(self.err.path())
    }

    /// Waits until stderr satisfies `condition`.
    ///
    /// # Panics
    /// If the job ends before, or takes too long.
    pub fn wait_until(&mut self, condition: impl Fn(&str) -> bool) -> String {
        loop {
            let stderr = self.stderr();
            if condition(&stderr) {
                return stderr;
            }
            assert!(matches!(self.child.try_wait(), Ok(None)), "the job ended too early:\n{stderr}");
            assert!(self.start.elapsed() < self.timeout, "waited for too long:\n{stderr}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If the job does not end in time: then with everything it wrote.
    pub fn wait(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the launcher is our child") {
                break status;
            }
            if self.start.elapsed() > self.timeout {
                let written = format!("{}\n{}", read(self.out.path()), self.stderr());
                let processes = processes_of(self.child.id());
                panic!("the job did not end within {:?}:\n{written}\n{processes}", self.timeout); // Drop kills it
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let elapsed = self.start.elapsed();
        Outcome { status: status.code(), stdout: read(self.out.path()), stderr: self.stderr(), elapsed }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            if let Some(group) = Pid::from_raw(self.child.id() as i32) {
                let _ = kill_process_group(group, Signal::KILL); // it may have ended by itself
            }
            let _ = self.child.wait();
        }
    }
}

/// One rank of rust-train by itself, without a launcher, which starts faster.
pub fn one_rank() -> Command {
    let mut command = Command::new(binary("rust-train"));
    command.env("OMPI_MCA_ess_singleton_isolated", "1"); // Open MPI then starts no daemon for it
    // Such processes would share one directory, and each removes it when it ends, under the hands of one that starts.
    command.env("OMPI_MCA_orte_create_session_dirs", "0");
    command.env("OMP_WAIT_POLICY", "passive"); // threads that wait leave the cores to other runs
    command
}

/// Whether tests are to try out all that they can think of, however long it takes: `scripts/torture` asks for it.
pub fn is_torture() -> bool {
    std::env::var_os("TORTURE").is_some()
}

/// What a test draws at random follows from this number, which it prints: another one each time, or `SEED`.
///
/// # Panics
/// If `SEED` is not a number.
pub fn seed() -> u64 {
    let now = || std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| u64::from(elapsed.subsec_micros()));
    let seed = std::env::var("SEED").map_or_else(|_| now(), |seed| seed.parse().expect("SEED is a number"));
    eprintln!("SEED={seed}");
    seed
}

/// Whether nodes can be made up here: it takes user namespaces, which some systems refuse. `scripts/test` says so when
/// they do; a test that needs several nodes then ends early.
pub fn can_make_nodes() -> bool {
    let unshare = Command::new("unshare").args(["--uts", "--mount", "--map-root-user", "true"]).status();
    let can = unshare.is_ok_and(|status| status.success());
    if !can {
        eprintln!("SKIPPED: this system lets nobody make namespaces, so there is only one node");
    }
    can
}

/// The process of `rank` of `rust-train`, from what it announces at the start.
pub fn announced_pid(rank: usize, stderr: &str) -> Option<Pid> {
    let line = stderr.lines().find(|line| line.contains(&format!(" rank {rank}/")) && line.contains("] pid "))?;
    let (_, rest) = line.split_once("] pid ")?;
    Pid::from_raw(rest.split(':').next()?.parse().ok()?)
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("the output can be read");
    // A terminal's line ends: Open MPI gives each rank a pseudo-terminal for its stdout.
    String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
}

/// `launcher` and the processes below it, a line each: what they are, and what they wait for in the kernel.
fn processes_of(launcher: u32) -> String {
    let text =
        |process: u32, file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    let mut lines = String::new();
    let mut waiting = vec![launcher];
    while let Some(process) = waiting.pop() {
        let arguments = text(process, "cmdline").replace('\0', " ");
        let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let threads: Vec<u32> = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok()).collect();
        let kernel: Vec<_> = threads.iter().map(|thread| text(process, &format!("task/{thread}/wchan"))).collect();
        lines += &format!("{process} {arguments}: in {}\n", kernel.join(", "));
        let children = threads.iter().map(|thread| text(process, &format!("task/{thread}/children")));
        waiting.extend(children.flat_map(|all| all.split_whitespace().flat_map(str::parse).collect::<Vec<u32>>()));
    }
    lines
}

/// The launcher: that of `PATH`, or `MPIRUN`.
fn mpirun() -> OsString {
    std::env::var_os("MPIRUN").unwrap_or_else(|| "mpirun".into())
}

/// Whether the launcher is Open MPI's, for tests of what only that one does.
pub fn is_open_mpi() -> bool {
    let version = Command::new(mpirun()).arg("--version").output().expect("mpirun is installed: scripts/setup");
    String::from_utf8_lossy(&version.stdout).contains("Open MPI")
}

/// A binary of another package of this workspace, or one of its examples (`examples/NAME`), up to date and of the same profile as the test that is running.
///
/// # Panics
/// If it cannot be built.
pub fn binary(name: &str) -> PathBuf {
    static BUILD: Once = Once::new();
    // Cargo builds a package's own binaries for its tests, but not those of another.
    BUILD.call_once(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--workspace", "--bins", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        // What Cargo tells a test of its package makes build scripts that look at such variables run anew.
        for (name, _) in std::env::vars_os() {
            let is_of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
            if name.to_str().is_some_and(is_of_package) {
                cargo.env_remove(name);
            }
        }
        assert!(cargo.status().expect("cargo runs").success(), "the binaries do not build");
    });
    let test = std::env::current_exe().expect("a test knows itself"); // target/PROFILE/deps/TEST
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    folder.join(name)
}
