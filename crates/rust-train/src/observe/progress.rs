//! Progress of long work on rank 0: a bar where a person watches, a line now and then where a log file does.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use world::World;

use crate::observe::terminal::Terminal;
use crate::observe::timers::{Spent, Work};

/// Between two lines in a log.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// How fast training goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Throughput {
    /// Over all ranks.
    pub images_per_second: f64,
    /// Share of the time that this rank waited for data, 0–1.
    pub data_wait: f64,
    /// Share of the time that this rank waited for the others, and for what travels between them, 0–1. What travels while
    /// gradients are computed costs nobody time, and is not in it.
    pub communication_wait: f64,
    pub seconds_per_step: f64,
}

impl Throughput {
    /// That of `steps` steps with so many `images` in so many `seconds`, of which this rank `spent` those.
    pub(crate) fn new(spent: Spent, steps: usize, images: usize, seconds: f64) -> Self {
        Self {
            images_per_second: images as f64 / seconds,
            data_wait: spent.on(Work::Data).as_secs_f64() / seconds,
            communication_wait: spent.communication().as_secs_f64() / seconds,
            seconds_per_step: seconds / steps as f64,
        }
    }
}

impl Throughput {
    /// For a line that must be short.
    pub(crate) fn brief(&self) -> String {
        let Self { images_per_second, data_wait, communication_wait, .. } = self;
        let (data, ranks) = (data_wait * 100.0, communication_wait * 100.0);
        format!("{images_per_second:.0} images/s, waits: data {data:.0} %, ranks {ranks:.0} %")
    }
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images_per_second, data_wait, communication_wait, .. } = self;
        let (data, ranks) = (data_wait * 100.0, communication_wait * 100.0);
        write!(f, "{images_per_second:.0} images/s, waiting {data:.0} % for data, {ranks:.0} % for ranks")
    }
}

/// So many seconds that are left, in words.
pub(crate) fn left_words(seconds: f64) -> String {
    match seconds.round() as u64 {
        whole @ ..120 => format!("{whole} s left"),
        whole @ ..7200 => format!("{} min left", whole / 60),
        whole => format!("{} h {:02} min left", whole / 3600, whole % 3600 / 60),
    }
}

/// Shows how far a long piece of work is. Silent on all ranks but rank 0.
#[derive(Debug)]
pub(crate) struct Progress {
    kind: Kind,
    units: &'static str,
    total: u64,
}

#[derive(Debug)]
enum Kind {
    Silent,
    Bar { bar: ProgressBar, terminal: Terminal, what: String, units: String },
    Lines { what: String, total: u64, start: Instant, next: Mutex<Duration> },
}

impl Progress {
    /// Begins `what`, which has `total` `units` ("images").
    pub(crate) fn new(world: &World, what: &str, units: &'static str, total: u64) -> Self {
        let kind = if world.rank() == 0 { Kind::of_rank_zero(what, units, total) } else { Kind::Silent };
        Self { kind, units, total }
    }

    /// As [`update`](Self::update), and as word to whoever waits for this rank that it gets on. Breaks off where somebody
    /// asked for that.
    pub(crate) fn watch(&self, done: u64, detail: impl FnOnce() -> String) -> ControlFlow<()> {
        self.update(done, detail);
        world::report(done, self.total, self.units)
    }

    /// `done` of all are done. `detail` is asked for only when it is shown.
    pub(crate) fn update(&self, done: u64, detail: impl FnOnce() -> String) {
        match &self.kind {
            Kind::Silent => {}
            Kind::Bar { bar, terminal, what, units } => {
                bar.set_position(done);
                let numbers = format!("{done}/{} {units}", bar.length().unwrap_or(0));
                let used = what.chars().count() + numbers.chars().count() + 2;
                let mut detail = detail();
                if detail == *units {
                    detail.clear(); // which the numbers say already
                }
                if !detail.contains("left") && done > 0 {
                    detail = format!("{}, {detail}", left_words(bar.eta().as_secs_f64()));
                }
                bar.set_message(fitting(&numbers, &detail, terminal.width().saturating_sub(used)));
            }
            Kind::Lines { what, total, start, next } => {
                let elapsed = start.elapsed();
                let Ok(mut next) = next.lock() else { return };
                if elapsed < *next || done == 0 {
                    return;
                }
                *next = elapsed + LINE_INTERVAL;
                if *total == 0 {
                    log::info!("{what}: {done} {}", detail());
                    return;
                }
                let left = elapsed.as_secs_f64() * (*total as f64 / done as f64 - 1.0);
                log::info!("{what}: {done} of {total} {}, {left:.0} s left", detail());
            }
        }
    }

    /// `done` of `total` are done, where the total becomes known only on the way; 0 where it is not.
    pub(crate) fn update_of(&self, done: u64, total: u64, detail: impl FnOnce() -> String) {
        if let Kind::Bar { bar, .. } = &self.kind {
            bar.set_length(total);
        }
        self.update(done, detail);
    }

    /// The work is over: the bar goes.
    pub(crate) fn finish(self) {
        if let Kind::Bar { bar, .. } = self.kind {
            bar.finish_and_clear();
        }
    }
}

impl Kind {
    fn of_rank_zero(what: &str, units: &str, total: u64) -> Self {
        match Terminal::watched() {
            Some(terminal) => {
                let target = terminal.draw_target();
                let bar = ProgressBar::with_draw_target(Some(total), target);
                // On a narrow terminal the bar shrinks to nothing, and the message has been made to fit.
                if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {msg}") {
                    bar.set_style(style);
                }
                let bar = bar.with_prefix(what.to_owned());
                Kind::Bar { bar, terminal, what: what.to_owned(), units: units.to_owned() }
            }
            None => {
                let what = what.to_owned();
                Kind::Lines { what, total, start: Instant::now(), next: Mutex::new(LINE_INTERVAL) }
            }
        }
    }
}

/// The narrowest bar that is worth its place, in columns.
const NARROWEST_BAR: usize = 8;

/// The `numbers`, and of the `detail`, whose parts stand between commas, the first ones that leave room for a bar in so many
/// columns more.
fn fitting(numbers: &str, detail: &str, columns: usize) -> String {
    let mut text = numbers.to_owned();
    let mut room = columns.saturating_sub(NARROWEST_BAR);
    for part in detail.split(", ").filter(|part| !part.is_empty()) {
        let width = part.chars().count() + 2;
        if width > room {
            break;
        }
        room -= width;
        text += if part.starts_with("of ") { " " } else { ", " }; // "5/90 images of this rank's"
        text += part;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_leaves_room_for_the_bar() {
        let detail = "12 min left, loss 0.123, lr 1.00e-1, 3600 images/s, waits: data 2 %, ranks 10 %";
        assert_eq!(fitting("5/390 steps", detail, 12), "5/390 steps");
        assert_eq!(fitting("5/390 steps", detail, 22), "5/390 steps, 12 min left");
        assert_eq!(fitting("5/390 steps", detail, 50), "5/390 steps, 12 min left, loss 0.123, lr 1.00e-1");
        assert_eq!(fitting("5/390 steps", detail, 200), format!("5/390 steps, {detail}"));
        assert_eq!(fitting("5/9 images", "of this rank's, 3/s", 50), "5/9 images of this rank's, 3/s");
        assert_eq!(fitting("5/0 files", "files", 0), "5/0 files");
    }

    #[test]
    fn it_is_in_words() {
        let throughput =
            Throughput { images_per_second: 3600.4, data_wait: 0.021, communication_wait: 0.1, seconds_per_step: 0.1 };
        assert_eq!(throughput.to_string(), "3600 images/s, waiting 2 % for data, 10 % for ranks");
        assert_eq!(throughput.brief(), "3600 images/s, waits: data 2 %, ranks 10 %");
        let left = [0.4, 119.4, 121.0, 7321.0].map(left_words);
        assert_eq!(left, ["0 s left", "119 s left", "2 min left", "2 h 02 min left"]);
    }
}
