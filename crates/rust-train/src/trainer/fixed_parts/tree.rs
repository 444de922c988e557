//! The order in which the parts of a step are added up.

use std::collections::BTreeMap;

use tch::{Tensor, no_grad};

/// Rows that are summed along a binary tree as they come: of each height at most one waits for its neighbour.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The tallest first.
    waiting: Vec<(u32, Tensor)>,
    /// Those that came before their turn, by their places among the leaves.
    early: BTreeMap<usize, Tensor>,
    /// How many leaves have been added.
    added: usize,
}

impl Tree {
    /// Takes the leaf at `place`, counted from 0, in whatever order they come.
    pub(super) fn put(&mut self, place: usize, leaf: Tensor) -> torch_ext::Result<()> {
        self.early.insert(place, leaf);
        while let Some(next) = self.early.remove(&self.added) {
            self.push(next)?;
            self.added += 1;
        }
        Ok(())
    }

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

    /// What the last leaf will be added to, one after the other: where all but one of a power of two have been added. `None` where another
    /// number has.
    pub(super) fn before_the_last(self) -> Option<Vec<Tensor>> {
        let is_so = self.early.is_empty() && (self.added + 1).is_power_of_two();
        is_so.then(|| self.waiting.into_iter().rev().map(|(_, sum)| sum).collect())
    }

    /// The sum of all leaves, which were a power of two.
    pub(super) fn root(mut self) -> Option<Tensor> {
        self.waiting.pop().filter(|_| self.waiting.is_empty() && self.early.is_empty()).map(|(_, sum)| sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Rows in which each order of additions gives other bits.
    fn leaves(count: usize) -> Vec<Tensor> {
        let number =
            |leaf: usize, at: usize| (leaf * 31 + at * 17 + 1) as f32 * 1.1 * 10_f32.powi((leaf * 7 + at) as i32 % 9);
        (0..count).map(|leaf| Tensor::from_slice(&[0, 1, 2].map(|at| number(leaf, at)))).collect()
    }

    /// Neighbours change places, as where two threads compute them.
    fn places(count: usize) -> impl Iterator<Item = usize> {
        (0..count).map(move |place| if count.is_multiple_of(2) { place ^ 1 } else { place })
    }

    fn tree_of(leaves: &[Tensor]) -> Tree {
        let mut tree = Tree::default();
        for place in places(leaves.len()) {
            tree.put(place, leaves[place].copy()).unwrap();
        }
        tree
    }

    fn sum(leaves: &[Tensor]) -> Tensor {
        tree_of(leaves).root().unwrap()
    }

    #[test]
    fn aligned_parts_are_sums_of_the_same_tree() {
        let all = leaves(16);
        let whole = sum(&all);
        for ranks in [1, 2, 4, 8, 16] {
            let of_ranks: Vec<_> = all.chunks(16 / ranks).map(sum).collect();
            assert!(sum(&of_ranks) == whole, "{ranks} ranks");
        }
        for count in [1, 2, 4, 8] {
            let sums = tree_of(&all[..count - 1]).before_the_last().unwrap();
            let last = sums.into_iter().fold(all[count - 1].copy(), |numbers, sum| sum + numbers);
            assert!(last == sum(&all[..count]), "the last of {count}");
        }
        let in_a_line = all.iter().fold(Tensor::zeros([3], (Kind::Float, Device::Cpu)), |sum, leaf| sum + leaf);
        assert!(in_a_line != whole, "another order gives other bits");
        let mut three = Tree::default();
        leaves(3).into_iter().enumerate().for_each(|(place, leaf)| three.put(place, leaf).unwrap());
        assert!(three.root().is_none());
        assert!(tree_of(&leaves(2)).before_the_last().is_none());
        let mut second_alone = Tree::default();
        second_alone.put(1, leaves(1).remove(0)).unwrap();
        assert!(second_alone.root().is_none());
    }
}
