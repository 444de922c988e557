//! Progress of long work on rank 0: a bar where a person watches, a line now and then where a log file does.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use world::World;

use crate::terminal;

/// Between two lines in a log.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Shows how far a long piece of work is. Silent on all ranks but rank 0.
#[derive(Debug)]
pub(crate) struct Progress(Kind);

#[derive(Debug)]
enum Kind {
    Silent,
    Bar(ProgressBar),
    Lines { what: String, total: u64, start: Instant, next: Mutex<Duration> },
}

impl Progress {
    /// Begins `what`, which has `total` `units` ("pictures").
    pub(crate) fn new(world: &World, what: &str, units: &'static str, total: u64) -> Self {
        if world.rank() != 0 {
            return Self(Kind::Silent);
        }
        Self(match terminal::draw_target() {
            Some(target) => {
                let bar = ProgressBar::with_draw_target(Some(total), target);
                let template = format!("{{prefix}} {{wide_bar}} {{pos}}/{{len}} {units} {{msg}} {{eta}} left");
                if let Ok(style) = ProgressStyle::with_template(&template) {
                    bar.set_style(style);
                }
                Kind::Bar(bar.with_prefix(what.to_owned()))
            }
            None => {
                let what = what.to_owned();
                Kind::Lines { what, total, start: Instant::now(), next: Mutex::new(LINE_INTERVAL) }
            }
        })
    }

    /// `done` of all are done. `detail` is asked for only when it is shown.
    pub(crate) fn update(&self, done: u64, detail: impl FnOnce() -> String) {
        match &self.0 {
            Kind::Silent => {}
            Kind::Bar(bar) => {
                bar.set_message(detail());
                bar.set_position(done);
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
        if let Kind::Bar(bar) = &self.0 {
            bar.set_length(total);
        }
        self.update(done, detail);
    }

    /// The work is over: the bar goes.
    pub(crate) fn finish(self) {
        if let Kind::Bar(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}
