//! What this rank does when: what it is doing now, for the watchdog; how long it has done what, for the report; and under
//! `--trace` all of it, in Chrome's trace format (chrome://tracing, ui.perfetto.dev).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Device;
use torch_ext::{DeviceCollectives, DeviceElements, DeviceSlice, HostCollectives, HostElements, ReduceOp};
use world::World;

use crate::errors::agree;
use crate::files;
use crate::observe::activity::{Activity, Doing, Row};
use crate::observe::clock;
use crate::observe::timers::{Clock, Spent, Work};

/// Spans that a rank keeps; what comes after them is not recorded. About 100 bytes each.
const MOST_SPANS: usize = 1 << 20;

/// Something that took time, in microseconds since all ranks met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Span {
    name: String,
    row: Row,
    start: f64,
    duration: f64,
    bytes: Option<usize>,
}

#[derive(Debug)]
struct Recorder {
    zero: Instant,
    spans: Mutex<Vec<Span>>,
}

/// Knows what this rank is doing, and records it where a trace was asked for. A clone knows the same.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    activity: Arc<Activity>,
    clock: Clock,
    /// The device to wait for when a piece of work ends, so that its time is all that it took.
    synchronized: Option<Device>,
    recorder: Option<Arc<Recorder>>,
}

impl Timeline {
    /// Starts the clock, where a trace is `wanted`. Collective: all ranks' clocks start when they have met.
    pub(crate) fn start(world: &World, device: Device, wanted: bool) -> anyhow::Result<Self> {
        let timeline = Self { activity: Arc::default(), clock: Clock::default(), synchronized: None, recorder: None };
        if !wanted {
            return Ok(timeline);
        }
        world.control().barrier()?;
        let recorder = Recorder { zero: Instant::now(), spans: Mutex::default() };
        Ok(Self { synchronized: Some(device), recorder: Some(Arc::new(recorder)), ..timeline })
    }

    /// One that waits for `device` at the end of each piece of work, and records none of them.
    pub(crate) fn exact(device: Device) -> Self {
        let (activity, clock) = (Arc::default(), Clock::default());
        Self { activity, clock, synchronized: Some(device), recorder: None }
    }

    /// Whether it waits for a device, which a step that is recorded must not.
    pub(crate) fn waits(&self) -> bool {
        self.synchronized.is_some()
    }

    /// What this rank is doing now.
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// How long this rank has done what.
    pub(crate) fn spent(&self) -> Spent {
        self.clock.read()
    }

    /// Since `start` a part of a piece of work has been done.
    pub(crate) fn add_part(&self, work: Work, start: Instant) {
        self.clock.add(work, start.elapsed());
    }

    /// Runs `task`, and records it. On CUDA a trace waits for the device, so that the span is what the work took: it
    /// costs some speed there.
    pub(crate) fn span<T>(&self, work: Work, task: impl FnOnce() -> T) -> T {
        let _doing = self.activity.begin(Row::Main, Doing::new(work.name()));
        let start = Instant::now();
        let result = task();
        let took = self.synchronized.map_or_else(Instant::now, clock::synchronized) - start;
        self.clock.add(work, took);
        if let Some(recorder) = &self.recorder {
            recorder.record(work.name(), Row::Main, start, took, None);
        }
        result
    }

    /// Runs the passes of a step on the CPU, perhaps several at once: `task` adds up how long those forward and those backward have
    /// taken. The time that goes by meanwhile counts, and is recorded, in these shares.
    pub(crate) fn passes<T>(&self, task: impl FnOnce(&mut [Duration; 2]) -> T) -> T {
        let _doing = self.activity.begin(Row::Main, Doing::new("forward and backward"));
        let mut took = [Duration::ZERO; 2];
        let mut start = Instant::now();
        let result = task(&mut took);
        let (whole, all) = (start.elapsed(), took.iter().sum::<Duration>());
        for (work, time) in [Work::Forward, Work::Backward].into_iter().zip(took) {
            let share = whole.mul_f64(time.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE));
            self.clock.add(work, share);
            if let Some(recorder) = &self.recorder {
                recorder.record(work.name(), Row::Main, start, share, None);
            }
            start += share;
        }
        result
    }

    /// Knows, and records, what `collectives` carry.
    pub(crate) fn of_collectives(&self, collectives: impl HostCollectives + 'static) -> Box<dyn HostCollectives> {
        Box::new(Traced { collectives, timeline: self.clone(), all_reduces: 0 })
    }

    /// Writes the spans of all ranks to `path`, on rank 0. Collective.
    pub(crate) fn write(&self, world: &World, path: &Path) -> anyhow::Result<()> {
        let Some(recorder) = &self.recorder else { return Ok(()) };
        let own = recorder.take();
        let mut events = Vec::new();
        for rank in 0..world.size() {
            let mut bytes = if rank == world.rank() { serde_json::to_vec(&own)? } else { Vec::new() };
            world.control().broadcast_bytes(&mut bytes, rank)?;
            if world.rank() == 0 {
                let spans: Vec<Span> = serde_json::from_slice(&bytes)?;
                events.extend(chrome_events(rank, world.host_of(rank), &spans));
            }
        }
        let written = if world.rank() == 0 {
            let trace = json!({ "displayTimeUnit": "ms", "traceEvents": events });
            files::write_whole(path, |file| Ok(std::fs::write(file, serde_json::to_vec(&trace)?)?))
        } else {
            Ok(())
        };
        agree(world, written)
    }
}

impl Recorder {
    fn record(&self, name: &str, row: Row, start: Instant, duration: Duration, bytes: Option<usize>) {
        let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        if spans.len() < MOST_SPANS {
            let (start, duration) = (microseconds(start - self.zero), microseconds(duration));
            spans.push(Span { name: name.to_owned(), row, start, duration, bytes });
        }
    }

    fn take(&self) -> Vec<Span> {
        std::mem::take(&mut self.spans.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One process of the trace for each rank, one thread for each row.
fn chrome_events(rank: usize, host: &str, spans: &[Span]) -> Vec<Value> {
    let name = |what: &str, thread: Row, name: &str| json!({ "ph": "M", "name": what, "pid": rank, "tid": thread as u32, "args": { "name": name } });
    let mut events = vec![
        name("process_name", Row::Main, &format!("rank {rank} on {host}")),
        name("thread_name", Row::Main, "training"),
        name("thread_name", Row::Communication, "communication"),
    ];
    events.extend(spans.iter().map(|span| {
        let args = span.bytes.map_or(json!({}), |bytes| json!({ "bytes": bytes }));
        json!({
            "ph": "X", "name": span.name, "pid": rank, "tid": span.row as u32,
            "ts": span.start, "dur": span.duration, "args": args,
        })
    }));
    events
}

/// Collectives that leave spans on the communication thread's row.
struct Traced<C> {
    collectives: C,
    timeline: Timeline,
    /// Since the start.
    all_reduces: usize,
}

impl<C> Traced<C> {
    fn next_all_reduce(&mut self) -> Doing {
        self.all_reduces += 1;
        Doing::new("all-reduce").number(self.all_reduces - 1)
    }

    fn traced<T>(&mut self, doing: Doing, bytes: usize, run: impl FnOnce(&mut C) -> T) -> T {
        let Timeline { activity, recorder, .. } = &self.timeline;
        let _doing = activity.begin(Row::Communication, doing);
        let start = Instant::now();
        let result = run(&mut self.collectives);
        if let Some(recorder) = recorder {
            recorder.record(&doing.to_string(), Row::Communication, start, start.elapsed(), Some(bytes));
        }
        result
    }
}

impl<C: HostCollectives> HostCollectives for Traced<C> {
    fn rank(&self) -> usize {
        self.collectives.rank()
    }

    fn size(&self) -> usize {
        self.collectives.size()
    }

    fn all_reduce(&mut self, elements: HostElements<'_>, op: ReduceOp) -> Result<(), String> {
        let (doing, bytes) = (self.next_all_reduce(), elements.bytes());
        self.traced(doing, bytes, |collectives| collectives.all_reduce(elements, op))
    }

    fn broadcast(&mut self, bytes: &mut [u8], root: usize) -> Result<(), String> {
        self.traced(Doing::new("broadcast"), bytes.len(), |collectives| collectives.broadcast(bytes, root))
    }

    fn all_gather(&mut self, input: &[u8], output: &mut [u8]) -> Result<(), String> {
        self.traced(Doing::new("all-gather"), input.len(), |collectives| collectives.all_gather(input, output))
    }

    fn barrier(&mut self) -> Result<(), String> {
        self.traced(Doing::new("barrier"), 0, HostCollectives::barrier)
    }

    fn device_collectives(&mut self) -> Option<&mut dyn DeviceCollectives> {
        self.collectives.device_collectives()?;
        Some(self)
    }
}

impl<C: HostCollectives> DeviceCollectives for Traced<C> {
    fn all_reduce(&mut self, elements: DeviceElements<'_>, op: ReduceOp) -> Result<(), String> {
        let (doing, bytes) = (self.next_all_reduce(), elements.bytes());
        self.traced(doing, bytes, |collectives| of_devices(collectives)?.all_reduce(elements, op))
    }

    fn broadcast(&mut self, bytes: DeviceSlice<'_, u8>, root: usize) -> Result<(), String> {
        self.traced(Doing::new("broadcast"), bytes.len(), |collectives| of_devices(collectives)?.broadcast(bytes, root))
    }

    fn all_gather(&mut self, input: DeviceSlice<'_, u8>, output: DeviceSlice<'_, u8>) -> Result<(), String> {
        self.traced(Doing::new("all-gather"), input.len(), |collectives| {
            of_devices(collectives)?.all_gather(input, output)
        })
    }
}

fn of_devices(collectives: &mut impl HostCollectives) -> Result<&mut dyn DeviceCollectives, String> {
    collectives.device_collectives().ok_or_else(|| "these collectives know host memory only".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_become_events_of_their_rank() {
        let span = |row, bytes| Span { name: "work".to_owned(), row, start: 1.5, duration: 2.0, bytes };
        let events = chrome_events(3, "n1", &[span(Row::Main, None), span(Row::Communication, Some(8))]);
        assert_eq!(events[0]["args"]["name"], "rank 3 on n1");
        assert_eq!(
            events[3],
            json!({ "ph": "X", "name": "work", "pid": 3, "tid": 0, "ts": 1.5, "dur": 2.0, "args": {} })
        );
        assert_eq!((&events[4]["tid"], &events[4]["args"]["bytes"]), (&json!(1), &json!(8)));
    }
}
