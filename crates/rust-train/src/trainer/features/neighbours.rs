//! Images told by their nearest neighbours: the training images whose features point most nearly the same way, each of which has a vote.
//!
//! ```text
//! vote of a neighbour = exp(cosine of both features / 0.07)        (Wu et al., 2018; as DINO evaluates features)
//! ```

use tch::{Kind, Tensor, no_grad};
use torch_ext::{ProcessGroup, ReduceOp};

use super::Features;

/// The smaller, the more the nearest ones count.
const TEMPERATURE: f64 = 0.07;

/// Training images that travel together.
const TOGETHER: i64 = 16 * 1024;

/// Images that are asked for together.
const ASKED: i64 = 1024;

/// What no class has less of: the logarithm of nothing is no number.
const LEAST: f64 = 1e-9;

/// The neighbours of each of this rank's images.
#[derive(Debug)]
pub(super) struct Neighbours {
    /// N×K, the nearest first.
    cosines: Tensor,
    /// N×K.
    labels: Tensor,
}

impl Neighbours {
    /// The `count` nearest of the training images of all ranks, for each image of this rank's `looked_at`. Collective.
    pub(super) fn find(
        train: &Features,
        looked_at: &Features,
        count: usize,
        group: &ProcessGroup,
    ) -> anyhow::Result<Self> {
        no_grad(|| {
            let device = train.rows.device();
            let (own, asked) = (unit(&train.rows), unit(&looked_at.rows).f_split(ASKED, 0)?);
            let empty = |rows: &Tensor, kind| Tensor::zeros([rows.size()[0], 0], (kind, device));
            let found =
                asked.iter().map(|rows| Self { cosines: empty(rows, Kind::Float), labels: empty(rows, Kind::Int64) });
            let mut found: Vec<_> = found.collect();
            for rank in 0..group.size() {
                let size = Tensor::from(if rank == group.rank() { own.size()[0] } else { 0 }).to_device(device);
                group.all_reduce(&size, ReduceOp::Max)?;
                let size = size.int64_value(&[]);
                for first in (0..size).step_by(TOGETHER as usize) {
                    let length = TOGETHER.min(size - first);
                    let (rows, labels) = match rank == group.rank() {
                        true => (own.narrow(0, first, length).copy(), train.labels.narrow(0, first, length).copy()),
                        false => (
                            Tensor::zeros([length, own.size()[1]], (Kind::Float, device)),
                            Tensor::zeros([length], (Kind::Int64, device)),
                        ),
                    };
                    group.broadcast(&[rows.shallow_clone()], rank)?;
                    group.broadcast(&[labels.shallow_clone()], rank)?;
                    for (found, asked) in found.iter_mut().zip(&asked) {
                        found.take(&asked.matmul(&rows.tr()), &labels, count);
                    }
                }
            }
            let all = |of: fn(&Self) -> &Tensor| Tensor::f_cat(&found.iter().map(of).collect::<Vec<_>>(), 0);
            Ok(Self { cosines: all(|found| &found.cosines)?, labels: all(|found| &found.labels)? })
        })
    }

    /// Looks at further candidates, N×M with M labels.
    fn take(&mut self, cosines: &Tensor, labels: &Tensor, count: usize) {
        let labels = labels.unsqueeze(0).expand_as(cosines);
        let cosines = Tensor::cat(&[&self.cosines, cosines], 1);
        let labels = Tensor::cat(&[&self.labels, &labels], 1);
        let (nearest, places) = cosines.topk((count as i64).min(cosines.size()[1]), 1, true, true);
        (self.cosines, self.labels) = (nearest, labels.gather(1, &places, false));
    }

    /// The share of each class in the votes, N×classes, none of them zero.
    pub(super) fn votes(&self, classes: usize) -> anyhow::Result<Tensor> {
        let weights = (&self.cosines / TEMPERATURE).f_softmax(1, Kind::Float)?;
        let none = Tensor::zeros([weights.size()[0], classes as i64], (Kind::Float, weights.device()));
        let votes = none.f_scatter_add(1, &self.labels, &weights)? + LEAST;
        Ok(&votes / votes.sum_dim_intlist(1, true, Kind::Float))
    }
}

/// Rows of length 1.
fn unit(rows: &Tensor) -> Tensor {
    rows / rows.norm_scalaropt_dim(2, 1, true).clamp_min(1e-12)
}
