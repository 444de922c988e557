//! What a model gives for every sample, and what it should: scores that no sum of samples makes, such as a precision at a
//! threshold, are computed of all of them, in the order of the set, whatever the number of ranks.

use tch::{Device, Kind, Tensor};
use world::{Channel, Reduction};

use super::Targets;

/// The outputs and targets of a set, K numbers each a sample.
#[derive(Debug)]
pub(super) struct Rows {
    width: usize,
    /// Batches of this rank: the number of the first sample, the outputs beside the targets, N×2K.
    batches: Vec<(usize, Tensor)>,
    /// All of them, once they are gathered: 2K numbers for each sample.
    values: Vec<f32>,
}

/// Numbers that are gathered at a time: bounds the memory that a collective takes.
const PIECE: usize = 1 << 22;

impl Rows {
    /// Of K = `width` numbers.
    pub(super) fn new(width: usize) -> Self {
        Self { width, batches: Vec::new(), values: Vec::new() }
    }

    /// Keeps a batch, on its device: `outputs` and what they are to be, N×K each.
    pub(super) fn add(&mut self, outputs: &Tensor, targets: &Targets, first: usize) -> anyhow::Result<()> {
        let target = &targets.tensors[0];
        anyhow::ensure!(
            outputs.size() == target.size() && target.size().get(1) == Some(&(self.width as i64)),
            "the model gives {:?} numbers, and there are {:?} to compare them with",
            outputs.size(),
            target.size()
        );
        let both = Tensor::f_cat(&[outputs.f_to_kind(Kind::Float)?, target.f_to_kind(Kind::Float)?], 1)?;
        self.batches.push((first, both));
        Ok(())
    }

    /// Puts those of all ranks in the order of the set. Collective.
    pub(super) fn gather(&mut self, channel: &Channel) -> anyhow::Result<()> {
        let row = 2 * self.width;
        let mut end = [0_u64];
        for (first, batch) in &self.batches {
            end[0] = end[0].max(*first as u64 + batch.size()[0] as u64);
        }
        channel.all_reduce(&mut end, Reduction::Max)?;
        let mut values = vec![0.0_f32; end[0] as usize * row];
        for (first, batch) in self.batches.drain(..) {
            let numbers = Vec::<f32>::try_from(batch.f_to_device(Device::Cpu)?.contiguous().view(-1))?;
            values[first * row..first * row + numbers.len()].copy_from_slice(&numbers);
        }
        // Each number is one rank's, and 0 on all others: a sum that rounds nothing.
        for piece in values.chunks_mut(PIECE) {
            channel.all_reduce(piece, Reduction::Sum)?;
        }
        self.values = values;
        Ok(())
    }

    /// The samples.
    pub(super) fn samples(&self) -> usize {
        self.values.len() / (2 * self.width).max(1)
    }

    /// The numbers of one column, sample by sample: what the model gives, and what it should.
    pub(super) fn column(&self, column: usize) -> impl Iterator<Item = (f32, f32)> + Clone {
        self.values.chunks_exact(2 * self.width).map(move |row| (row[column], row[self.width + column]))
    }
}
