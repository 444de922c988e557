//! Optimizers over ATen's fused and multi-tensor kernels: one call for all parameters of a group.

mod algorithm;
mod grad_scaler;
mod gradients;
mod groups;
mod lerp;
mod shards;

use std::collections::HashMap;

use tch::{Kind, Tensor};

use crate::{Error, ProcessGroup, Result};
use algorithm::Lists;
use shards::Shards;

pub use algorithm::Algorithm;
pub use grad_scaler::{GradScaler, GradScalerConfig};
pub use gradients::clip_grad_norm;
pub use groups::ParameterGroup;
pub use lerp::lerp;

/// One parameter and what the optimizer keeps of it.
#[derive(Debug)]
struct Slot {
    name: String,
    parameter: Tensor,
    /// Momentum, or the mean of gradients. Made by the first step.
    first: Option<Tensor>,
    /// The mean of squared gradients.
    second: Option<Tensor>,
    /// Steps taken, as a scalar of single precision: the kernels count on the device.
    steps: Option<Tensor>,
}

/// An optimizer of groups of parameters.
///
/// A parameter without a gradient is left alone, as in PyTorch. The learning rate is given with every step: schedules
/// are the caller's.
///
/// ```
/// # use tch::{Device, Kind, Tensor};
/// # use torch_ext::optim::{Algorithm, Optimizer, ParameterGroup};
/// let weight = Tensor::ones([2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
/// let groups = ParameterGroup::without_decay_on_vectors(vec![("weight".to_owned(), weight.shallow_clone())], 0.01);
/// let mut optimizer = Optimizer::new(groups, Algorithm::ADAMW)?;
/// weight.sum(Kind::Float).backward();
/// optimizer.step(0.1)?;
/// assert!(weight.detach().double_value(&[0, 0]) < 1.0);
/// # Ok::<(), torch_ext::Error>(())
/// ```
#[derive(Debug)]
pub struct Optimizer {
    algorithm: Algorithm,
    /// Weight decay and learning-rate scale of each group, and its parameters.
    groups: Vec<(f64, f64, Vec<Slot>)>,
    shards: Option<Shards>,
}

impl Optimizer {
    /// An optimizer of `groups` by `algorithm`.
    ///
    /// # Errors
    /// Two parameters of the same name.
    pub fn new(groups: Vec<ParameterGroup>, algorithm: Algorithm) -> Result<Self> {
        let mut names = std::collections::HashSet::new();
        for (name, _) in groups.iter().flat_map(|group| &group.parameters) {
            if !names.insert(name.clone()) {
                return Err(Error::State { what: format!("two parameters of the optimizer are called {name}") });
            }
        }
        let slot = |(name, parameter)| Slot { name, parameter, first: None, second: None, steps: None };
        let slots = |group: ParameterGroup| {
            (group.weight_decay, group.lr_scale, group.parameters.into_iter().map(slot).collect())
        };
        Ok(Self { algorithm, groups: groups.into_iter().map(slots).collect(), shards: None })
    }

    /// As [`new`](Self::new), with the state spread over the ranks of `group` (ZeRO stage 1): each rank keeps the state
    /// of its share of the parameters, updates those, and sends them to the others. The numbers are the same. All ranks
    /// must call [`step`](Self::step) together.
    ///
    /// # Errors
    /// Two parameters of the same name.
    pub fn sharded(groups: Vec<ParameterGroup>, algorithm: Algorithm, group: &ProcessGroup) -> Result<Self> {
        let mut optimizer = Self::new(groups, algorithm)?;
        let sizes: Vec<_> = optimizer.slots().map(|slot| slot.parameter.numel()).collect();
        optimizer.shards = Some(Shards::new(&sizes, group));
        Ok(optimizer)
    }

    /// One step against the gradients, with learning rate `lr`.
    ///
    /// # Errors
    /// What libtorch threw, or of a sharded optimizer what the communication reported.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        let mut index = 0;
        for (weight_decay, lr_scale, slots) in &mut self.groups {
            let mut fresh = Lists::default();
            let mut known = Lists::default();
            for slot in slots {
                let mine = self.shards.as_ref().is_none_or(|shards| shards.is_mine(index));
                index += 1;
                let grad = slot.parameter.grad();
                if !mine || !grad.defined() {
                    continue;
                }
                let list = if slot.steps.is_none() { &mut fresh } else { &mut known };
                slot.prepare(&self.algorithm)?;
                list.push(slot, grad);
            }
            for (lists, is_first_step) in [(fresh, true), (known, false)] {
                lists.step(&self.algorithm, lr * *lr_scale, *weight_decay, is_first_step)?;
            }
        }
        match &self.shards {
            Some(shards) => shards.exchange(&self.parameters()),
            None => Ok(()),
        }
    }

    /// Steps from here on with this momentum (of Adam and its kin the first of `betas`): one-cycle schedules change it.
    pub fn set_momentum(&mut self, momentum: f64) {
        self.algorithm = self.algorithm.with_momentum(momentum);
    }

    /// All parameters, in the order of the groups.
    pub fn parameters(&self) -> Vec<Tensor> {
        self.slots().map(|slot| slot.parameter.shallow_clone()).collect()
    }

    /// The state by name, `PARAMETER.exp_avg` say, for a checkpoint: PyTorch's names. Of a sharded optimizer it is
    /// gathered from all ranks, which must call it together; every rank gets all of it.
    ///
    /// # Errors
    /// What the communication reported.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::new();
        for (index, slot) in self.slots().enumerate() {
            let [first, second] = self.algorithm.state_names();
            let own = [(first, &slot.first), (second, &slot.second), ("step", &slot.steps)];
            for (kind, tensor) in own.into_iter().filter(|(kind, _)| !kind.is_empty()) {
                let tensor = match &self.shards {
                    None => tensor.as_ref().map(Tensor::shallow_clone),
                    Some(shards) => shards.gather(index, tensor.as_ref(), || slot.empty(kind))?,
                };
                state.extend(tensor.map(|tensor| (format!("{}.{kind}", slot.name), tensor)));
            }
        }
        Ok(state)
    }

    /// Takes over a state that [`state`](Self::state) gave, at any number of ranks. Parameters that it does not mention
    /// start anew.
    ///
    /// # Errors
    /// A tensor of another shape, or one that belongs to no parameter or another algorithm; nothing has changed then.
    pub fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let [first, second] = self.algorithm.state_names();
        let mut known: HashMap<String, Vec<i64>> = HashMap::new();
        for slot in self.slots() {
            for kind in [first, second, "step"].into_iter().filter(|kind| !kind.is_empty()) {
                known.insert(format!("{}.{kind}", slot.name), slot.empty(kind).size());
            }
        }
        for (name, tensor) in state {
            match known.get(name) {
                None => return Err(Error::State { what: format!("the optimizer has no {name}") }),
                Some(shape) if *shape != tensor.size() => {
                    let what = format!("{name} of the optimizer is {shape:?}, in the state {:?}", tensor.size());
                    return Err(Error::State { what });
                }
                Some(_) => {}
            }
        }
        let given: HashMap<_, _> = state.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let shards = self.shards.as_ref();
        for (index, slot) in self.groups.iter_mut().flat_map(|(_, _, slots)| slots).enumerate() {
            let mine = shards.is_none_or(|shards| shards.is_mine(index));
            let take = |kind: &str| {
                let tensor = given.get(format!("{}.{kind}", slot.name).as_str()).filter(|_| mine)?;
                let mut own = slot.empty(kind);
                own.copy_(tensor);
                Some(own)
            };
            (slot.first, slot.second, slot.steps) = (take(first), take(second), take("step"));
        }
        Ok(())
    }

    /// Bytes of state on this rank.
    pub fn state_bytes(&self) -> usize {
        let bytes = |tensor: &Option<Tensor>| {
            tensor.as_ref().map_or(0, |tensor| tensor.numel() * tensor.kind().elt_size_in_bytes())
        };
        self.slots().map(|slot| bytes(&slot.first) + bytes(&slot.second) + bytes(&slot.steps)).sum()
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.groups.iter().flat_map(|(_, _, slots)| slots)
    }
}

impl Slot {
    /// Makes the state that `algorithm` keeps, if this is the first step.
    fn prepare(&mut self, algorithm: &Algorithm) -> Result<()> {
        if self.steps.is_some() {
            return Ok(());
        }
        let [first, second] = algorithm.state_names().map(|kind| (!kind.is_empty()).then(|| self.empty(kind)));
        (self.first, self.second, self.steps) = (first, second, Some(self.empty("step")));
        Ok(())
    }

    /// Zeros of the shape that a kind of state has.
    fn empty(&self, kind: &str) -> Tensor {
        match kind {
            "step" => Tensor::zeros([], (Kind::Float, self.parameter.device())),
            _ => self.parameter.detach().zeros_like(),
        }
    }
}

#[cfg(test)]
mod tests;
