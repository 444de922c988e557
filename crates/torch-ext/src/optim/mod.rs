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
use algorithm::{FAMILIES, Lists, shape_of};
use shards::Shards;

pub use algorithm::Algorithm;
pub use grad_scaler::{GradScaler, GradScalerConfig};
pub use gradients::clip_grad_norm;
pub use groups::ParameterGroup;
pub use lerp::{lerp, lerp_unless};

/// How far a step goes.
#[derive(Clone, Copy, Debug)]
pub enum LearningRate<'a> {
    /// So far.
    Number(f64),
    /// As far as a number of single precision beside the parameters says when the device makes the step: a step that is
    /// recorded once goes as far as it is told each time.
    OnDevice(&'a Tensor),
}

impl From<f64> for LearningRate<'_> {
    fn from(lr: f64) -> Self {
        Self::Number(lr)
    }
}

/// The name of what counts a parameter's steps in a state, whatever the algorithm.
const STEP: &str = "step";

/// One parameter and what the optimizer keeps of it.
#[derive(Debug)]
struct Slot {
    name: String,
    parameter: Tensor,
    /// What the rule keeps, momentum or means of gradients and of their squares. Made by the first step.
    moments: Vec<Tensor>,
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
    groups: Vec<Group>,
    /// What weight decays are multiplied by.
    decay_share: f64,
    shards: Option<Shards>,
}

/// Parameters that are treated alike.
#[derive(Debug)]
struct Group {
    /// Another rule than the optimizer's.
    algorithm: Option<Algorithm>,
    weight_decay: f64,
    lr_scale: f64,
    slots: Vec<Slot>,
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
        let slot = |(name, parameter)| Slot { name, parameter, moments: Vec::new(), steps: None };
        let group = |group: ParameterGroup| {
            let ParameterGroup { parameters, weight_decay, lr_scale, algorithm } = group;
            Group { algorithm, weight_decay, lr_scale, slots: parameters.into_iter().map(slot).collect() }
        };
        Ok(Self { algorithm, groups: groups.into_iter().map(group).collect(), decay_share: 1.0, shards: None })
    }

    /// As [`new`](Self::new), with the state spread over the ranks of `group` (ZeRO stage 1): each rank keeps the state
    /// of its share of the parameters, updates those, and sends them to the others. The numbers are the same. All ranks
    /// must call [`step`](Self::step) together.
    ///
    /// # Errors
    /// Two parameters of the same name.
    pub fn sharded(groups: Vec<ParameterGroup>, algorithm: Algorithm, group: &ProcessGroup) -> Result<Self> {
        let mut optimizer = Self::new(groups, algorithm)?;
        let sizes: Vec<_> = optimizer.slots().map(|(slot, _)| slot.parameter.numel()).collect();
        optimizer.shards = Some(Shards::new(&sizes, group));
        Ok(optimizer)
    }

    /// One step against the gradients, with learning rate `lr`.
    ///
    /// # Errors
    /// What libtorch threw, or of a sharded optimizer what the communication reported.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        self.step_unless(lr, None)
    }

    /// As [`step`](Self::step), where `skip`, a number of single precision beside the parameters, is 0; where it is 1 nothing
    /// changes. Nobody waits for the device to know which. Of a sharded optimizer it must be the same on all ranks.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_unless<'a>(&mut self, lr: impl Into<LearningRate<'a>>, skip: Option<&Tensor>) -> Result<()> {
        let lr = lr.into();
        let mut index = 0;
        for Group { algorithm, weight_decay, lr_scale, slots } in &mut self.groups {
            // By whether it is their first step, and where the rule depends on that, by whether they have several axes.
            let mut lists: [[Lists; 2]; 2] = Default::default();
            let algorithm = algorithm.unwrap_or(self.algorithm);
            let depends_on_axes = algorithm.depends_on_axes();
            for slot in slots {
                let mine = self.shards.as_ref().is_none_or(|shards| shards.is_mine(index));
                index += 1;
                let grad = slot.parameter.grad();
                if !mine || !grad.defined() {
                    continue;
                }
                let is_first_step = slot.steps.is_none();
                slot.prepare(algorithm)?;
                let is_apart = depends_on_axes && slot.parameter.dim() > 1;
                lists[usize::from(is_first_step)][usize::from(is_apart)].push(slot, grad);
            }
            let scaled;
            let lr = match lr {
                LearningRate::Number(lr) => LearningRate::Number(lr * *lr_scale),
                LearningRate::OnDevice(lr) => {
                    scaled = if *lr_scale == 1.0 { lr.shallow_clone() } else { lr * *lr_scale };
                    LearningRate::OnDevice(&scaled)
                }
            };
            for (is_first_step, lists) in [true, false].into_iter().zip(lists.iter().rev()) {
                for (lists, axes) in lists.iter().zip([1, 2]) {
                    lists.step(
                        algorithm.of_axes(axes),
                        axes,
                        lr,
                        *weight_decay * self.decay_share,
                        is_first_step,
                        skip,
                    )?;
                }
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

    /// Steps from here on with this share of each group's weight decay, which may be more than 1.
    pub fn set_decay_share(&mut self, share: f64) {
        self.decay_share = share;
    }

    /// All parameters, in the order of the groups.
    pub fn parameters(&self) -> Vec<Tensor> {
        self.slots().map(|(slot, _)| slot.parameter.shallow_clone()).collect()
    }

    /// The weights that are to be evaluated, of each parameter and in their order, where these are others than those that are trained. Of a
    /// sharded optimizer all ranks must call it together.
    ///
    /// # Errors
    /// What libtorch threw, or the communication reported.
    pub fn evaluated(&self) -> Result<Option<Vec<(String, Tensor)>>> {
        let Algorithm::ScheduleFree { betas: (beta, _), .. } = self.algorithm else { return Ok(None) };
        let evaluated = self.slots().map(|(slot, _)| {
            let trained = slot.parameter.f_detach()?;
            let mean = match slot.moments.first() {
                Some(end) => trained.f_lerp(end, 1.0 - 1.0 / beta)?,
                None => trained.copy(), // another rank's, or no step was made
            };
            Ok((slot.name.clone(), mean))
        });
        let evaluated: Vec<_> = evaluated.collect::<Result<_>>()?;
        if let Some(shards) = &self.shards {
            shards.exchange(&evaluated.iter().map(|(_, tensor)| tensor.shallow_clone()).collect::<Vec<_>>())?;
        }
        Ok(Some(evaluated))
    }

    /// The state by name, `PARAMETER.exp_avg` say, for a checkpoint: PyTorch's names. Of a sharded optimizer it is
    /// gathered from all ranks, which must call it together; every rank gets all of it.
    ///
    /// # Errors
    /// What the communication reported.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::new();
        for (index, (slot, algorithm)) in self.slots().enumerate() {
            let kinds = algorithm.moments(slot.parameter.dim());
            let moments = kinds.iter().enumerate().map(|(place, kind)| (*kind, slot.moments.get(place)));
            for (kind, tensor) in moments.chain([(STEP, slot.steps.as_ref())]) {
                let tensor = match &self.shards {
                    None => tensor.map(Tensor::shallow_clone),
                    Some(shards) => shards.gather(index, tensor, || slot.empty(kind))?,
                };
                state.extend(tensor.map(|tensor| (format!("{}.{kind}", slot.name), tensor)));
            }
        }
        Ok(state)
    }

    /// Takes over a state that [`state`](Self::state) gave, at any number of ranks. Parameters that it does not mention
    /// start anew: with an empty state, all.
    ///
    /// # Errors
    /// [`Error::OtherOptimizer`] for the whole state of one that keeps something else. [`Error::State`] for what belongs to
    /// no parameter, occurs twice, has another shape or type, counts no steps, and for a parameter of which only a part is
    /// there. Nothing has changed then.
    pub fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let given = self.by_parameter(state)?;
        self.refuse_other_optimizers(&given)?;
        let shards = self.shards.as_ref();
        let mut loaded = Vec::new();
        for (index, (slot, algorithm)) in self.slots().enumerate() {
            let mine = shards.is_none_or(|shards| shards.is_mine(index));
            // What another rank keeps is looked at all the same: every rank gives the same verdict.
            let take = |kind: &str| match given[index].get(kind) {
                Some(tensor) => slot.take(kind, tensor).map(|own| mine.then_some(own)),
                None => Ok(None),
            };
            let kinds = algorithm.moments(slot.parameter.dim());
            let moments = kinds.iter().map(|kind| take(kind)).collect::<Result<Vec<_>>>()?;
            loaded.push((moments.into_iter().flatten().collect(), take(STEP)?));
        }
        for (slot, state) in self.groups.iter_mut().flat_map(|group| &mut group.slots).zip(loaded) {
            (slot.moments, slot.steps) = state;
        }
        Ok(())
    }

    /// What `state` has for each parameter, in their order, by kind.
    fn by_parameter<'a>(&self, state: &'a [(String, Tensor)]) -> Result<Vec<HashMap<&'a str, &'a Tensor>>> {
        let places: HashMap<_, _> =
            self.slots().enumerate().map(|(index, (slot, _))| (slot.name.as_str(), index)).collect();
        let mut given = vec![HashMap::new(); places.len()];
        for (name, tensor) in state {
            let place = name.rsplit_once('.').and_then(|(parameter, kind)| Some((*places.get(parameter)?, kind)));
            let is_kind =
                |kind| kind == STEP || FAMILIES.iter().any(|(sets, _)| sets.iter().any(|set| set.contains(&kind)));
            let Some((place, kind)) = place.filter(|(_, kind)| is_kind(kind)) else {
                return Err(Error::State { what: format!("the optimizer has no {name}") });
            };
            if given[place].insert(kind, tensor).is_some() {
                return Err(Error::State { what: format!("{name} is in the optimizer's state twice") });
            }
        }
        Ok(given)
    }

    /// Each parameter's state must be that of this algorithm, whole, or none.
    fn refuse_other_optimizers(&self, given: &[HashMap<&str, &Tensor>]) -> Result<()> {
        let own = self.algorithm.name();
        let is_of = |moments: &[&str], given: &HashMap<&str, &Tensor>| {
            let kinds = moments.iter().chain([&STEP]);
            given.is_empty()
                || given.len() == moments.len() + 1 && kinds.into_iter().all(|kind| given.contains_key(kind))
        };
        let kinds: Vec<_> = self.slots().map(|(slot, algorithm)| algorithm.moments(slot.parameter.dim())).collect();
        let Some(index) = given.iter().zip(&kinds).position(|(given, own)| !is_of(own, given)) else { return Ok(()) };
        let is_of_family =
            |(sets, _): &&(&[&[&str]], _)| given.iter().all(|given| sets.iter().any(|set| is_of(set, given)));
        if let Some((_, saved)) = FAMILIES.iter().find(is_of_family) {
            return Err(Error::OtherOptimizer { saved, own });
        }
        let moments = kinds[index];
        let slot = self.slots().nth(index).map_or("", |(slot, _)| &slot.name);
        let missing = moments.iter().chain([&STEP]).find(|kind| !given[index].contains_key(**kind));
        let what = match missing {
            Some(kind) => format!("the optimizer's state of {slot} is not whole: there is no {slot}.{kind}"),
            None => {
                let mut extra: Vec<_> =
                    given[index].keys().filter(|&&kind| kind != STEP && !moments.contains(&kind)).collect();
                extra.sort_unstable();
                format!("{own} keeps no {slot}.{}, which is in its state", extra.first().map_or("", |kind| kind))
            }
        };
        Err(Error::State { what })
    }

    /// Bytes of state on this rank.
    pub fn state_bytes(&self) -> usize {
        let kept = self.slots().flat_map(|(slot, _)| slot.moments.iter().chain(&slot.steps));
        kept.map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum()
    }

    /// What is kept of each parameter, and by which rule.
    fn slots(&self) -> impl Iterator<Item = (&Slot, Algorithm)> {
        let of_group = |group: &'_ Group| group.algorithm.unwrap_or(self.algorithm);
        self.groups.iter().flat_map(move |group| group.slots.iter().map(move |slot| (slot, of_group(group))))
    }
}

impl Slot {
    /// Makes the state that `algorithm` keeps, if this is the first step.
    fn prepare(&mut self, algorithm: Algorithm) -> Result<()> {
        if self.steps.is_some() {
            return Ok(());
        }
        let kinds = algorithm.moments(self.parameter.dim());
        self.moments = kinds.iter().map(|kind| self.empty(kind)).collect::<Result<_>>()?;
        self.steps = Some(self.empty(STEP)?);
        Ok(())
    }

    /// What a kind of state is before the first step.
    fn empty(&self, kind: &str) -> Result<Tensor> {
        let (of_number, device) = (Kind::Float, self.parameter.device());
        Ok(match kind {
            STEP => Tensor::f_zeros([], (of_number, device))?,
            "mu_product" => Tensor::f_ones([], (of_number, device))?,
            "step_weights" => Tensor::f_zeros([2], (Kind::Double, device))?,
            "z" => self.parameter.f_detach()?.copy(),
            "row_var" | "col_var" => {
                Tensor::f_zeros(shape_of(kind, &self.parameter.size()), (self.parameter.kind(), device))?
            }
            _ => self.parameter.f_detach()?.f_zeros_like()?,
        })
    }

    /// `tensor` of a state as this parameter's own.
    fn take(&self, kind: &str, tensor: &Tensor) -> Result<Tensor> {
        let refuse = |what: String| Err(Error::State { what });
        let name = format!("{}.{kind}", self.name);
        if !tensor.defined() {
            return refuse(format!("{name} is undefined in the state"));
        }
        let mut own = self.empty(kind)?;
        if own.size() != tensor.size() {
            return refuse(format!("{name} of the optimizer is {:?}, in the state {:?}", own.size(), tensor.size()));
        }
        if own.kind() != tensor.kind() {
            return refuse(format!("{name} of the optimizer is {:?}, in the state {:?}", own.kind(), tensor.kind()));
        }
        own.f_copy_(&tensor.f_detach()?)?;
        if kind == STEP {
            let steps = tensor.f_double_value(&[])?;
            if !(steps >= 0.0 && steps.is_finite() && steps.fract() == 0.0) {
                return refuse(format!("{name} is {steps} in the state, which is not a number of steps"));
            }
        }
        Ok(own)
    }
}

#[cfg(test)]
mod tests;
