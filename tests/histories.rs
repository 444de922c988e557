//! Two jobs in the same place, which start, stop and go on at random moments: nothing that was saved or recorded is lost,
//! no run that is done is changed, and no two jobs write into one folder.
//!
//! A few histories; twenty with `TORTURE=1`, as `scripts/torture` calls it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use multi_rank_tests::interrupt::{self, operations};
use multi_rank_tests::run::{checkpoints, record, result, results, state};
use multi_rank_tests::{Job, is_torture, one_rank, seed};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde_json::Value;

/// Checkpoints that a run keeps.
const KEEP: usize = 2;
/// What tells one plan from the other.
const PLANS: [&str; 2] = ["--seed 5", "--seed 6"];
/// What nobody may change once a run is done.
const DONE: [&str; 5] = ["last.safetensors", "best.safetensors", "metrics.jsonl", "metrics.csv", "evaluation.json"];

fn flags(plan: usize) -> String {
    format!(
        "--model lenet --epochs 8 --batch 160 --checkpoint-steps 4 --keep-checkpoints {KEEP} --lr 0.1 --warmup 0 \
         --schedule constant --resume auto {}",
        PLANS[plan]
    )
}

fn train(directory: &Path, flags: &str) -> Command {
    let mut command = one_rank();
    command.current_dir(directory).args(flags.split_whitespace());
    command
}

fn start(directory: &Path, flags: &str) -> Job {
    Job::start(train(directory, flags), Duration::from_secs(120))
}

/// In which places the jobs of a history write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Both with the same `--output`.
    OneFolder,
    /// Both without, in one working directory: they look for the newest run of their name below `runs`.
    OneDirectory,
    /// The same, and each job has another plan.
    TwoPlans,
}

/// A job, and what was done to it.
struct Player {
    job: Job,
    plan: usize,
    is_paused: bool,
    signals: Vec<Signal>,
}

impl Player {
    /// The folder in which it trains: it has said so after it took the run's lock, and has not said that it is done.
    fn trains_in(&self) -> Option<String> {
        let stderr = self.job.stderr();
        let is_over = ["] done: ", "] stopped by ", "error: "].iter().any(|words| stderr.contains(words));
        let folder = stderr.split_once("every flag is in ")?.1.split_once("/plan.toml")?.0;
        (!is_over).then(|| folder.to_owned())
    }
}

/// What was seen of a run the last time.
#[derive(Default)]
struct Seen {
    record: Vec<String>,
    /// Lines that the newest checkpoint knew of.
    saved: usize,
    checkpoints: Vec<String>,
    /// What is in the files of a run that is done.
    done: Option<BTreeMap<String, Option<Vec<u8>>>>,
}

/// One history.
struct History<'a> {
    folder: tempfile::TempDir,
    place: Place,
    /// What runs of each plan come to that are left alone.
    references: &'a [PathBuf; 2],
    players: [Option<Player>; 2],
    seen: BTreeMap<PathBuf, Seen>,
    /// What has happened.
    log: Vec<String>,
}

impl<'a> History<'a> {
    fn new(place: Place, references: &'a [PathBuf; 2]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, place, references, players: [None, None], seen: BTreeMap::new(), log: Vec::new() }
    }

    fn demand(&self, holds: bool, what: impl FnOnce() -> String) {
        assert!(holds, "{:?}: {}, after\n  {}", self.place, what(), self.log.join("\n  "));
    }

    /// Something happens to one of the two, drawn at random.
    fn event(&mut self, random: &mut impl Rng) {
        let number = random.random_range(0..2);
        match &mut self.players[number] {
            None => {
                let plan = if self.place == Place::TwoPlans { number } else { 0 };
                let output = if self.place == Place::OneFolder { "--output run" } else { "" };
                let limit = if random.random_range(0..4) == 0 { "--time-limit 12s" } else { "" }; // 10 s are its margin
                let flags = format!("{} {output} {limit}", flags(plan));
                self.log.push(format!("job {number} starts {output} {limit}"));
                let job = start(self.folder.path(), &flags);
                self.players[number] = Some(Player { job, plan, is_paused: false, signals: Vec::new() });
            }
            Some(player) if player.is_paused => {
                self.log.push(format!("job {number} goes on"));
                player.job.signal(Signal::CONT);
                player.is_paused = false;
            }
            Some(player) => {
                let signal = match random.random_range(0..10) {
                    0 => Signal::TERM,
                    1 => Signal::USR1,
                    2 => Signal::KILL,
                    3 => Signal::STOP,
                    _ => return, // it is left alone
                };
                self.log.push(format!("job {number} gets {signal:?}"));
                player.is_paused = signal == Signal::STOP;
                player.signals.push(signal);
                player.job.signal(signal);
            }
        }
    }

    /// The folders of all runs.
    fn runs(&self) -> Vec<PathBuf> {
        let one = self.folder.path().join("run");
        let below = fs::read_dir(self.folder.path().join("runs")).into_iter().flatten();
        let mut all: Vec<_> = below.map(|entry| entry.unwrap().path()).collect();
        all.extend(one.is_dir().then_some(one));
        all.sort();
        all
    }

    /// Looks at everything, and compares it with what was seen before.
    fn look(&mut self) {
        self.look_at_jobs();
        for run in self.runs() {
            let seen = self.look_at(&run);
            self.seen.insert(run, seen);
        }
    }

    fn look_at_jobs(&mut self) {
        let folders = [0, 1].map(|number| self.players[number].as_ref().and_then(Player::trains_in));
        let are_running =
            self.players.iter_mut().all(|player| player.as_mut().is_some_and(|player| player.job.is_running()));
        let [one, two] = &folders;
        self.demand(!are_running || one.is_none() || one != two, || format!("both jobs train in {folders:?}"));
        for number in 0..2 {
            let has_ended = self.players[number].as_mut().is_some_and(|player| !player.job.is_running());
            if has_ended {
                let player = self.players[number].take().expect("it was there");
                self.judge(number, player);
            }
        }
    }

    /// Whether a job may end as this one did.
    fn judge(&mut self, number: usize, player: Player) {
        let outcome = player.job.wait();
        self.log.push(format!(
            "job {number} has ended with {:?}: {}",
            outcome.status,
            outcome.error_lines().join(" | ")
        ));
        let refused = ["another job is training there", "the plan is another than the one that the run began with"];
        let may_be = match outcome.status {
            Some(0) => true,
            Some(75) => outcome.stderr.contains("stopped by "),
            Some(2) => {
                let known = if self.place == Place::TwoPlans { &refused[..] } else { &refused[..1] };
                outcome.error_lines().len() == 1 && known.iter().any(|words| outcome.stderr.contains(words))
            }
            Some(_) => false,
            None => player.signals.iter().any(|signal| *signal != Signal::STOP),
        };
        self.demand(may_be, || format!("job {number} should not end so: {}", outcome.stderr));
        if outcome.status == Some(0) {
            let (_, folder) = outcome.stderr.rsplit_once("results in ").expect("it says where its results are");
            let folder = folder.split_once(';').map_or(folder, |(folder, _)| folder);
            let run = self.folder.path().join(folder.lines().next().expect("a folder has a name").trim());
            let seen = self.look_at(&run);
            let done = seen.done.or_else(|| Some(contents(&run)));
            self.seen.insert(run.clone(), Seen { done, ..seen });
            self.compare(&run, player.plan);
        }
    }

    fn look_at(&self, run: &Path) -> Seen {
        // Checkpoints first: their records are there already.
        let (names, newest) = loop {
            let all = checkpoints(run);
            let newest = all.last().map(|path| state(path));
            if !matches!(newest, Some(None)) {
                let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
                break (all.iter().map(name).collect::<Vec<_>>(), newest.flatten());
            }
        };
        let now = record(run);
        let none = Seen::default();
        let before = self.seen.get(run).unwrap_or(&none);
        let shown = run.display();

        let kept = before.record.iter().zip(&now).take_while(|(then, now)| then == now).count();
        self.demand(kept >= before.saved, || {
            format!("{shown}: {} lines of the record were saved, {kept} of them are as they were", before.saved)
        });
        let position = newest.as_ref().map(|state| &state["position"]);
        let is_saved = |line: &&String| {
            let line = result(line);
            let number = |value: &Value, key: &str| value[key].as_u64();
            position.is_some_and(|position| match number(&line, "step") {
                Some(step) => Some(step) < number(position, "step"),
                None => number(&line, "epoch") <= number(position, "epoch"),
            })
        };
        let saved = now.iter().take_while(is_saved).count();
        if let Some(position) = position {
            let lines = position["step"].as_u64().unwrap() + position["epoch"].as_u64().unwrap();
            self.demand(saved as u64 == lines, || {
                format!("{shown}: {saved} records of {lines} that a checkpoint knows of")
            });
        }
        for name in before.checkpoints.iter().rev().take(KEEP) {
            let newer = names.iter().filter(|other| *other > name).count();
            self.demand(names.contains(name) || newer >= KEEP, || {
                format!("{shown}: {name} is lost, where {:?} were and {names:?} are", before.checkpoints)
            });
        }
        let done = before.done.clone();
        if let Some(done) = &done {
            let now = contents(run);
            let changed: Vec<_> = done.iter().filter(|(name, bytes)| now.get(*name) != Some(bytes)).collect();
            let changed: Vec<_> = changed.iter().map(|(name, _)| name).collect();
            self.demand(changed.is_empty(), || format!("{shown} was done, and has changed: {changed:?}"));
            self.demand(names == before.checkpoints, || {
                format!("{shown} was done, and has other checkpoints: {names:?}")
            });
        }
        Seen { record: now, saved, checkpoints: names, done }
    }

    /// Whether a run that is done came to the same as one that was left alone.
    fn compare(&self, run: &Path, plan: usize) {
        let expected = &self.references[plan];
        let (got, wanted) = (results(run), results(expected));
        self.demand(got == wanted, || {
            let other = got.iter().zip(&wanted).find(|(got, wanted)| got != wanted);
            format!("{}: other records, {} where {} are wanted: {other:?}", run.display(), got.len(), wanted.len())
        });
        for name in ["last.safetensors", "best.safetensors", "evaluation.json"] {
            let [expected, found] = [expected, run].map(|run| fs::read(run.join(name)).ok());
            self.demand(found == expected, || format!("{}: {name} differs", run.display()));
        }
    }

    /// Both jobs come to their end, and then every run does.
    fn finish(&mut self) {
        for number in 0..2 {
            if let Some(player) = &mut self.players[number] {
                player.job.signal(Signal::CONT);
                player.is_paused = false;
            }
        }
        while self.players.iter().any(Option::is_some) {
            self.look();
            std::thread::sleep(Duration::from_millis(50));
        }
        for run in self.runs() {
            let plan_file = fs::read_to_string(run.join("plan.toml")).unwrap_or_default();
            let plan = usize::from(plan_file.lines().any(|line| line == "seed = 6"));
            self.log.push(format!("{} is brought to its end", run.display()));
            let job = start(self.folder.path(), &format!("{} --output {}", flags(plan), run.display()));
            self.judge(0, Player { job, plan, is_paused: false, signals: Vec::new() });
            self.demand(self.seen[&run].done.is_some(), || format!("{} does not come to its end", run.display()));
        }
        self.look();
    }
}

fn contents(run: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    DONE.iter().map(|name| ((*name).to_owned(), fs::read(run.join(name)).ok())).collect()
}

#[test]
fn two_jobs_lose_nothing_whatever_happens_to_them() {
    if !is_torture() {
        eprintln!("SKIPPED: histories of two jobs take minutes; scripts/torture runs them");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let references = [0, 1].map(|plan| {
        start(folder.path(), &format!("{} --output plan-{plan}", flags(plan))).wait().expect_success();
        folder.path().join(format!("plan-{plan}"))
    });
    // Events come at the pace at which runs train here.
    let whole_run = begin.elapsed().as_millis() as u64 / 2;
    let mut random = ChaCha8Rng::seed_from_u64(seed());
    let histories = 20;
    let places = [Place::OneFolder, Place::OneDirectory, Place::TwoPlans];
    for place in places.into_iter().cycle().take(histories) {
        let mut history = History::new(place, &references);
        for _ in 0..random.random_range(20..40) {
            history.event(&mut random);
            std::thread::sleep(Duration::from_millis(random.random_range(0..whole_run / 2)));
            history.look();
        }
        history.finish();
        eprintln!("{place:?}:\n  {}", history.log.join("\n  "));
    }
}

/// A job that comes while another one trains, and gets to work only when that one is done, finds a run that is done: what
/// it saw before does not count.
#[test]
fn a_job_that_comes_while_another_trains_does_not_go_back() {
    // Where both write, and what the first one says when the second comes: before it has saved anything, and after.
    for (output, runs) in [("--output run", "run"), ("", "runs")] {
        for moment in ["every flag is in", "epoch 2:"] {
            let held = (1..=3).filter(|number| comes_in_between(output, runs, moment, *number)).count();
            assert!(held > 0, "no second job {output} was held, at '{moment}'");
        }
    }
}

/// The second job is held before its operation `number` on files in the place of runs, until the first one is done. False
/// where it does not come so far.
fn comes_in_between(output: &str, runs: &str, moment: &str, number: usize) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let case = format!("{output}, at '{moment}', operation {number}");
    let flags = format!("{} {output}", flags(0));
    let mut first = start(folder.path(), &flags);
    let said = first.wait_until(|stderr| stderr.contains(moment) && stderr.contains("/plan.toml\n"));
    let run = said.split_once("every flag is in ").unwrap().1.split_once("/plan.toml").unwrap().0;
    let run = folder.path().join(run);

    let list = folder.path().join("list");
    let hold = format!("hold:{number}");
    let mut second = interrupt::start(&train(folder.path(), &flags), &folder.path().join(runs), &list, &hold);
    let is_held = || list.exists() && operations(&list).len() == number;
    while second.is_running() && !is_held() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let is_held = second.is_running();
    first.wait().expect_success();
    let (before, names) = (contents(&run), checkpoints(&run));
    fs::write(folder.path().join("list.go"), "").unwrap();
    let outcome = second.wait();
    let is_refused = outcome.status == Some(2) && outcome.stderr.contains("another job is training there");
    assert!(is_refused || outcome.status == Some(0), "{case}: {outcome:?}");
    assert!(before == contents(&run), "{case}: a run that was done has changed: {outcome:?}");
    assert_eq!(names, checkpoints(&run), "{case}: {outcome:?}");
    is_held
}
