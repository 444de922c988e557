//! Verdicts against the truth: scripts are made at random, run in bash with stand-ins for every launcher first in PATH
//! (`truth/launcher`, which writes down what it is called with and starts what the real one would), and judged. A number of
//! ranks that is named is the one that ran, "ok" means that every rank ran and can share the batch, and an error that something
//! was wrong in just this way.
//!
//! `TRUTH_CASES=10000 cargo test -p check-devices --test truth` tries more of them.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

/// What the job has.
#[derive(Clone, Debug)]
struct Job {
    nodes: usize,
    tasks_per_node: Option<usize>,
    cpus_per_task: Option<usize>,
    gpus: usize,
    /// Whether its partition gives whole nodes; `None`: nobody says.
    whole: Option<bool>,
}

const CPUS_OF_A_NODE: usize = 16;

impl Job {
    fn tasks(&self) -> usize {
        self.nodes * self.tasks_per_node.unwrap_or(1)
    }
}

fn job() -> impl Strategy<Value = Job> {
    let per_node = select(vec![None, Some(1), Some(2), Some(4)]);
    let cpus = select(vec![None, Some(1), Some(4)]);
    let whole = select(vec![None, Some(true), Some(false)]);
    (1usize..=3, per_node, cpus, select(vec![0usize, 1, 2, 4]), whole).prop_map(
        |(nodes, tasks_per_node, cpus_per_task, gpus, whole)| Job { nodes, tasks_per_node, cpus_per_task, gpus, whole },
    )
}

/// A number as a script writes it: its words before the command, and the word in it.
fn number() -> impl Strategy<Value = (String, String)> {
    (1usize..=4, 0usize..9).prop_map(|(value, how)| match how {
        0 => (String::new(), value.to_string()),
        1 => (format!("N={value}\n"), "$N".to_owned()),
        2 => (format!("A={value} B=2\nN=$((A * B / 2))\n"), "${N}".to_owned()),
        3 => (String::new(), format!("${{NOWHERE:-{value}}}")),
        4 => (format!("echo {value} > number\nN=$(cat number)\n"), "$N".to_owned()),
        5 => (format!("if [ {value} -gt 2 ]; then N={value}; else N=$(({value} + 1)); fi\n"), "$N".to_owned()),
        6 => (format!("for N in 9 {value}; do :; done\n"), "$N".to_owned()),
        7 => (format!("ARGS=({value} 7)\n"), "${ARGS[0]}".to_owned()),
        _ => (format!("f() {{ N=$1; }}\nf {value} 3\n"), "\"$N\"".to_owned()),
    })
}

/// A command that starts `python train.py` or `rust-train`: what stands before it, and itself.
fn command() -> impl Strategy<Value = (String, String)> {
    (0usize..13, number(), number(), any::<bool>()).prop_map(|(which, (before_a, a), (_, b), flag)| {
        // The second number is a literal wherever its words would clash with the first one's.
        let b: String = b.chars().filter(|c| ('1'..='4').contains(c)).take(1).collect();
        let b = if b.is_empty() { "2".to_owned() } else { b };
        let inner = match which {
            0 => "srun python train.py".to_owned(),
            1 => format!("srun -n {a} python train.py"),
            2 => format!("srun --ntasks={a} -c{b} rust-train"),
            3 => format!("srun -N{b} -n{a} -l --mpi=pmix python train.py"),
            4 => format!("srun --ntasks-per-node={a} python train.py"),
            5 => format!("mpirun -np {a} rust-train"),
            6 => format!("mpirun -npernode {a} --bind-to core rust-train"),
            7 => format!("torchrun --nproc_per_node={a} train.py"),
            8 => format!("srun torchrun --nnodes={b} --nproc_per_node {a} train.py"),
            9 => format!("srun -n {b} torchrun --nnodes=$SLURM_NNODES --nproc-per-node={a} train.py"),
            10 => format!("accelerate launch --num_processes {a} --num_machines 1 train.py"),
            11 => format!("deepspeed --num_gpus={a} train.py"),
            _ if flag => "python train.py".to_owned(),
            _ => format!("srun --gpus-per-node={a} --what={b} rust-train"),
        };
        (before_a, inner)
    })
}

/// A script's body around a command.
fn body() -> impl Strategy<Value = (String, Vec<(&'static str, String)>)> {
    let decoys = select(vec![
        ("", ""),
        ("srun hostname\n", ""),
        ("python prepare.py\n", "srun -n1 python plot.py\n"),
        ("echo 'srun -n 9 python train.py'\n", "# srun -n 7 python train.py\n"),
        ("cat > note <<EOF\nsrun -n 9 python train.py\nEOF\n", ""),
    ]);
    (command(), 0usize..14, decoys).prop_map(|((before, inner), how, (first, last))| {
        let mut files = Vec::new();
        let inner = match how {
            0 => format!("env A=1 nice {inner}"),
            1 => format!("timeout 60 {inner} --epochs 3"),
            2 => format!("bash -c '{}'", inner.replace("$N", "'\"$N\"'").replace("${N}", "'\"$N\"'")),
            3 => {
                files.push(("run.sh", format!("{inner} \"$@\"\n")));
                "export N\nbash run.sh --epochs 3".to_owned()
            }
            4 => format!("go() {{\n  {inner} \"$@\"\n}}\ngo --epochs 3"),
            5 => format!("CMD=\"{}\"\n$CMD", inner.replace('"', "")),
            6 => format!("CMD=({inner})\n\"${{CMD[@]}}\""),
            7 => format!("if [ -f number ]; then {inner}; else {inner}; fi"),
            8 => format!("cd . && {inner} || exit 1"),
            9 => format!("{inner} 2>&1 | cat > log"),
            10 => format!("{inner} &\nwait"),
            11 => format!("if [ -n \"$SLURM_NNODES\" ]; then\n  {inner}\nfi"),
            12 => format!("nsys profile -o x --trace=cuda {inner}"),
            _ => inner,
        };
        (format!("{first}{before}{inner}\n{last}"), files)
    })
}

struct Truth {
    log: String,
}

impl Truth {
    fn lines(&self, start: &str) -> Vec<&str> {
        self.log.lines().filter(|line| line.starts_with(start)).collect()
    }

    /// The worlds that ranks saw.
    fn worlds(&self) -> Vec<usize> {
        let world = |line: &&str| line.split(' ').nth(2).and_then(|world| world.parse().ok());
        self.lines("RANK").iter().filter_map(world).collect()
    }

    fn is_refused(&self) -> bool {
        !self.lines("REFUSED").is_empty() || !self.lines("UNKNOWN").is_empty()
    }

    /// Agents, and the nodes that they count on.
    fn agents(&self) -> Option<(usize, usize)> {
        let agents = self.lines("AGENT");
        Some((agents.len(), agents.first()?.split(' ').nth(2)?.parse().ok()?))
    }

    /// Whether every rank of one training ran, and no other.
    fn is_whole(&self) -> bool {
        let worlds = self.worlds();
        !self.is_refused() && !worlds.is_empty() && worlds.iter().all(|&world| world == worlds.len())
    }

    /// The most of these on one node.
    fn most_on_a_node(&self, start: &str) -> usize {
        let nodes = self.lines(start).into_iter().filter_map(|line| line.rsplit(' ').next());
        let nodes: Vec<_> = nodes.collect();
        nodes.iter().map(|node| nodes.iter().filter(|other| other == &node).count()).max().unwrap_or(0)
    }
}

/// Runs the script as the batch shell would, on the first node.
fn run(folder: &Path, job: &Job) -> Truth {
    let stubs = folder.join("bin");
    fs::create_dir(&stubs).unwrap();
    let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth/launcher");
    for name in [
        "srun",
        "mpirun",
        "torchrun",
        "accelerate",
        "deepspeed",
        "jsrun",
        "nsys",
        "singularity",
        "python",
        "rust-train",
    ] {
        symlink(&launcher, stubs.join(name)).unwrap();
    }
    fs::write(folder.join("log.truth"), "").unwrap();
    let whole = job.whole.unwrap_or(false);
    let number = |value: usize| value.to_string();
    let mut command = Command::new("bash");
    command
        .arg("job.sbatch")
        .current_dir(folder)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", stubs.display()))
        .env("LOG", folder.join("log.truth"))
        .env("NODES", number(job.nodes))
        .env("CPUS", number(CPUS_OF_A_NODE))
        .env("WHOLE", number(usize::from(whole)))
        .env("JOB_CPUS", number(job.tasks() * job.cpus_per_task.unwrap_or(1)))
        .env("JOB_GPUS", number(job.gpus))
        .env("SLURM_NNODES", number(job.nodes))
        .env("SLURM_JOB_ID", "1");
    if job.tasks_per_node.is_some() {
        command.env("SLURM_NTASKS", number(job.tasks()));
    }
    let output = command.output().expect("bash is there");
    assert!(output.status.code().is_some());
    Truth { log: fs::read_to_string(folder.join("log.truth")).unwrap() }
}

struct Verdict {
    report: serde_json::Value,
}

impl Verdict {
    fn errors(&self) -> Vec<&str> {
        let findings = self.report["findings"].as_array().unwrap();
        let errors = findings.iter().filter(|finding| finding["severity"] == "error");
        errors.map(|finding| finding["id"].as_str().unwrap()).collect()
    }

    fn has(&self, id: &str) -> bool {
        self.report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|finding| finding["id"] == id && finding["severity"] != "info")
    }

    /// `8`, `4 or more`, `unknown`.
    fn ranks(&self) -> &str {
        let rows = self.report["layout"][0].as_array().unwrap();
        rows.iter().find(|row| row["name"] == "ranks").unwrap()["value"].as_str().unwrap()
    }
}

fn judge(folder: &Path, job: &Job, batch: usize) -> Verdict {
    if let Some(whole) = job.whole {
        let site = format!(
            "[[partition]]\nname = \"p\"\ndefault = true\ncpus = {CPUS_OF_A_NODE}\ngres = \"gpu:4\"\nwhole_nodes = {whole}\n"
        );
        fs::write(folder.join("site.toml"), site).unwrap();
    }
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("check-devices"));
    command.args(["job.sbatch", "--format", "json", "--slurm", "22.05", "--batch", &batch.to_string()]);
    command.current_dir(folder).env_clear().env("HOME", folder);
    if job.whole.is_some() {
        command.args(["--site", "site.toml"]);
    }
    let output = command.output().unwrap();
    Verdict { report: serde_json::from_slice(&output.stdout).unwrap() }
}

fn cases() -> u32 {
    std::env::var("TRUTH_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(120)
}

/// How often each verdict was given: a test that never sees one of them shows nothing.
#[derive(Debug, Default)]
struct Given {
    ok: usize,
    errors: usize,
    unknown: usize,
}

#[test]
fn verdicts_are_true() {
    let given = RefCell::new(Given::default());
    let config = ProptestConfig {
        cases: cases(),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let strategy = (job(), body(), select(vec![8usize, 12, 10, 64]));
    let result = TestRunner::new(config)
        .run(&strategy, |(job, (text, files), batch)| is_true(&job, &text, &files, batch, &mut given.borrow_mut()));
    if let Err(error) = result {
        panic!("{error}");
    }
    let Given { ok, errors, unknown } = given.into_inner();
    let share = |count: usize| count * 100 / cases() as usize;
    println!("ok {} %, errors {} %, not known {} %", share(ok), share(errors), share(unknown));
    assert!(share(ok) >= 10 && share(errors) >= 10 && share(unknown) >= 5);
}

fn is_true(
    job: &Job,
    text: &str,
    files: &[(&'static str, String)],
    batch: usize,
    given: &mut Given,
) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut script = format!("#!/bin/bash\n#SBATCH --nodes={}\n#SBATCH --mem=0 --time=10\n", job.nodes);
    for (option, value) in [("ntasks-per-node", job.tasks_per_node), ("cpus-per-task", job.cpus_per_task)] {
        if let Some(value) = value {
            script += &format!("#SBATCH --{option}={value}\n");
        }
    }
    if job.gpus > 0 {
        script += &format!("#SBATCH --gres=gpu:{}\n", job.gpus);
    }
    script += text;
    fs::write(folder.join("job.sbatch"), &script).unwrap();
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
    // Judged before it is run: what a run leaves behind is no help.
    let verdict = judge(folder, job, batch);
    let truth = run(folder, job);
    let worlds = truth.worlds();
    let shown = || {
        format!(
            "{script}\n{files:?}\n{job:?}\n--- truth\n{}--- verdict\n{:#}",
            truth.log,
            serde_json::json!({"layout": verdict.report["layout"][0].as_array().unwrap().iter().map(|row| format!("{}: {} ({})", row["name"], row["value"], row["origin"])).collect::<Vec<_>>(), "findings": verdict.report["findings"], "not_judged": verdict.report["not_judged"]})
        )
    };

    // A number that is named is the one that ran.
    if let (Ok(ranks), false) = (verdict.ranks().parse::<usize>(), truth.is_refused()) {
        prop_assert!(worlds.iter().all(|&world| world == ranks), "ranks: {}", shown());
    }
    if let Some(least) = verdict.ranks().strip_suffix(" or more").and_then(|least| least.parse::<usize>().ok()) {
        prop_assert!(worlds.iter().all(|&world| world >= least), "at least: {}", shown());
    }
    // "ok" is never wrong. Warnings say what may go wrong where nobody knows the partition.
    if verdict.report["ok"] == true && !verdict.has("L25") && !verdict.has("L30") {
        prop_assert!(truth.is_whole(), "ok, and not every rank ran: {}", shown());
        prop_assert!(batch.is_multiple_of(worlds[0]), "ok, and the batch does not fit: {}", shown());
    }
    // Errors are never wrong.
    for id in verdict.errors() {
        let is_true = match id {
            "B01" => truth.is_refused() || worlds.iter().all(|world| !batch.is_multiple_of(*world)),
            "P22" => !truth.lines("UNKNOWN").is_empty(),
            "L25" => {
                truth.is_refused()
                    || truth.agents().is_some_and(|(_, nodes)| nodes > job.nodes)
                    || truth.most_on_a_node("RANK") > job.gpus
            }
            "L31" => truth.is_refused() || truth.agents().is_some_and(|(started, nodes)| started != nodes),
            "L03" => truth.is_refused() || truth.most_on_a_node("AGENT") > 1,
            "L02" => truth.is_refused() || truth.most_on_a_node("RANK") > job.gpus,
            "L30" => worlds == [1] && job.tasks() > 1,
            _ => false,
        };
        prop_assert!(is_true, "{id}: {}", shown());
    }
    match (verdict.errors().is_empty(), verdict.report["ok"] == true) {
        (false, _) => given.errors += 1,
        (true, true) => given.ok += 1,
        (true, false) => given.unknown += 1,
    }
    Ok(())
}
