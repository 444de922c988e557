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

use std::time::Instant;

use tch::{Device, Kind, Tensor, no_grad};
use torch_ext::{Kept, ReduceOp, elements, set_elements};

use super::step::{Given, Made, TrainStep, seed_of};
use crate::model::trained;
use crate::observe::timers::Work;
use crate::task::Task;

/// Rows that are summed along a binary tree as they come: of each height at most one waits for its neighbour.
#[derive(Debug, Default)]
struct Tree {
    /// The tallest first.
    waiting: Vec<(u32, Tensor)>,
}

impl Tree {
    /// Adds the next leaf.
    fn push(&mut self, leaf: Tensor) -> torch_ext::Result<()> {
        let mut sum = (0, leaf);
        while let Some((_, mut left)) = self.waiting.pop_if(|(height, _)| *height == sum.0) {
            no_grad(|| left.f_add_(&sum.1).map(drop))?;
            sum = (sum.0 + 1, left);
        }
        self.waiting.push(sum);
        Ok(())
    }

    /// The sum of all leaves, which were a power of two.
    fn root(mut self) -> Option<Tensor> {
        self.waiting.pop().filter(|_| self.waiting.is_empty()).map(|(_, sum)| sum)
    }
}

/// What a step changes.
struct Changed {
    parameters: Vec<Tensor>,
    /// BatchNorm's running statistics, and what else a model keeps in floating-point numbers.
    statistics: Vec<Tensor>,
    /// What counts steps: the same after each part.
    counters: Vec<Tensor>,
    /// What buffers were before the step.
    before: Kept,
}

impl Changed {
    fn of(step: &TrainStep<'_>) -> torch_ext::Result<Self> {
        let parameters = trained(step.model).into_iter().map(|(_, parameter)| parameter).collect();
        let all = step.buffers.iter().map(Tensor::shallow_clone);
        let (statistics, counters) = all.partition(Tensor::is_floating_point);
        Ok(Self { parameters, statistics, counters, before: Kept::of(&step.buffers)? })
    }

    /// How long the row of a part is: gradients, whether each parameter has one, statistics, the loss.
    fn length(&self) -> usize {
        let numbers = [&self.parameters, &self.statistics].into_iter().flatten().map(Tensor::numel).sum::<usize>();
        numbers + self.parameters.len() + 1
    }

    /// The row of a part that has just been computed, of which it has this `share`.
    fn row(&self, loss: &Tensor, share: f64) -> torch_ext::Result<Tensor> {
        let gradients: Vec<_> = self.parameters.iter().map(Tensor::grad).collect();
        let or_zeros = |(gradient, parameter): (&Tensor, &Tensor)| match gradient.defined() {
            true => gradient.shallow_clone(),
            false => parameter.zeros_like(),
        };
        let mut leaf: Vec<_> = gradients.iter().zip(&self.parameters).map(or_zeros).collect();
        let has_gradient: Vec<_> =
            gradients.iter().map(|gradient| if gradient.defined() { share as f32 } else { 0.0 }).collect();
        leaf.extend(self.statistics.iter().map(|statistic| no_grad(|| statistic * share)));
        leaf.push(Tensor::from_slice(&has_gradient));
        leaf.push(no_grad(|| loss.reshape([1]) * share));
        elements(&leaf)
    }

    /// The counters in double precision, and their negatives: the largest of each over all parts say whether they are alike.
    fn counted(&self) -> torch_ext::Result<Tensor> {
        let none = [Tensor::zeros([0], (Kind::Double, Device::Cpu))];
        let counters = self.counters.iter().map(|counter| counter.to_kind(Kind::Double)).chain(none);
        let counters = elements(&counters.collect::<Vec<_>>())?;
        Ok(Tensor::f_cat(&[&counters, &-&counters], 0)?)
    }

    /// Puts what was summed into its place.
    ///
    /// # Errors
    /// A parameter that had no gradient in some part, the same on all ranks.
    fn take(&self, sum: &Tensor) -> anyhow::Result<()> {
        let count = self.parameters.len() as i64;
        let shares = sum.narrow(0, sum.numel() as i64 - 1 - count, count);
        if count > 0 && shares.min().double_value(&[]) < 1.0 {
            anyhow::bail!(
                "a parameter has no gradient in some part of the batch, which --virtual-ranks has no use for"
            );
        }
        let gradients =
            self.parameters.iter().map(Tensor::grad).chain(self.statistics.iter().map(Tensor::shallow_clone));
        let changed: Vec<_> = gradients.collect();
        let numbers = sum.numel() as i64 - 1 - count;
        Ok(set_elements(&changed, &sum.narrow(0, 0, numbers))?)
    }
}

impl TrainStep<'_> {
    /// A step in `parts` parts over all ranks, of which this rank computes its own one after the other. Collective.
    pub(super) fn compute_parts(&mut self, task: &dyn Task, given: &Given<'_>, parts: usize) -> anyhow::Result<Made> {
        let changed = Changed::of(self)?;
        // In the first step of a process; of a rank that has no memory for one nothing is counted.
        let counted = if self.knows_counters { None } else { Some(changed.counted()?.fill(f64::NEG_INFINITY)) };
        let sum = self.unless_out_of_memory(|| self.own_parts(task, given, parts, &changed, counted.as_ref()))?;
        let is_out_of_memory = sum.is_none();
        if let Some(counted) = counted {
            self.refuse_other_counters(counted)?;
            self.knows_counters = true;
        }
        // A rank whose memory does not suffice meets the others all the same, with NaN.
        let sum = sum.unwrap_or_else(|| Tensor::full([changed.length() as i64], f64::NAN, (Kind::Float, Device::Cpu)));
        let last = |row: &Tensor| row.narrow(0, row.numel() as i64 - 1, 1).reshape([0_i64; 0]).copy();
        let own_loss = last(&sum);
        if self.group.size() > 1 {
            let begin = Instant::now();
            self.timeline.span(Work::Backward, || self.group.all_reduce(&sum, ReduceOp::Sum))?;
            self.timeline.add_part(Work::Exchange, begin);
        }
        let loss = last(&sum);
        let judged = if own_loss.isfinite().double_value(&[]) > 0.0 { &loss } else { &own_loss };
        let flags = self.flags(judged, is_out_of_memory, &(given.wish)(), given.before)?;
        if flags.double_value(&[0]) > 0.0 {
            changed.before.restore()?;
            // Whose part it was shows in its own loss.
            return Ok(Made { flags, loss: own_loss, is_out_of_memory });
        }
        changed.take(&sum)?;
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

    /// The sum of this rank's parts. `counted`, if given, becomes the largest that any of them has counted.
    fn own_parts(
        &self,
        task: &dyn Task,
        given: &Given<'_>,
        parts: usize,
        changed: &Changed,
        counted: Option<&Tensor>,
    ) -> anyhow::Result<Tensor> {
        let own = self.micro_batches;
        let size = given.images.size()[0] / own as i64;
        let share = 1.0 / parts as f64;
        let mut tree = Tree::default();
        for part in 0..own {
            if part > 0 {
                changed.before.restore()?;
            }
            self.ddp.zero_grad()?;
            tch::manual_seed(seed_of(self.seed, given.number, self.group.rank() * own + part));
            let start = part as i64 * size;
            // Copied, because what libraries compute may depend on where in memory it begins.
            let images = given.images.narrow(0, start, size).copy();
            let mut targets = given.targets.part(start, size);
            targets.tensors = targets.tensors.iter().map(Tensor::copy).collect();
            let pass = || -> torch_ext::Result<Tensor> { Ok(task.loss(&self.forward(&images)?, &targets)) };
            let loss = self.timeline.span(Work::Forward, || self.ddp.no_sync(pass))?;
            self.timeline.span(Work::Backward, || (&loss * share).f_backward())?;
            tree.push(changed.row(&loss, share)?)?;
            if let Some(counted) = counted {
                counted.shallow_clone().f_copy_(&counted.f_maximum(&changed.counted()?)?)?;
            }
        }
        tree.root().ok_or_else(|| anyhow::anyhow!("a rank's parts are no power of two"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows in which each order of additions gives other bits.
    fn leaves(count: usize) -> Vec<Tensor> {
        let number =
            |leaf: usize, at: usize| (leaf * 31 + at * 17 + 1) as f32 * 1.1 * 10_f32.powi((leaf * 7 + at) as i32 % 9);
        (0..count).map(|leaf| Tensor::from_slice(&[0, 1, 2].map(|at| number(leaf, at)))).collect()
    }

    fn sum(leaves: &[Tensor]) -> Tensor {
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(leaf.copy()).unwrap());
        tree.root().unwrap()
    }

    #[test]
    fn aligned_parts_are_sums_of_the_same_tree() {
        let all = leaves(16);
        let whole = sum(&all);
        for ranks in [1, 2, 4, 8, 16] {
            let of_ranks: Vec<_> = all.chunks(16 / ranks).map(sum).collect();
            assert!(sum(&of_ranks) == whole, "{ranks} ranks");
        }
        let in_a_line = all.iter().fold(Tensor::zeros([3], (Kind::Float, Device::Cpu)), |sum, leaf| sum + leaf);
        assert!(in_a_line != whole, "another order gives other bits");
        let mut three = Tree::default();
        leaves(3).into_iter().for_each(|leaf| three.push(leaf).unwrap());
        assert!(three.root().is_none());
    }
}
