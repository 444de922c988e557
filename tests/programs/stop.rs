//! One rank leaves the others in the middle of an all-reduce, or alone in MPI_Finalize. Arguments: how, and which rank.

use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use world::{Reduction, Signals, World, WorldConfig};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let (how, who): (&str, usize) = (&arguments[1], arguments[2].parse().unwrap());
    env_logger::Builder::new().filter_level(log::LevelFilter::Warn).init();
    let timeout = if matches!(how, "stall" | "freeze" | "no-end") { 2 } else { 60 };
    let world = World::init(WorldConfig { timeout: Duration::from_secs(timeout), ..WorldConfig::default() }).unwrap();
    world.control().barrier().unwrap();
    if how == "no-end" {
        if world.rank() == who {
            world.control().barrier().unwrap(); // the others' last
            std::thread::sleep(Duration::from_secs(60));
        }
        return world.finalize(7);
    }
    let mut numbers = vec![1.0f32; 1000];
    if matches!(how, "freeze" | "kill-midway") {
        // Large enough that the transfer is under way when the rank stops.
        numbers.resize(50_000_000, 1.0);
        world.control().barrier().unwrap();
        if world.rank() == who {
            let signal = if how == "freeze" { Signal::STOP } else { Signal::KILL };
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(30));
                kill_process(getpid(), signal).unwrap();
            });
        }
    } else if world.rank() == who {
        match how {
            "panic" => panic!("out of cheese"),
            "thread-panic" => {
                std::thread::spawn(|| panic!("out of cheese"));
            }
            "error" => world.abort("out of cheese", 3),
            "other-collective" => match world.control().barrier() {
                Ok(()) => unreachable!("a barrier met an all-reduce"),
                Err(error) => world.abort(&error.to_string(), 1),
            },
            "other-size" => match world.control().all_reduce(&mut numbers[1..], Reduction::Sum) {
                Ok(()) => unreachable!("999 numbers met 1000"),
                Err(error) => world.abort(&error.to_string(), 1),
            },
            "kill" => kill_process(getpid(), Signal::KILL).unwrap(),
            "exit" => std::process::exit(4),
            "interrupt-twice" => {
                let signals = Signals::install().unwrap();
                kill_process(getpid(), Signal::INT).unwrap();
                std::thread::sleep(Duration::from_millis(100));
                assert!(signals.arrived(world::Signal::Interrupt), "the first only sets a flag");
                kill_process(getpid(), Signal::INT).unwrap();
            }
            "stall" => {}
            other => panic!("no way to stop is called {other}"),
        }
        std::thread::sleep(Duration::from_secs(60));
    }
    if matches!(how, "kill" | "kill-midway") {
        Signals::install().unwrap(); // as the trainer: TERM sets a flag, so there is time for a last word
    }
    if let Err(error) = world.control().all_reduce(&mut numbers, Reduction::Sum) {
        world.abort(&error.to_string(), 1);
    }
    unreachable!("rank {who} took no part");
}
