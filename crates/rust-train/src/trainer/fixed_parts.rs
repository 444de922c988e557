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

use tch::{Tensor, no_grad};
use torch_ext::{Kept, ReduceOp};

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

/// The numbers of some tensors in a row, each in its logical order, whatever its memory format.
fn row(tensors: &[Tensor]) -> torch_ext::Result<Tensor> {
    let flat: Vec<_> = tensors.iter().map(|tensor| tensor.detach().reshape([-1])).collect();
    Ok(no_grad(|| Tensor::f_cat(&flat, 0))?)
}

/// The other way round.
fn from_row(row: &Tensor, tensors: &[Tensor]) -> torch_ext::Result<()> {
    let mut start = 0;
    for tensor in tensors {
        let length = tensor.numel() as i64;
        let part = row.narrow(0, start, length).reshape(tensor.size());
        no_grad(|| tensor.detach().f_copy_(&part))?;
        start += length;
    }
    Ok(())
}

impl TrainStep<'_> {
    /// A step in `parts` parts over all ranks, of which this rank computes its own one after the other. Collective.
    pub(super) fn compute_parts(&mut self, task: &dyn Task, given: &Given<'_>, parts: usize) -> anyhow::Result<Made> {
        let own = self.micro_batches;
        let first = self.group.rank() * own;
        let size = given.images.size()[0] / own as i64;
        let share = 1.0 / parts as f64;
        let parameters: Vec<_> = trained(self.model).into_iter().map(|(_, parameter)| parameter).collect();
        // Counters are the same on all ranks as they are.
        let statistics: Vec<_> = self.buffers.iter().filter(|buffer| buffer.is_floating_point()).collect();
        let statistics: Vec<_> = statistics.into_iter().map(Tensor::shallow_clone).collect();
        let before = Kept::of(&self.buffers)?;
        let always = Tensor::from(true);
        let mut tree = Tree::default();
        for part in 0..own {
            if part > 0 {
                before.restore_where(&always)?;
            }
            self.ddp.zero_grad()?;
            tch::manual_seed(seed_of(self.seed, given.number, first + part));
            let start = part as i64 * size;
            // Copied, because what libraries compute may depend on where in memory it begins.
            let images = given.images.narrow(0, start, size).copy();
            let targets = given.targets.part(start, size);
            let pass = || -> torch_ext::Result<Tensor> { Ok(task.loss(&self.forward(&images)?, &targets)) };
            let loss = self.timeline.span(Work::Forward, || self.ddp.no_sync(pass))?;
            self.timeline.span(Work::Backward, || (&loss * share).f_backward())?;
            let gradient = |parameter: &Tensor| {
                let gradient = parameter.grad();
                if gradient.defined() { gradient } else { parameter.detach().zeros_like() }
            };
            let mut leaf: Vec<_> = parameters.iter().map(gradient).collect();
            leaf.extend(statistics.iter().chain([&loss.reshape([1])]).map(|tensor| no_grad(|| tensor * share)));
            tree.push(row(&leaf)?)?;
        }
        let sum = tree.root().ok_or_else(|| anyhow::anyhow!("a rank's parts are no power of two"))?;
        if self.group.size() > 1 {
            self.timeline.span(Work::Exchange, || self.group.all_reduce(&sum, ReduceOp::Sum))?;
        }
        let loss = sum.narrow(0, sum.numel() as i64 - 1, 1).reshape([0_i64; 0]);
        let flags = self.flags(&loss, false, &(given.wish)(), given.before)?;
        if flags.double_value(&[0]) > 0.0 {
            before.restore_where(&always)?;
            return Ok(Made { flags, loss, is_out_of_memory: false });
        }
        let gradients: Vec<_> = parameters.iter().map(Tensor::grad).filter(Tensor::defined).collect();
        anyhow::ensure!(
            gradients.len() == parameters.len(),
            "a parameter has no gradient, which --virtual-ranks has no use for"
        );
        from_row(&sum, &gradients.into_iter().chain(statistics).collect::<Vec<_>>())?;
        self.timeline.span(Work::Optimizer, || self.update(given.lr, None))?;
        Ok(Made { flags, loss, is_out_of_memory: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

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
        let in_a_line = all.iter().fold(Tensor::zeros([3], (Kind::Float, tch::Device::Cpu)), |sum, leaf| sum + leaf);
        assert!(in_a_line != whole, "another order gives other bits");
        let mut three = Tree::default();
        leaves(3).into_iter().for_each(|leaf| three.push(leaf).unwrap());
        assert!(three.root().is_none());
    }

    #[test]
    fn rows_there_and_back() {
        let image = Tensor::arange(24, (Kind::Float, tch::Device::Cpu)).reshape([2, 3, 2, 2]);
        let tensors = [image.contiguous().permute([0, 2, 3, 1]), Tensor::from_slice(&[7.0_f32])];
        let there = row(&tensors).unwrap();
        let back = [tensors[0].zeros_like(), tensors[1].zeros_like()];
        from_row(&there, &back).unwrap();
        assert!(back[0] == tensors[0] && back[1] == tensors[1]);
    }
}
