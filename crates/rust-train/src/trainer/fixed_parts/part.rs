//! One part of a batch: what is computed of it, as one row of numbers.

use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor, no_grad};
use torch_ext::{drop_gradients, elements, rng, set_elements, set_gradients, watch_gradients};

use super::exchange::LastPart;
use crate::model::numerics::Numerics;
use crate::model::{Model, trained};
use crate::run::bits::BitsLine;

/// What a part is computed from, beside the model.
#[derive(Debug)]
pub(super) struct Part {
    /// Its place among those of this rank.
    pub place: usize,
    pub images: Tensor,
    /// Of what is random in it.
    pub seed: i64,
    /// The share that it has in the whole batch.
    pub share: f64,
    /// What gradients are multiplied by beside: a power of two, where half precision would lose small ones.
    pub scale: f64,
    /// Whether to look at what it counts.
    pub counts: bool,
    /// Steps of the run before this one, and its place among the parts of all ranks, where it is to be recorded.
    pub record: Option<(usize, usize)>,
}

/// What came of a part.
#[derive(Debug)]
pub(super) struct Row {
    pub place: usize,
    /// What is added up over the parts: gradients, whether each parameter has one, statistics, the loss.
    pub numbers: Tensor,
    /// What the model's counters are after the first part: after each of them, as is made sure.
    pub counters: Vec<Tensor>,
    /// The [same](Changed::counted), where they were to be looked at.
    pub counted: Option<Tensor>,
    /// What was computed, where that is recorded.
    pub bits: Option<BitsLine>,
    /// How long the passes took.
    pub forward: Duration,
    pub backward: Duration,
}

/// The tensors of a model that a step changes.
#[derive(Debug)]
pub(super) struct Changed {
    pub parameters: Vec<Tensor>,
    names: Vec<String>,
    /// BatchNorm's running statistics, and what else a model keeps in floating-point numbers.
    pub statistics: Vec<Tensor>,
    names_of_statistics: Vec<String>,
    /// What counts steps: the same after each part.
    pub counters: Vec<Tensor>,
}

impl Changed {
    pub(super) fn of(model: &dyn Model) -> Self {
        let (names, parameters) = trained(model).into_iter().unzip();
        let buffers = model.buffers().into_iter();
        let (statistics, counters): (Vec<_>, Vec<_>) = buffers.partition(|(_, buffer)| buffer.is_floating_point());
        let (names_of_statistics, statistics) = statistics.into_iter().unzip();
        let counters = counters.into_iter().map(|(_, counter)| counter).collect();
        Self { parameters, names, statistics, names_of_statistics, counters }
    }

    /// Of nothing but these parameters.
    #[cfg(test)]
    pub(super) fn of_parameters(parameters: Vec<Tensor>) -> Self {
        let names = (0..parameters.len()).map(|place| place.to_string()).collect();
        let (statistics, counters) = (Vec::new(), Vec::new());
        Self { parameters, names, statistics, names_of_statistics: Vec::new(), counters }
    }

    /// Statistics and counters.
    pub(super) fn buffers(&self) -> Vec<Tensor> {
        self.statistics.iter().chain(&self.counters).map(Tensor::shallow_clone).collect()
    }

    /// The type of the row's numbers: single precision, or double where any of them is.
    pub(super) fn kind(&self) -> Kind {
        let is_double = self.parameters.iter().chain(&self.statistics).any(|tensor| tensor.kind() == Kind::Double);
        if is_double { Kind::Double } else { Kind::Float }
    }

    /// Where the row is.
    pub(super) fn device(&self) -> Device {
        self.parameters.first().map_or(Device::Cpu, Tensor::device)
    }

    /// How long the row of a part is.
    pub(super) fn length(&self) -> usize {
        let numbers = [&self.parameters, &self.statistics].into_iter().flatten().map(Tensor::numel).sum::<usize>();
        numbers + self.parameters.len() + 1
    }

    /// Computes a part of a batch with `model`, whose buffers are as they were before the step. `loss` makes one of its outputs. Where it is
    /// the `last`, that is told of gradients as they come.
    pub(super) fn compute(
        &self,
        model: &dyn Model,
        numerics: Numerics,
        part: &Part,
        loss: impl FnOnce(Vec<Tensor>) -> anyhow::Result<Tensor>,
        last: Option<&mut LastPart<'_, '_>>,
    ) -> anyhow::Result<Row> {
        drop_gradients(&self.parameters)?;
        let begin = Instant::now();
        // Copied, because what libraries compute may depend on where in memory it begins.
        let images = part.images.copy();
        let outputs =
            rng::with_own_generator(part.seed, || numerics.compute(&images, |images| model.forward(images, true)))?;
        let recorded = part.record.map(|_| outputs.iter().map(Tensor::copy).collect::<Vec<_>>());
        let loss = loss(outputs)?;
        let middle = Instant::now();
        let back = || (&loss * (part.share * part.scale)).f_backward();
        match last {
            Some(last) => watch_gradients(&self.parameters, &mut |place| last.came(place), back)??,
            None => back()?,
        }
        let end = Instant::now();
        let counted = if part.counts { Some(self.counted()?) } else { None };
        let counters = if part.place == 0 { self.counters.iter().map(Tensor::copy).collect() } else { Vec::new() };
        let numbers = self.row(&loss, part.share)?;
        let bits = part.record.zip(recorded).map(|(place, outputs)| self.bits(place, &images, &outputs, &loss));
        Ok(Row { place: part.place, numbers, counters, counted, bits, forward: middle - begin, backward: end - middle })
    }

    /// What has just been computed of a part, in the order in which it was.
    fn bits(&self, (step, part): (usize, usize), images: &Tensor, outputs: &[Tensor], loss: &Tensor) -> BitsLine {
        let outputs =
            outputs.iter().enumerate().map(|(index, output)| (format!("output {index}"), output.shallow_clone()));
        let gradients = self.names.iter().zip(&self.parameters).rev(); // backwards, as they are computed
        let gradients = gradients.filter(|(_, parameter)| parameter.grad().defined());
        let gradients = gradients.map(|(name, parameter)| (format!("the gradient of {name}"), parameter.grad()));
        let statistics = self.names_of_statistics.iter().zip(&self.statistics);
        let statistics = statistics.map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        let all = [("the images".to_owned(), images.shallow_clone())].into_iter().chain(outputs);
        let all = all.chain(statistics).chain([("the loss".to_owned(), loss.shallow_clone())]).chain(gradients);
        let all: Vec<_> = all.collect();
        BitsLine::new(step, Some(part), all.iter().map(|(name, tensor)| (name.clone(), tensor)))
    }

    /// The row of a part that has just been computed, of which it has this `share`.
    pub(super) fn row(&self, loss: &Tensor, share: f64) -> torch_ext::Result<Tensor> {
        let gradients: Vec<_> = self.parameters.iter().map(Tensor::grad).collect();
        let or_zeros = |(gradient, parameter): (&Tensor, &Tensor)| match gradient.defined() {
            true => gradient.shallow_clone(),
            false => parameter.zeros_like(),
        };
        let mut leaf: Vec<_> = gradients.iter().zip(&self.parameters).map(or_zeros).collect();
        let has_gradient: Vec<_> =
            gradients.iter().map(|gradient| if gradient.defined() { share as f32 } else { 0.0 }).collect();
        leaf.extend(self.statistics.iter().map(|statistic| no_grad(|| statistic * share)));
        leaf.push(Tensor::from_slice(&has_gradient).to_device(self.device()));
        leaf.push(no_grad(|| loss.reshape([1]) * share));
        elements(&leaf)
    }

    /// The counters in double precision, and their negatives: the largest of each over all parts say whether they are alike.
    pub(super) fn counted(&self) -> torch_ext::Result<Tensor> {
        let none = [Tensor::zeros([0], (Kind::Double, self.device()))];
        let counters = self.counters.iter().map(|counter| counter.to_kind(Kind::Double)).chain(none);
        let counters = elements(&counters.collect::<Vec<_>>())?;
        Ok(Tensor::f_cat(&[&counters, &-&counters], 0)?)
    }

    /// Puts what was summed into its place: gradients and statistics.
    ///
    /// # Errors
    /// A parameter that had no gradient in some part, the same on all ranks.
    pub(super) fn take(&self, sum: &Tensor) -> anyhow::Result<()> {
        let count = self.parameters.len() as i64;
        let numbers = sum.numel() as i64 - 1 - count;
        let shares = sum.narrow(0, numbers, count);
        if count > 0 && shares.min().double_value(&[]) < 1.0 {
            anyhow::bail!(
                "a parameter has no gradient in some part of the batch, which --virtual-ranks has no use for"
            );
        }
        // Optimizers want gradients that lie in memory as the weights do.
        let gradients: Vec<_> = self.parameters.iter().map(|parameter| parameter.detach().zeros_like()).collect();
        let statistics = self.statistics.iter().map(Tensor::shallow_clone);
        let changed: Vec<_> = gradients.iter().map(Tensor::shallow_clone).chain(statistics).collect();
        set_elements(&changed, &sum.narrow(0, 0, numbers))?;
        Ok(set_gradients(&self.parameters, &gradients)?)
    }
}
