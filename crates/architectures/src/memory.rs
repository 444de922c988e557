//! How much memory a network takes, in training and in inference: an estimate, made by walking through the operations
//! forward and backward and counting what is alive.
//!
//! The rules are those of PyTorch's autograd: which operation keeps its input for the backward pass, which its output,
//! which gives a view of memory that is there already or writes over it. Not counted: the program and its libraries, and
//! what the loader of images keeps.

use std::collections::HashSet;
use std::ops::Range;

use crate::in_place::overwritten;
use crate::network::{Network, Node, Parameter};
use crate::op::{Activation, Op, Projections};
use crate::shape::{Shape, ShapeError};

/// What a network is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Images at a time, per device.
    pub batch: usize,
    /// Bytes of one activation: 4 in single precision, 2 in half precision.
    pub activation_bytes: usize,
    /// What training keeps besides; none for inference.
    pub training: Option<TrainingMemory>,
}

/// What training keeps for each trained value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingMemory {
    /// What the optimizer keeps.
    pub optimizer: OptimizerMemory,
    /// Ranks over which the optimizer's state is spread (ZeRO stage 1); 1 where each keeps all of it.
    pub shards: usize,
    /// Whether there is a moving average of the weights.
    pub average: bool,
    /// Whether [`blocks`](Network::blocks) are computed once more on the way back.
    pub recompute: bool,
}

impl TrainingMemory {
    /// An optimizer and nothing else, on every rank.
    pub const fn of(optimizer: OptimizerMemory) -> Self {
        Self { optimizer, shards: 1, average: false, recompute: false }
    }
}

/// Values that an optimizer keeps for each trained value, in single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptimizerMemory {
    /// None: plain SGD.
    Stateless,
    /// One: momentum.
    Momentum,
    /// Two: the moments of Adam and its kin.
    Moments,
    /// Of parameters of several axes one for each row and one for each column of the last two axes, of others one: Adafactor.
    RowsAndColumns,
    /// One of [hidden matrices](Network::hidden_matrices), two of others: Muon.
    MomentumOfMatrices,
}

impl OptimizerMemory {
    /// Values kept for all that is trained of `network`.
    fn values(self, network: &Network) -> usize {
        let matrices = match self {
            Self::MomentumOfMatrices => network.hidden_matrices().into_iter().collect(),
            _ => HashSet::new(),
        };
        let of = |parameter: &Parameter| {
            let count: usize = parameter.shape.iter().product();
            match (self, parameter.shape.as_slice()) {
                (Self::Stateless, _) => 0,
                (Self::Momentum, _) => count,
                (Self::Moments, _) => 2 * count,
                (Self::RowsAndColumns, [.., rows, columns]) => count / columns.max(&1) + count / rows.max(&1),
                (Self::RowsAndColumns, _) => count,
                (Self::MomentumOfMatrices, _) => {
                    if matrices.contains(&parameter.name) {
                        count
                    } else {
                        2 * count
                    }
                }
            }
        };
        network.parameters().iter().filter(|parameter| parameter.role.is_trained()).map(of).sum()
    }
}

/// Bytes of memory on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Parameters and buffers, in single precision.
    pub parameters: usize,
    /// Gradients of the parameters.
    pub gradients: usize,
    /// The optimizer's state, or a rank's part of it.
    pub optimizer: usize,
    /// The moving average of parameters and buffers.
    pub average: usize,
    /// The weights in half precision, which autocast makes in the forward pass and the backward pass needs.
    pub half_copies: usize,
    /// Activations that the backward pass needs, at the end of the forward pass; in inference the most that are alive at
    /// once.
    pub activations: usize,
    /// The most that is alive at once beyond the activations: gradients of activations, and what operations need for a
    /// moment.
    pub transient: usize,
}

impl Memory {
    /// The peak.
    pub fn total(&self) -> usize {
        self.states() + self.activations + self.transient
    }

    /// What does not depend on the batch.
    pub fn states(&self) -> usize {
        self.parameters + self.gradients + self.optimizer + self.average + self.half_copies
    }
}

impl Network {
    /// The memory that `workload` takes with images of `height`×`width` pixels.
    ///
    /// # Errors
    /// An image that the network cannot take.
    pub fn memory(&self, height: usize, width: usize, workload: Workload) -> Result<Memory, ShapeError> {
        let shapes = self.shapes(height, width)?;
        let state = self.parameters();
        let bytes = |trained: bool| -> usize {
            let wanted = state.iter().filter(|parameter| parameter.role.is_trained() == trained);
            wanted
                .map(|parameter| {
                    parameter.shape.iter().product::<usize>() * if parameter.role.is_integer() { 8 } else { 4 }
                })
                .sum()
        };
        let (trained, kept) = (bytes(true), bytes(false));
        let is_half = workload.training.is_some() && workload.activation_bytes < 4;
        // What convolutions and matrix products multiply with.
        let matrices = state.iter().filter(|parameter| parameter.role.is_trained() && parameter.shape.len() > 1);
        let matrices: usize = matrices.map(|parameter| parameter.shape.iter().product::<usize>()).sum();
        let (storage, is_of_the_batch) = (storages(self.nodes()), of_the_batch(self.nodes()));
        let is_recomputed = workload.training.is_some_and(|training| training.recompute);
        let blocks = if is_recomputed { self.blocks() } else { Vec::new() };
        let walk = Walk { nodes: self.nodes(), shapes: &shapes, storage, is_of_the_batch, blocks, workload };
        let (activations, peak) = match workload.training {
            None => (walk.inference(), 0),
            Some(_) => walk.training(),
        };
        Ok(Memory {
            parameters: trained + kept,
            gradients: if workload.training.is_some() { trained } else { 0 },
            optimizer: workload
                .training
                .map_or(0, |training| (training.optimizer.values(self) * 4).div_ceil(training.shards.max(1))),
            average: if workload.training.is_some_and(|training| training.average) { trained + kept } else { 0 },
            half_copies: if is_half { matrices * workload.activation_bytes } else { 0 },
            activations,
            transient: peak.saturating_sub(activations),
        })
    }

    /// Bytes of activations for one image: those that the backward pass needs, and the most alive in inference.
    ///
    /// # Errors
    /// An image that the network cannot take.
    pub fn activation_bytes(&self, height: usize, width: usize, value_bytes: usize) -> Result<[usize; 2], ShapeError> {
        let of = |training| {
            let workload = Workload { batch: 1, activation_bytes: value_bytes, training };
            self.memory(height, width, workload).map(|memory| memory.activations)
        };
        Ok([of(Some(TrainingMemory::of(OptimizerMemory::Stateless)))?, of(None)?])
    }
}

/// For each node, the node whose memory its value lies in: itself, or that of the value that it is a view of or is written
/// over.
fn storages(nodes: &[Node]) -> Vec<usize> {
    let mut storages: Vec<usize> = Vec::with_capacity(nodes.len());
    for ((index, node), overwritten) in nodes.iter().enumerate().zip(overwritten(nodes)) {
        let is_view = matches!(node.op, Op::Flatten | Op::Slice { .. } | Op::Permute { .. } | Op::PixelsToTokens);
        let shared = if is_view { Some(0) } else { overwritten };
        storages.push(shared.map_or(index, |place| storages[node.inputs[place].index()]));
    }
    storages
}

/// For each node, whether its value follows from the images: what follows from parameters alone is there once.
pub(crate) fn of_the_batch(nodes: &[Node]) -> Vec<bool> {
    let mut of_the_batch: Vec<bool> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let follows = node.inputs.iter().any(|input| of_the_batch[input.index()]);
        of_the_batch.push(follows || matches!(node.op, Op::Input { .. }));
    }
    of_the_batch
}

/// What an operation keeps for its backward pass.
struct Kept {
    input: bool,
    output: bool,
    /// Bytes besides, for a batch of one.
    extra: usize,
}

struct Walk<'a> {
    nodes: &'a [Node],
    shapes: &'a [Shape],
    storage: Vec<usize>,
    /// For each node, whether there is a value for each sample.
    is_of_the_batch: Vec<bool>,
    /// What is forgotten after the forward pass, but for what each block gives.
    blocks: Vec<Range<usize>>,
    workload: Workload,
}

impl Walk<'_> {
    /// Bytes of a node's value; learned values are parameters, and counted there.
    fn value(&self, node: usize) -> usize {
        match self.nodes[node].op {
            Op::Learned { .. } => 0,
            _ => self.shapes[node].elements() * self.workload.activation_bytes * self.batch_of(node),
        }
    }

    fn batch_of(&self, node: usize) -> usize {
        if self.is_of_the_batch[node] { self.workload.batch } else { 1 }
    }

    fn kept(&self, node: usize) -> Kept {
        let value = self.workload.activation_bytes;
        let elements = self.shapes[node].elements();
        let keep = |input, output, extra| Kept { input, output, extra };
        match &self.nodes[node].op {
            Op::Conv2d(_) | Op::Linear { .. } | Op::QueriesKeysValues { .. } | Op::AvgPool2d { .. } => {
                keep(true, false, 0)
            }
            Op::PositionBiasFrom { .. } => keep(false, false, elements * value), // the sigmoid's
            &Op::BatchNorm2d { .. } => keep(true, false, 0),                     // and two values a channel
            &Op::LayerNorm { features, .. } => keep(true, false, elements / features * 8),
            Op::ResponseNorm { .. } => keep(true, false, elements * 4), // x·n, in single precision also under autocast
            Op::Activation(Activation::Relu | Activation::Sigmoid | Activation::Tanh) => keep(false, true, 0),
            Op::Activation(_) => keep(true, false, 0),
            Op::MaxPool2d { .. } => keep(true, false, elements * 8), // where each largest value was
            Op::AdaptiveAvgPool2d { output } => keep(*output > 1, false, 0),
            Op::Mul => keep(true, false, 0),
            Op::SwiGlu => keep(true, false, elements * value), // the SiLU
            Op::ResizeLike => keep(false, false, 0),
            Op::Attention { heads } => {
                let tokens = self.shapes[node].sides()[0];
                keep(true, true, tokens * heads * 4)
            }
            Op::MultiQueryAttention { heads } => {
                let sides = self.shapes[node].sides();
                keep(true, false, elements * value + sides[1] * sides[2] * heads * 4) // the output before its axes change places
            }
            // Scaled queries, and dense copies of queries, keys and values; the weights after the softmax.
            &Op::WindowAttention { heads, .. } => {
                let &[windows, tokens, _] = self.shapes[node].sides() else { unreachable!("windows have three sides") };
                let scores = windows * heads * tokens * tokens;
                // Cosines: queries and keys before and after, and their products before they are scaled.
                let is_by_cosine = self.nodes[node].inputs.len() == 4;
                let more = if is_by_cosine { 2 * elements + scores } else { 0 };
                keep(false, false, (4 * elements + scores + more) * value)
            }
            Op::Dropout { .. } => keep(false, false, elements * value), // what was kept, as factors
            _ => keep(false, false, 0),
        }
    }

    /// The last node that takes the value in each memory.
    fn last_uses(&self) -> Vec<usize> {
        let mut last: Vec<usize> = (0..self.nodes.len()).collect();
        for (index, node) in self.nodes.iter().enumerate() {
            for input in &node.inputs {
                last[self.storage[input.index()]] = index;
            }
            last[self.storage[index]] = last[self.storage[index]].max(index);
        }
        last
    }

    /// Bytes that an operation needs while it runs, beyond its inputs and its output.
    fn workspace(&self, node: usize) -> usize {
        let inputs = || self.nodes[node].inputs.iter().map(|input| self.value(input.index())).sum::<usize>();
        match self.nodes[node].op {
            // Copies in the layout of the library that computes convolutions.
            Op::Conv2d(_) => inputs() + self.value(node),
            Op::WindowAttention { .. } => self.kept(node).extra * self.workload.batch / 2,
            Op::ResponseNorm { .. } => 2 * self.value(node), // x·n, and what is added to x
            Op::QueriesKeysValues { stored: Projections::Apart, .. } => self.value(node), // each of the three
            Op::RotaryPositions { .. } => 2 * self.value(node), // products with cosines and sines
            _ => 0,
        }
    }

    /// Bytes of a node's gradients for its own parameters: they are added to those that are there.
    fn fresh_gradients(&self, node: usize) -> usize {
        let trained = self.nodes[node].op.state().into_iter().filter(|(_, _, role)| role.is_trained());
        trained.map(|(_, shape, _)| shape.iter().product::<usize>() * 4).sum()
    }

    /// For each node, the bytes of those memories that die there, of those `that` are meant.
    fn freed(&self, dies_at: &[usize], that: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut freed = vec![0; self.nodes.len()];
        for memory in (0..self.nodes.len()).filter(|&memory| self.storage[memory] == memory && that(memory)) {
            freed[dies_at[memory]] += self.value(memory);
        }
        freed
    }

    /// The most that is alive at once.
    fn inference(&self) -> usize {
        let freed = self.freed(&self.last_uses(), |_| true);
        let mut alive = 0;
        let mut peak = 0;
        for (node, freed) in freed.into_iter().enumerate() {
            if self.storage[node] == node {
                alive += self.value(node);
            }
            peak = peak.max(alive + self.workspace(node));
            alive -= freed;
        }
        peak
    }

    /// What the backward pass finds, and the most that is alive at once.
    fn training(&self) -> (usize, usize) {
        let count = self.nodes.len();
        let mut block_of = vec![None; count];
        for (index, block) in self.blocks.iter().enumerate() {
            block_of[block.clone()].fill(Some(index));
        }
        // Until which node, backward, each memory is needed: the first that keeps it. What a block gives lives twice: from the
        // forward pass until what follows is done with it, and from when the block is computed once more.
        let (mut first_keeper, mut first_keeper_after) = (vec![usize::MAX; count], vec![usize::MAX; count]);
        let mut keep = |memory: usize, keeper: usize| {
            let is_given = block_of[memory].is_some() && block_of[memory] != block_of[keeper];
            let first = if is_given { &mut first_keeper_after[memory] } else { &mut first_keeper[memory] };
            *first = (*first).min(keeper);
        };
        // The loss keeps logits of images as they are; of pixels, whose probabilities are as large, it keeps the logarithms of these.
        let of_loss = match self.shapes[count - 1].sides() {
            [_, _, _] => self.shapes[count - 1].elements() * size_of::<f32>() * self.workload.batch,
            _ => {
                keep(self.storage[count - 1], count - 1);
                0
            }
        };
        let mut extra = vec![0; count];
        for (node, extra) in extra.iter_mut().enumerate() {
            let kept = self.kept(node);
            let inputs = self.nodes[node].inputs.iter().map(|input| input.index());
            for value in inputs.filter(|_| kept.input).chain(kept.output.then_some(node)) {
                keep(self.storage[value], node);
            }
            *extra = kept.extra * self.workload.batch;
        }
        for block in &self.blocks {
            keep(self.storage[block.start - 1], block.start);
        }
        let last_uses = self.last_uses();
        let is_kept = |memory: usize| first_keeper[memory] != usize::MAX;
        let is_kept_after = |memory: usize| first_keeper_after[memory] != usize::MAX;
        let freed_forward = self.freed(&last_uses, |memory| block_of[memory].is_none() && !is_kept(memory));
        let freed_in_block = self.freed(&last_uses, |memory| block_of[memory].is_some() && !is_kept_after(memory));
        let freed_backward = self.freed(&first_keeper, is_kept);
        let freed_after = self.freed(&first_keeper_after, is_kept_after);
        // Of what is computed once more, what is not kept.
        let own_uses = self.last_uses_in(&block_of);
        let freed_again = self.freed(&own_uses, |memory| block_of[memory].is_some() && !is_kept(memory));
        let (mut alive, mut peak) = (0, 0);
        for node in 0..count {
            if self.storage[node] == node {
                alive += self.value(node);
            }
            if block_of[node].is_none() {
                alive += extra[node];
            }
            peak = peak.max(alive + self.workspace(node));
            alive -= freed_forward[node] + freed_in_block[node];
        }
        alive += of_loss;
        let activations = alive;
        let mut gradient = vec![0; count]; // of the value in each memory, while it is alive
        gradient[self.storage[count - 1]] = self.value(count - 1);
        alive += gradient[self.storage[count - 1]];
        peak = peak.max(alive + of_loss); // with the logarithms' gradient
        alive -= of_loss;
        for node in (0..count).rev() {
            if let Some(block) = block_of[node].map(|index| &self.blocks[index]).filter(|block| block.end == node + 1) {
                for again in block.clone() {
                    if self.storage[again] == again {
                        alive += self.value(again);
                    }
                    alive += extra[again];
                    peak = peak.max(alive + self.workspace(again));
                    alive -= freed_again[again];
                }
            }
            let own = self.storage[node];
            for input in &self.nodes[node].inputs {
                let memory = self.storage[input.index()];
                let passes_on = matches!(self.nodes[node].op, Op::Add) || memory == own;
                let is_input = matches!(self.nodes[memory].op, Op::Input { .. });
                if gradient[memory] == 0 && !is_input {
                    gradient[memory] = if passes_on { 0 } else { self.value(memory) };
                    alive += gradient[memory];
                }
            }
            peak = peak.max(alive + self.workspace(node) + self.fresh_gradients(node));
            alive -= extra[node];
            // That of what a block gives is held until all of the block is done.
            let given = block_of[node].map(|index| self.storage[self.blocks[index].end - 1]);
            if own == node && given != Some(node) {
                alive -= gradient[node];
            }
            if let Some(given) = given.filter(|_| block_of[node].is_some_and(|index| self.blocks[index].start == node))
            {
                alive -= gradient[given];
            }
            alive -= freed_backward[node] + freed_after[node];
        }
        (activations, peak)
    }

    /// The last node that takes the value in each memory, of those in the block that the memory is of.
    fn last_uses_in(&self, block_of: &[Option<usize>]) -> Vec<usize> {
        let mut last: Vec<usize> = (0..self.nodes.len()).collect();
        for (index, node) in self.nodes.iter().enumerate() {
            let memories = node.inputs.iter().map(|input| self.storage[input.index()]).chain([self.storage[index]]);
            for memory in memories.filter(|&memory| block_of[memory] == block_of[index]) {
                last[memory] = last[memory].max(index);
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ARCHITECTURES, Builder, Conv2d, Scheme, architecture};

    const TRAINING: Workload =
        Workload { batch: 1, activation_bytes: 4, training: Some(TrainingMemory::of(OptimizerMemory::Moments)) };

    #[test]
    fn a_small_network_can_be_counted_by_hand() {
        let mut net = Builder::new("tiny", Scheme::PYTORCH);
        let x = net.input(3);
        let x = net.conv("conv", x, Conv2d::to(8, 3));
        let x = net.batch_norm("bn", x);
        let x = net.relu(x);
        let x = net.global_avg_pool(x);
        net.linear("fc", x, 10);
        let network = net.finish();
        // The convolution keeps the image, BatchNorm its input, ReLU its output, which lies where BatchNorm's was, the
        // linear layer its row; and the logits are there.
        let memory = network.memory(4, 4, TRAINING).unwrap();
        assert_eq!(memory.activations, 4 * (3 * 16 + 8 * 16 + 8 * 16 + 8 + 10));
        let trained = 4 * (8 * 27 + 16 + 90);
        assert_eq!((memory.gradients, memory.optimizer), (trained, 2 * trained));
        assert_eq!(memory.parameters, trained + 4 * 16 + 8);
    }

    #[test]
    fn what_ranks_share_and_what_comes_on_top() {
        let network = architecture("resnet18").unwrap().network(1000);
        let of = |activation_bytes, shards, average| {
            let training = TrainingMemory { shards, average, ..TrainingMemory::of(OptimizerMemory::Moments) };
            network.memory(224, 224, Workload { batch: 1, activation_bytes, training: Some(training) }).unwrap()
        };
        let (trained, plain) = (11_689_512 * 4, of(4, 1, false));
        assert_eq!((plain.optimizer, plain.average, plain.half_copies), (2 * trained, 0, 0));
        assert_eq!(of(4, 8, false).optimizer, 2 * trained / 8);
        assert_eq!(of(4, 1, true).average, plain.parameters);
        let vectors = 9_600 + 1000; // scales and shifts of BatchNorm, and the head's bias
        assert_eq!(of(2, 1, false).half_copies, 2 * (11_689_512 - vectors));
    }

    #[test]
    fn what_each_optimizer_keeps() {
        let mut net = Builder::new("tiny", Scheme::PYTORCH);
        let x = net.input(3);
        let x = net.conv("conv", x, Conv2d::to(8, 3).bias());
        let x = net.global_avg_pool(x);
        let x = net.linear("hidden", x, 20);
        net.linear("fc", x, 10);
        let network = net.finish();
        let [conv, hidden, fc, vectors] = [8 * 27, 20 * 8, 10 * 20, 8 + 20 + 10];
        let all = conv + hidden + fc + vectors;
        let cases = [
            (OptimizerMemory::Stateless, 0),
            (OptimizerMemory::Momentum, all),
            (OptimizerMemory::Moments, 2 * all),
            (OptimizerMemory::RowsAndColumns, 8 * 3 * (3 + 3) + (20 + 8) + (10 + 20) + vectors),
            (OptimizerMemory::MomentumOfMatrices, conv + hidden + 2 * (fc + vectors)),
        ];
        for (optimizer, values) in cases {
            assert_eq!(optimizer.values(&network), values, "{optimizer:?}");
        }
        assert_eq!(network.hidden_matrices(), ["conv.weight", "hidden.weight"]);
        let depthwise = architecture("mobilenet_v2").unwrap().network(10).hidden_matrices();
        assert!(depthwise.contains(&"features.1.conv.1.weight".to_owned()));
        assert!(!depthwise.iter().any(|name| name == "features.1.conv.0.0.weight" || name.starts_with("classifier")));
    }

    #[test]
    fn memory_grows_with_the_batch_and_shrinks_with_the_type() {
        for known in ARCHITECTURES {
            let network = known.network(10);
            let of = |batch, activation_bytes| {
                let workload = Workload { batch, activation_bytes, ..TRAINING };
                network.memory(known.image_size, known.image_size, workload).unwrap()
            };
            let (one, four, half) = (of(1, 4), of(4, 4), of(1, 2));
            assert!(
                four.activations > 3 * one.activations && four.activations <= 4 * one.activations,
                "{}",
                known.name
            );
            assert!(half.activations < one.activations, "{}", known.name);
            let inference = Workload { training: None, ..TRAINING };
            let inference = network.memory(known.image_size, known.image_size, inference).unwrap();
            assert!(inference.total() < one.total() / 2, "{}", known.name);
        }
    }

    #[test]
    fn blocks_that_are_recomputed_take_half_of_the_activations_and_more() {
        for (name, most) in [("resnet50", 0.5), ("vit_b_16", 0.5), ("convnext_tiny", 0.5), ("densenet121", 0.6)] {
            let known = architecture(name).unwrap();
            let network = known.network(1000);
            let of = |recompute| {
                let training = TrainingMemory { recompute, ..TrainingMemory::of(OptimizerMemory::Momentum) };
                let workload = Workload { batch: 8, activation_bytes: 4, training: Some(training) };
                network.memory(224, 224, workload).unwrap()
            };
            let (plain, recomputed) = (of(false), of(true));
            let share = recomputed.activations as f64 / plain.activations as f64;
            assert!(share < most, "{name}: {share}");
            let share =
                (recomputed.activations + recomputed.transient) as f64 / (plain.activations + plain.transient) as f64;
            assert!(share < most + 0.2, "{name}, at the peak: {share}");
            assert_eq!(plain.states(), recomputed.states());
        }
    }

    #[test]
    fn activations_are_those_that_are_known() {
        // ResNet-50 at 224×224 keeps about 110 MB an image in single precision.
        let [training, inference] =
            architecture("resnet50").unwrap().network(1000).activation_bytes(224, 224, 4).unwrap();
        assert!((80e6..125e6).contains(&(training as f64)), "{training}");
        assert!((6e6..30e6).contains(&(inference as f64)), "{inference}");
    }
}
