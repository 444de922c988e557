//! Zero-first in all its outcomes. Arguments: the case, and a folder that all ranks see. Every rank prints what it got
//! as one line on stdout.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use world::{Error, Failure, Scope, Signals, Turn, World, WorldConfig};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (case, folder) = (arguments[1].as_str(), Path::new(&arguments[2]));
    let is_short = case == "leader-too-slow" || case.starts_with("progress");
    let timeout = if is_short { 1.0 } else { 60.0 };
    let world =
        World::init(WorldConfig { timeout: Duration::from_secs_f64(timeout), ..WorldConfig::default() }).unwrap();
    Signals::install().unwrap();
    let node = folder.join(format!("node-{}", world.node()));
    let runs = Cell::new(0);
    let signal = match case {
        "stop" => Some(Signal::TERM),
        "progress-follower-dies" => Some(Signal::KILL),
        _ => None,
    };
    if let Some(signal) = signal.filter(|_| world.rank() + 1 == world.size()) {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            kill_process(getpid(), signal).unwrap();
        });
    }

    let cpu_before = cpu_time();
    let result = match case {
        // The leader makes a file, the others find it.
        "world" => world.zero_first(Scope::World, "making the file", |turn| make(&folder.join("file"), turn, &runs)),
        // One leader a node, each for its own file.
        "node" => world.zero_first(Scope::Node, "making the file", |turn| make(&node, turn, &runs)),
        "leader-fails" => world.zero_first(Scope::Node, "making the file", |turn| match (turn, world.node()) {
            (Turn::First, 0) => Err(Failure::usage("no space left")),
            _ => make(&node, turn, &runs),
        }),
        "leader-panics" => world.zero_first(Scope::World, "making the file", |turn| {
            assert!(turn == Turn::After, "the disk is on fire");
            Ok("made".to_owned())
        }),
        "follower-fails" => world.zero_first(Scope::World, "making the file", |_| {
            if world.rank() == 1 { Err(Failure::new("cannot see the file")) } else { Ok("made".to_owned()) }
        }),
        "leader-slow" | "leader-too-slow" => world.zero_first(Scope::World, "making the file", |turn| {
            if turn == Turn::First {
                std::thread::sleep(Duration::from_secs(5));
            }
            Ok("made".to_owned())
        }),
        // Four times the time-out, but never in silence. The work is done on threads of its own.
        "progress" => world.zero_first(Scope::World, "making the file", |turn| {
            if turn == Turn::First {
                std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(|| work(4.0)))));
            }
            make(&folder.join("file"), turn, &runs)
        }),
        // The leader of the last node: all other ranks wait for it, on other channels than its followers.
        "progress-node" => world.zero_first(Scope::Node, "making the file", |turn| {
            if turn == Turn::First && world.node() + 1 == world.nodes() {
                work(4.0);
            }
            make(&node, turn, &runs)
        }),
        "progress-rank-zero" => world
            .from_rank_zero("making the file", || {
                work(4.0);
                Ok(b"made".to_vec())
            })
            .map(|bytes| String::from_utf8(bytes).unwrap()),
        // Every rank has its share, and they take it differently.
        "progress-shares" => {
            work(1.0 + 1.5 * world.rank() as f64);
            world.agree_after("making the file", Ok("made".to_owned()))
        }
        // Part of the ranks are a world of their own; the others wait for it in theirs.
        "progress-part" => {
            let part = world.first(2).unwrap();
            let made = part.map(|part| {
                part.zero_first(Scope::World, "making the file", |turn| {
                    if turn == Turn::First {
                        work(4.0);
                    }
                    Ok(())
                })
            });
            made.transpose().unwrap();
            world.agree(Ok("made".to_owned()))
        }
        // Progress for twice the time-out, and then none: asleep, or stopped from outside.
        "progress-ends" | "progress-freezes" => world.zero_first(Scope::World, "making the file", |turn| {
            if turn == Turn::First {
                work(2.0);
                if case == "progress-freezes" {
                    kill_process(getpid(), Signal::STOP).unwrap();
                }
                std::thread::sleep(Duration::from_secs(60));
            }
            Ok("made".to_owned())
        }),
        // One that makes progress does not hide one that stands still.
        "progress-other-stalls" => {
            if world.rank() == 1 {
                std::thread::sleep(Duration::from_secs(60));
            }
            work(2.0);
            world.agree_after("making the file", Ok("made".to_owned()))
        }
        "progress-follower-dies" => world.zero_first(Scope::World, "making the file", |turn| {
            if turn == Turn::First {
                work(30.0);
            }
            Ok("made".to_owned())
        }),
        // After all ranks have met for the last time, some leave and others still have words for them.
        "progress-last-words" => {
            let result = world.agree(Ok("made".to_owned()));
            work(0.4 * world.rank() as f64);
            result
        }
        // The last rank, which waits, is asked to stop: the leader hears of it.
        "stop" => world.zero_first(Scope::World, "making the file", |turn| match turn {
            Turn::First if work(30.0) => Err(Failure { message: "stopped".to_owned(), exit_code: 75 }),
            _ => Ok("made".to_owned()),
        }),
        // How long it takes when there is nothing to do.
        "cached" => {
            let mut times: Vec<f64> = (0..200)
                .map(|_| {
                    let start = Instant::now();
                    world.zero_first(Scope::World, "nothing", |_| Ok(())).unwrap();
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            times.sort_by(f64::total_cmp);
            Ok(format!("median {:.3} ms, slowest {:.3} ms", times[100], times[199]))
        }
        other => panic!("no case is called {other}"),
    };
    let cpu = cpu_time() - cpu_before;

    if case == "leader-slow" && world.rank() != 0 {
        assert!(cpu < 0.2, "waiting took {cpu} s of CPU time");
    }
    // Whoever led a scope ran the task, and whoever follows a leader that failed did not.
    let text = match &result {
        Ok(text) => format!("ok {text}"),
        Err(error @ Error::Agreed(verdict)) => format!("agreed {} {error}", verdict.failure.exit_code),
        Err(error) => format!("alone {error}"),
    };
    println!("rank {} ran {}: {text}", world.rank(), runs.get());
    if matches!(result, Err(Error::TimedOut { .. } | Error::Broken { .. })) {
        // The others are on their way: without agreement, only ending the job is left.
        std::thread::sleep(Duration::from_secs(1));
        world.abort("gave up", 1);
    }
}

/// Works for so many seconds, and says so; whether it was asked to stop.
fn work(seconds: f64) -> bool {
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < seconds {
        let done = start.elapsed().as_millis() as u64;
        if world::report(done, (seconds * 1000.0) as u64, "files").is_break() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Makes the file on the first turn; finds it on the others.
fn make(path: &Path, turn: Turn, runs: &Cell<usize>) -> Result<String, Failure> {
    runs.set(runs.get() + 1);
    match turn {
        Turn::First => {
            std::thread::sleep(Duration::from_millis(100));
            std::fs::write(path, "content").map_err(Failure::new)?;
            Ok("made".to_owned())
        }
        Turn::After => std::fs::read_to_string(path).map(|_| "found".to_owned()).map_err(Failure::new),
    }
}

/// This process's CPU time, in seconds.
fn cpu_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
