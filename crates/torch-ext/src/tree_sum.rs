//! Sums over the ranks whose bits do not depend on their number: along one binary tree, by what carries whole chunks. What travels is as much
//! as in a ring.
//!
//! ```text
//! rank 0   a0 a1 a2 a3        all-to-all: each gets its chunk of every rank's row
//! rank 1   b0 b1 b2 b3   →    rank 1 has a1 b1 c1 d1, adds (a1 + b1) + (c1 + d1)
//! rank 2   c0 c1 c2 c3        all-gather: everybody gets every chunk's sum
//! rank 3   d0 d1 d2 d3
//! ```

use tch::Tensor;

use crate::{Error, Result};

/// The sum of all ranks' rows, which are of one dimension. `all_to_all` replaces the rows of a tensor of `size` rows, row r of which goes to
/// rank r, by those that come from each rank; `all_gather` stacks the ranks' tensors.
pub(crate) fn tree_sum(
    row: &Tensor,
    size: usize,
    all_to_all: impl FnOnce(&Tensor) -> Result<Tensor>,
    all_gather: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if !size.is_power_of_two() {
        return Err(Error::State { what: format!("{size} ranks have no binary tree of their own") });
    }
    let (length, ranks) = (row.numel() as i64, size as i64);
    let chunk = (length + ranks - 1) / ranks;
    let padded = row.f_constant_pad_nd([0, chunk * ranks - length])?.f_view([ranks, chunk])?;
    let mut sums = all_to_all(&padded)?;
    while sums.size()[0] > 1 {
        let pairs = sums.f_view([sums.size()[0] / 2, 2, chunk])?;
        sums = pairs.f_select(1, 0)?.f_add(&pairs.f_select(1, 1)?)?;
    }
    all_gather(&sums.f_squeeze_dim(0)?)?.f_flatten(0, -1)?.f_narrow(0, 0, length).map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Barrier, Mutex};
    use tch::{Device, Kind};

    /// Rows in which each order of additions gives other bits.
    fn row(rank: usize, length: i64) -> Tensor {
        let number = |at: i64| {
            ((rank as i64 * 31 + at * 17 + 1) as f32) * 1.1 * 10_f32.powi(((rank as i64 * 7 + at) % 9) as i32)
        };
        Tensor::from_slice(&(0..length).map(number).collect::<Vec<_>>())
    }

    /// The sum of rows `from..to` along the tree.
    fn expected(from: usize, to: usize, length: i64) -> Tensor {
        match to - from {
            1 => row(from, length),
            count => expected(from, from + count / 2, length) + expected(from + count / 2, to, length),
        }
    }

    #[test]
    fn all_ranks_have_the_sum_along_the_tree() {
        for size in [1, 2, 4, 8] {
            for length in [1, 5, 8, 37] {
                let desk = Mutex::new((0..size).map(|_| Tensor::new()).collect::<Vec<_>>());
                let barrier = Barrier::new(size);
                let exchange = |rank: usize, own: &Tensor| {
                    desk.lock().unwrap()[rank] = own.copy();
                    barrier.wait();
                    let all = Tensor::stack(desk.lock().unwrap().as_slice(), 0);
                    barrier.wait();
                    all
                };
                std::thread::scope(|scope| {
                    for rank in 0..size {
                        let exchange = &exchange;
                        scope.spawn(move || {
                            let all_to_all =
                                |rows: &Tensor| Ok(exchange(rank, rows).select(1, rank as i64).contiguous());
                            let sum = tree_sum(&row(rank, length), size, all_to_all, |own| Ok(exchange(rank, own)));
                            assert!(sum.unwrap().equal(&expected(0, size, length)), "{length} numbers of {size} ranks");
                        });
                    }
                });
            }
        }
        let in_a_line = (1..8).fold(row(0, 37), |sum, rank| sum + row(rank, 37));
        assert!(!in_a_line.equal(&expected(0, 8, 37)), "another order gives other bits");
        let three =
            tree_sum(&Tensor::zeros([2], (Kind::Float, Device::Cpu)), 3, |_| unreachable!(), |_| unreachable!());
        assert!(three.unwrap_err().to_string().contains("3 ranks"));
    }
}
