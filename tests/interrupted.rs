//! Nothing is lost: a run that is killed at any of its operations on files, or whose disk is full there, ends with the same
//! bits as one that was left alone, and leaves nothing behind. So does one that is killed at random moments.
//!
//! A sample of the operations; all of them with `TORTURE=1`, as `scripts/torture` calls it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use multi_rank_tests::interrupt::{self, Operation, operations};
use multi_rank_tests::run::{checkpoints, files, results};
use multi_rank_tests::{Job, Outcome, is_torture, one_rank, seed};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde_json::Value;

/// Checkpoints that a run keeps.
const KEEP: usize = 2;

/// A run of so many epochs of 9 steps, which saves every 4 steps too.
fn flags(epochs: usize, seed: u64) -> String {
    format!(
        "--model lenet --epochs {epochs} --batch 160 --checkpoint-steps 4 --keep-checkpoints {KEEP} --lr 0.1 --warmup 0 \
         --schedule constant --seed {seed} --resume auto"
    )
}

/// Begins or goes on with `run`.
fn train(flags: &str, run: &Path) -> Command {
    let mut command = one_rank();
    command.args(flags.split_whitespace()).arg("--output").arg(run);
    command
}

fn start(flags: &str, run: &Path) -> Job {
    Job::start(train(flags, run), Duration::from_secs(120))
}

/// The same with `actions` at its operations on files, to its end; and these operations.
fn interrupt(flags: &str, run: &Path, actions: &str) -> (Outcome, Vec<Operation>) {
    let list = run.with_extension("list");
    let outcome = interrupt::start(&train(flags, run), run, &list, actions).wait();
    (outcome, operations(&list))
}

/// What the others are compared with.
struct Reference {
    /// Where the tests' runs lie.
    folder: tempfile::TempDir,
    flags: String,
    /// The run that was left alone.
    run: PathBuf,
    operations: Vec<Operation>,
    /// A run that was killed while it saved, and the operations with which it goes on.
    begun: PathBuf,
    further: Vec<Operation>,
}

impl Reference {
    /// The same for all tests of this file.
    fn get() -> &'static Self {
        static REFERENCE: OnceLock<Reference> = OnceLock::new();
        REFERENCE.get_or_init(Self::new)
    }

    /// One whose best epoch is neither the first nor the last.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let of_seed = |seed| {
            let (flags, run) = (flags(4, seed), folder.path().join(format!("whole-{seed}")));
            let (outcome, operations) = interrupt(&flags, &run, "");
            outcome.expect_success();
            let epochs: Vec<_> = results(&run).iter().filter_map(|line| line["top1"].as_f64()).collect();
            assert_eq!(epochs.len(), 4, "{epochs:?}");
            let best = epochs.iter().copied().fold(0.0, f64::max);
            (epochs[0] < best && epochs[3] < best).then_some((flags, run, operations))
        };
        let (flags, run, operations) = (5..25).find_map(of_seed).expect("some run is best in the middle");

        // In the middle of the third epoch: what lies behind the newest checkpoint is cut off again.
        let begun = folder.path().join("begun");
        let saves = operations.iter().filter(|operation| operation.place.ends_with("-> checkpoints/step-*"));
        let save = saves.skip(7).map(|save| save.number - 3).next().expect("it saves after step 24");
        let (killed, _) = interrupt(&flags, &begun, &format!("kill-before:{save}"));
        assert_eq!(killed.status, Some(137), "{killed:?}");
        let again = copy(&begun, &folder.path().join("begun-again"));
        let (outcome, further) = interrupt(&flags, &again, "");
        outcome.expect_success();
        let reference = Self { folder, flags, run, operations, begun, further };
        reference.compare(&again, |_| false).unwrap();
        reference
    }

    /// What is wrong with a run that has come to its end, compared with the one that was left alone. It may have said that
    /// it goes on without some of what only people look at.
    fn compare(&self, run: &Path, may_lack: impl Fn(&str) -> bool) -> Result<(), String> {
        compare(&self.run, run, may_lack)
    }
}

/// The same, for any two runs.
fn compare(expected: &Path, run: &Path, may_lack: impl Fn(&str) -> bool) -> Result<(), String> {
    let mut wrong = Vec::new();
    for name in ["last.safetensors", "best.safetensors", "evaluation.json"] {
        match fs::read(run.join(name)) {
            Err(error) if !may_lack(name) => wrong.push(format!("{name}: {error}")),
            Ok(bytes) if !may_lack(name) && bytes != fs::read(expected.join(name)).unwrap() => {
                wrong.push(format!("{name} differs"));
            }
            _ => {}
        }
    }
    let [all, found] = [expected, run].map(results);
    if found != all {
        let only = |these: &[Value], others: &[Value]| {
            these.iter().filter(|line| !others.contains(line)).map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let (lost, new) = (only(&all, &found), only(&found, &all));
        wrong.push(format!("{} records for {}, without {lost}, but with {new}", found.len(), all.len()));
    }
    // Which steps the kept checkpoints are of depends on which could be saved.
    let [all, found] = [expected, run].map(|run| -> BTreeSet<String> {
        files(run).into_iter().filter(|name| !name.starts_with("checkpoints/step-")).collect()
    });
    let left: Vec<_> = found.difference(&all).collect();
    if !left.is_empty() {
        wrong.push(format!("left behind: {left:?}"));
    }
    let missing: Vec<_> = all.difference(&found).filter(|name| !may_lack(name)).collect();
    if !missing.is_empty() {
        wrong.push(format!("missing: {missing:?}"));
    }
    let kept = fs::read_dir(run.join("checkpoints")).map_or(0, Iterator::count);
    if kept != checkpoints(run).len() || !(1..=KEEP).contains(&kept) {
        let found = files(run).into_iter().filter(|name| name.starts_with("checkpoints/"));
        wrong.push(format!("not {KEEP} whole checkpoints, but {:?}", found.collect::<Vec<_>>()));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// A copy of the folder of a run, hard links and all.
fn copy(from: &Path, to: &Path) -> PathBuf {
    let status = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(status.success(), "{} is copied to {}", from.display(), to.display());
    to.to_owned()
}

/// One way to interrupt a run: what is to be done, and the operation that it is done to last.
#[derive(Clone, Debug)]
struct Case {
    actions: String,
    number: usize,
    place: String,
    /// Whether the run is one that goes on, or a new one.
    goes_on: bool,
}

impl Case {
    fn new(action: &str, operation: &Operation, goes_on: bool) -> Self {
        let Operation { number, place, .. } = operation;
        Self { actions: format!("{action}:{number}"), number: *number, place: place.clone(), goes_on }
    }

    fn is_kill(&self) -> bool {
        self.actions.contains("kill")
    }

    /// Interrupts a run so, and goes on with it; says what is wrong with what it comes to.
    fn try_out(&self, reference: &Reference) -> Result<(), String> {
        let place = tempfile::tempdir_in(reference.folder.path()).unwrap();
        let run = place.path().join("run");
        // A thread that is late may change places with another. Then what was to be tried has not happened.
        for _ in 0..3 {
            let _ = fs::remove_dir_all(&run);
            if self.goes_on {
                copy(&reference.begun, &run);
            }
            let (outcome, operations) = interrupt(&reference.flags, &run, &self.actions);
            let happened = operations.iter().find(|operation| operation.number == self.number);
            let happened =
                happened.is_some_and(|operation| operation.place == self.place && !operation.fate.is_empty());
            if !happened {
                continue;
            }
            self.judge(&outcome)?;
            let next = start(&reference.flags, &run).wait();
            if next.status != Some(0) {
                return Err(format!("does not go on: {:?}: {}", next.status, next.stderr));
            }
            let without = |name: &str| {
                let said = |line: &str| {
                    line.contains(&format!("/{name}: ")) && line.ends_with("; training continues without it")
                };
                !self.is_kill() && outcome.stderr.lines().any(said)
            };
            return reference.compare(&run, without);
        }
        Err("has not happened, three times".to_owned())
    }

    /// Whether a run may end so.
    fn judge(&self, outcome: &Outcome) -> Result<(), String> {
        let is_error = outcome.error_lines().len() == 1 && outcome.stderr.contains("No space left on device");
        match outcome.status {
            Some(137) if self.is_kill() => Ok(()),
            Some(0) if !self.is_kill() => Ok(()),
            Some(1 | 2) if !self.is_kill() && is_error => Ok(()),
            _ => Err(format!("ended with {:?}: {}", outcome.status, outcome.stderr)),
        }
    }
}

/// Tries all cases out, as many at a time as there are cores, and says which went wrong.
fn try_out(cases: Vec<Case>) {
    let reference = Reference::get();
    let total = cases.len();
    let (queue, wrong) = (Mutex::new(cases.into_iter()), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap().next() else { break };
                    if let Err(reason) = case.try_out(reference) {
                        let which = if case.goes_on { "a run that goes on" } else { "a new run" };
                        let line = format!("{which}, {} ({}): {reason}", case.actions, case.place);
                        eprintln!("{line}");
                        wrong.lock().unwrap().insert((case.goes_on, case.number, case.actions), line);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let lines = wrong.values().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}");
        text
    });
    eprintln!("{} of {total} interruptions did no harm", total - wrong.len());
    assert!(wrong.is_empty(), "{} of {total} interruptions did harm:\n{lines}", wrong.len());
}

/// Of the operations at each place the first, if that comes before it trains, and the one nearest to where the best epoch is
/// published; or all of them.
fn chosen(operations: &[Operation]) -> Vec<&Operation> {
    if is_torture() {
        return operations.iter().collect();
    }
    let best = operations.iter().rfind(|operation| operation.place.ends_with("-> best.safetensors"));
    let best = best.map_or(0, |operation| operation.number);
    let mut places: BTreeMap<&str, &Operation> = BTreeMap::new();
    for operation in operations {
        let nearest = places.entry(&operation.place).or_insert(operation);
        if operation.number.abs_diff(best) < nearest.number.abs_diff(best) {
            *nearest = operation;
        }
    }
    let mut known = BTreeSet::new();
    let first = beginning(operations).iter().filter(|operation| known.insert(operation.place.as_str()));
    let numbered = first.chain(places.into_values()).map(|operation| (operation.number, operation));
    numbered.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// What a run does before it trains: until it has something to write down.
fn beginning(operations: &[Operation]) -> &[Operation] {
    let first = operations.iter().position(|operation| operation.place == "write metrics.jsonl");
    &operations[..first.unwrap_or(operations.len())]
}

/// `action` at the operations of a new run that were chosen, and at those of one that goes on.
fn cases(action: &str, is_meant: impl Fn(&Operation) -> bool) -> Vec<Case> {
    let reference = Reference::get();
    let further = if is_torture() { &reference.further } else { beginning(&reference.further) };
    let new = chosen(&reference.operations).into_iter().map(|operation| (operation, false));
    let all = new.chain(chosen(further).into_iter().map(|operation| (operation, true)));
    all.filter(|(operation, _)| is_meant(operation))
        .map(|(operation, goes_on)| Case::new(action, operation, goes_on))
        .collect()
}

#[test]
fn a_kill_at_any_operation_loses_nothing() {
    let mut all = cases("kill-after", |_| true); // which is before the next
    all.extend(cases("kill-within", |operation| operation.is_write));
    try_out(all);
}

#[test]
fn a_disk_that_is_full_at_any_operation_loses_nothing() {
    let mut all = cases("fail", |_| true);
    // The disk stays full, or there is space again a little later.
    let operations = Reference::get().operations.iter();
    let writes: Vec<_> =
        operations.filter(|operation| operation.is_write || operation.place.starts_with("mkdir")).collect();
    for (index, operation) in writes.iter().enumerate() {
        if is_torture() || index % 16 == 3 {
            all.push(Case::new("full", operation, false));
            let mut case = Case::new("full", operation, false);
            let _ = write!(case.actions, ",free:{}", operation.number + 7 + index % 40);
            all.push(case);
        }
    }
    try_out(all);
}

/// A line of the record does not get onto the disk; then the run is killed after its next checkpoint.
#[test]
fn no_checkpoint_is_ahead_of_its_record() {
    let reference = Reference::get();
    let lines: Vec<_> =
        reference.operations.iter().filter(|operation| operation.place == "write metrics.jsonl").collect();
    let lines = lines.iter().enumerate().filter(|(index, _)| is_torture() || index % 5 == 2);
    let place = tempfile::tempdir_in(reference.folder.path()).unwrap();
    let case = |(index, line): (usize, &&Operation)| {
        let fail = format!("fail:{}", line.number);
        let (outcome, operations) = interrupt(&reference.flags, &place.path().join(index.to_string()), &fail);
        outcome.expect_success();
        let later = operations.iter().skip(line.number);
        let saved = later.into_iter().find(|operation| operation.place.ends_with("-> checkpoints/step-*"))?;
        let case = Case::new("kill-after", saved, false);
        Some(Case { actions: format!("{fail},{}", case.actions), ..case })
    };
    let cases: Vec<_> = lines.filter_map(case).collect();
    assert!(!cases.is_empty());
    try_out(cases);
}

#[test]
fn one_run_killed_at_random_moments_loses_nothing() {
    let kills = if is_torture() { 50 } else { 8 };
    let flags = flags(2 * kills, 7);
    let folder = tempfile::tempdir().unwrap();
    let [whole, run] = ["whole", "run"].map(|name| folder.path().join(name));
    start(&flags, &whole).wait().expect_success();
    let mut random = ChaCha8Rng::seed_from_u64(seed());
    for number in 1..=kills {
        let mut job = start(&flags, &run);
        // While it starts, or while it trains and saves.
        let moment = if random.random_range(0..4) == 0 {
            random.random_range(0..600)
        } else {
            job.wait_until(|stderr| stderr.contains("resumes after step") || stderr.contains("first step done"));
            random.random_range(0..250)
        };
        std::thread::sleep(Duration::from_millis(moment));
        job.signal(Signal::KILL);
        let outcome = job.wait();
        assert_eq!(outcome.status, None, "kill {number} of {kills} has not met the run: {outcome:?}");
        let warnings = outcome.stderr.lines().filter(|line| line.contains("WARN") || line.contains("error"));
        assert_eq!(warnings.collect::<Vec<_>>(), Vec::<&str>::new(), "kill {number}");
    }
    start(&flags, &run).wait().expect_success();
    compare(&whole, &run, |_| false).unwrap_or_else(|reason| panic!("after {kills} kills: {reason}"));
}
