//! A step whose bits do not depend on the number of ranks (`--virtual-ranks V`): the global batch is cut into V fixed parts, each computed as
//! a rank of its own would, and everything is added up along one binary tree over the V parts.
//!
//! ```text
//! parts   0   1   2   3   4   5   6   7        V = 8
//! ranks   └─ 0 ─┘   └─ 1 ─┘   └─ 2 ─┘ …        of 4 ranks each sums its two, then they go on (`world::tree_sum`)
//!         └───── 0 ─────┘     └───── 1 …       of 2 ranks each sums its four along the same tree
//! ```
//!
//! What is added is one row of numbers a part: gradients, BatchNorm's running statistics, the loss, each 1/V of the part's. As V is a power of
//! two, and stands in the loss before anything is computed from it, nothing is rounded at a place that depends on the number of ranks.

mod exchange;
mod part;
mod tree;
mod twins;

use std::time::Instant;

use tch::Tensor;
use torch_ext::{Kept, ReduceOp, copy_each};

use self::exchange::{Exchange, LastPart};
use self::part::{Changed, Part, Row};
use self::tree::Tree;
pub(super) use self::twins::Twins;
use super::step::{Given, Made, TrainStep, seed_of};
use crate::observe::timers::Work;
use crate::run::bits::BitsLine;
use crate::task::Task;

/// What this rank's parts are together.
struct OwnParts {
    sum: Tensor,
    /// What the model's counters are after each of them.
    counters: Vec<Tensor>,
    /// The largest that any of them has counted, where they were to be looked at.
    counted: Option<Tensor>,
    /// What was computed, where that is recorded.
    bits: Vec<BitsLine>,
}

/// What has been computed of them so far.
#[derive(Default)]
struct SoFar {
    tree: Tree,
    counters: Vec<Tensor>,
    counted: Option<Tensor>,
    bits: Vec<BitsLine>,
}

impl SoFar {
    /// Takes what came of a part, and gives back the numbers that are to be added up.
    fn take(&mut self, row: Row) -> anyhow::Result<Tensor> {
        if row.place == 0 {
            self.counters = row.counters;
        }
        self.counted = match (self.counted.take(), row.counted) {
            (Some(largest), Some(other)) => Some(largest.f_maximum(&other)?),
            (largest, other) => largest.or(other),
        };
        self.bits.extend(row.bits);
        Ok(row.numbers)
    }
}

impl TrainStep<'_> {
    /// A step in `parts` parts over all ranks, of which this rank computes its own, as many at once as it has cores. Collective.
    pub(super) fn compute_parts(&mut self, task: &dyn Task, given: &Given<'_>, parts: usize) -> anyhow::Result<Made> {
        if self.parts_at_once > 1 && !self.twins.as_ref().is_some_and(|twins| twins.are_of(self.model)) {
            self.twins = Twins::new(self.model, self.numerics, self.parts_at_once)?;
        }
        let changed = Changed::of(self.model);
        // Twins have buffers of their own.
        let before = if self.twins.is_none() { Some(Kept::of(&self.buffers)?) } else { None };
        let mut exchange = Exchange::new(self.group, &changed, self.segment_bytes);
        let own = self.unless_out_of_memory(|| {
            self.own_parts(task, given, parts, &changed, before.as_ref(), exchange.as_mut())
        })?;
        let is_out_of_memory = own.is_none();
        // A rank whose memory does not suffice meets the others all the same, with NaN, and has counted nothing.
        let own = match own {
            Some(own) => own,
            None => OwnParts {
                sum: Tensor::full([changed.length() as i64], f64::NAN, (changed.kind(), changed.device())),
                counters: Vec::new(),
                bits: Vec::new(),
                counted: Some(changed.counted()?.fill(f64::NEG_INFINITY)).filter(|_| !self.knows_counters),
            },
        };
        let OwnParts { sum, counters, counted, bits } = own;
        if let Some(recorded) = &mut self.bits {
            recorded.extend(bits);
        }
        if let Some(counted) = counted {
            self.refuse_other_counters(counted)?;
            self.knows_counters = true;
        }
        let last = |row: &Tensor| row.narrow(0, row.numel() as i64 - 1, 1).reshape([0_i64; 0]).copy();
        let own_loss = last(&sum);
        if let Some(exchange) = exchange {
            let begin = Instant::now();
            self.timeline.span(Work::Backward, || exchange.finish(&sum))?;
            self.timeline.add_part(Work::Exchange, begin);
        }
        let loss = last(&sum);
        let judged = if own_loss.isfinite().double_value(&[]) > 0.0 { &loss } else { &own_loss };
        let flags = self.flags(judged, is_out_of_memory, &(given.wish)(), given.before)?;
        if flags.double_value(&[0]) > 0.0 {
            before.map_or(Ok(()), |before| before.restore())?;
            // Whose part it was shows in its own loss.
            return Ok(Made { flags, loss: own_loss, is_out_of_memory });
        }
        changed.take(&sum)?;
        copy_each(&changed.counters, &counters)?;
        self.timeline.span(Work::Optimizer, || self.update(given.lr, None))?;
        Ok(Made { flags, loss, is_out_of_memory: false })
    }

    /// Refuses a model whose counters do not count steps: what each part makes of them has no sum here. Collective.
    fn refuse_other_counters(&self, counted: Tensor) -> anyhow::Result<()> {
        if self.group.size() > 1 {
            self.group.all_reduce(&counted, ReduceOp::Max)?;
        }
        let half = counted.numel() as i64 / 2;
        let difference = counted.narrow(0, 0, half) + counted.narrow(0, half, half);
        anyhow::ensure!(
            half == 0 || difference.max().double_value(&[]) <= 0.0,
            "a buffer of whole numbers depends on the images of a part, which --virtual-ranks cannot add up; keep it in floating point"
        );
        Ok(())
    }

    /// This rank's parts. Without twins the model itself computes them, one after the other, each from buffers that are as they were
    /// `before` the step.
    fn own_parts(
        &self,
        task: &dyn Task,
        given: &Given<'_>,
        parts: usize,
        changed: &Changed,
        before: Option<&Kept>,
        mut exchange: Option<&mut Exchange<'_>>,
    ) -> anyhow::Result<OwnParts> {
        let own = self.micro_batches;
        let size = given.images.size()[0] / own as i64;
        let first = self.group.rank() * own;
        let seed = |place| seed_of(self.seed, given.number, first + place);
        let part = |place| Part {
            place,
            images: given.images.narrow(0, place as i64 * size, size),
            seed: seed(place),
            share: 1.0 / parts as f64,
            scale: self.scaler.as_ref().map_or(1.0, |scaler| scaler.state().0),
            counts: !self.knows_counters,
            record: self.bits.as_ref().map(|_| (given.number, first + place)),
        };
        let loss = |place: usize, outputs: Vec<Tensor>| -> anyhow::Result<Tensor> {
            let mut targets = given.targets.part(place as i64 * size, size);
            targets.tensors = targets.tensors.iter().map(Tensor::copy).collect();
            tch::manual_seed(seed(place)); // a loss may draw, too
            Ok(task.loss(&outputs, &targets))
        };
        let mut so_far = SoFar::default();
        let sum = self.timeline.passes(|[forward, backward]| {
            let mut took = |row: &Row| {
                *forward += row.forward;
                *backward += row.backward;
            };
            if let Some(twins) = &self.twins {
                let take = |row: Row| {
                    took(&row);
                    let place = row.place;
                    let numbers = so_far.take(row)?;
                    Ok(so_far.tree.put(place, numbers)?)
                };
                twins.compute((0..own).map(part).collect(), loss, take)?;
                return Ok(std::mem::take(&mut so_far.tree).root());
            }
            for place in 0..own {
                before.map_or(Ok(()), Kept::restore)?;
                let part = part(place);
                tch::manual_seed(part.seed); // a model of somebody's own may draw from libtorch's generator
                let is_last = place + 1 == own;
                let exchange = exchange.as_mut().filter(|_| is_last);
                let last = exchange.map(|exchange| LastPart::new(exchange, std::mem::take(&mut so_far.tree), changed));
                let mut last = last.transpose()?;
                let row =
                    changed.compute(self.model, self.numerics, &part, |outputs| loss(place, outputs), last.as_mut())?;
                took(&row);
                let numbers = so_far.take(row)?;
                match last {
                    Some(last) => return Ok(Some(last.finish(&numbers)?)),
                    None => so_far.tree.put(place, numbers)?,
                }
            }
            anyhow::Ok(std::mem::take(&mut so_far.tree).root())
        })?;
        let sum = sum.ok_or_else(|| anyhow::anyhow!("a rank's parts are no power of two"))?;
        let SoFar { counters, counted, mut bits, .. } = so_far;
        bits.sort_by_key(|line| line.part);
        Ok(OwnParts { sum, counters, counted, bits })
    }
}
