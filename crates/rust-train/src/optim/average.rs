//! An average of the weights, which is what is evaluated and saved: it generalizes better than the weights of any
//! one step (Polyak and Juditsky, 1992).
//!
//! ```text
//! average ← d·average + (1 − d)·weights after every step,  d = min(decay, (1 + steps) / (10 + steps))
//! ```
//!
//! The decay grows so that the first weights, which are random, are soon forgotten (as TensorFlow's
//! ExponentialMovingAverage does with `num_updates`). BatchNorm's running statistics are averaged with the same decay. The
//! decay follows from the number of the step, so that the averages are all there is to save.
//!
//! Or the mean of the weights at the ends of the last epochs (Izmailov et al., 2018, stochastic weight averaging), BatchNorm's statistics too
//! (PyTorch's `AveragedModel` with `use_buffers`): how many it is of follows from the number of the epoch. Or one that the optimizer
//! keeps by itself, and is asked for when it is wanted.

use std::collections::HashMap;

use tch::{Tensor, no_grad};
use torch_ext::copy_each;
use torch_ext::optim::{Optimizer, lerp_unless};

use crate::config::plan::Average;
use crate::model::Model;

/// The average of a model's weights.
#[derive(Debug)]
pub(crate) struct AveragedWeights {
    /// The names of what the model saves, in its order.
    names: Vec<String>,
    live: Vec<Tensor>,
    /// One for each; counters, which measure nothing, are copies.
    averages: Vec<Tensor>,
    rule: Average,
}

impl AveragedWeights {
    /// An average of the weights of `model` that begins with what they are now.
    pub(crate) fn new(model: &dyn Model, rule: Average) -> Self {
        // Not detached: the data of a parameter may be exchanged, and this must see it.
        let (names, live): (Vec<_>, Vec<_>) = model.state().into_iter().unzip();
        let averages = no_grad(|| live.iter().map(Tensor::copy).collect());
        Self { names, live, averages, rule }
    }

    /// Takes in the weights as they are after step `number` of the run, counted from 0; where `skip` is 1, nothing.
    pub(crate) fn update(&mut self, number: usize, skip: Option<&Tensor>) -> torch_ext::Result<()> {
        let Average::Moving(decay) = self.rule else { return Ok(()) };
        let decay = decay.min((1 + number) as f64 / (10 + number) as f64);
        self.move_by(1.0 - decay, skip)
    }

    /// Takes in the weights as they are at the end of `epoch`, counted from 0.
    pub(crate) fn end_epoch(&mut self, epoch: usize) -> torch_ext::Result<()> {
        match self.rule {
            Average::Moving(_) | Average::OfOptimizer => Ok(()),
            Average::Epochs { first } if epoch <= first => self.restart(),
            Average::Epochs { first } => self.move_by(1.0 / (epoch - first + 1) as f64, None),
        }
    }

    /// Makes the averages those that the `optimizer` keeps, if they are its own: before they are looked at. Collective.
    pub(crate) fn ask(&mut self, optimizer: &Optimizer) -> torch_ext::Result<()> {
        if self.rule != Average::OfOptimizer {
            return Ok(());
        }
        self.restart()?; // what it does not train
        let Some(evaluated) = optimizer.evaluated()? else { return Ok(()) };
        let places: HashMap<_, _> = self.names.iter().zip(&self.averages).collect();
        let own: Option<Vec<_>> =
            evaluated.iter().map(|(name, _)| places.get(name).map(|own| own.shallow_clone())).collect();
        let own = own.expect("what is trained is a part of the state");
        copy_each(&own, &evaluated.into_iter().map(|(_, tensor)| tensor).collect::<Vec<_>>())
    }

    /// Moves the averages by so much of the way to the weights.
    fn move_by(&mut self, share: f64, skip: Option<&Tensor>) -> torch_ext::Result<()> {
        let pairs = self.averages.iter().map(Tensor::shallow_clone).zip(self.live.iter().map(Tensor::shallow_clone));
        let (measured, counted): (Vec<_>, Vec<_>) = pairs.partition(|(_, weight)| weight.is_floating_point());
        let (averages, live): (Vec<_>, Vec<_>) = counted.into_iter().unzip();
        copy_each(&averages, &live)?;
        let (averages, live): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
        lerp_unless(&averages, &live, share, skip)
    }

    /// Exchanges the model's weights and their averages: twice, and everything is where it was.
    pub(crate) fn swap(&mut self) -> torch_ext::Result<()> {
        no_grad(|| {
            for (average, weight) in self.averages.iter_mut().zip(&mut self.live) {
                let kept = weight.copy();
                weight.f_copy_(average)?;
                average.f_copy_(&kept)?;
            }
            Ok(())
        })
    }

    /// Begins again with what the weights are now.
    pub(crate) fn restart(&mut self) -> torch_ext::Result<()> {
        let mut pairs = self.averages.iter_mut().zip(&self.live);
        no_grad(|| pairs.try_for_each(|(average, weight)| Ok(average.f_copy_(weight)?)))
    }

    /// The averages, by the names of what is averaged.
    pub(crate) fn state(&self) -> Vec<(String, Tensor)> {
        self.names.iter().cloned().zip(self.averages.iter().map(Tensor::shallow_clone)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbones::Backbone;
    use tch::Device;

    fn backbone() -> Backbone {
        tch::manual_seed(1);
        Backbone::new(architectures::architecture("cifar_resnet20").unwrap().network(3), Device::Cpu)
    }

    /// Moves every parameter and statistic of `backbone` by `value`.
    fn add(backbone: &Backbone, value: f64) {
        no_grad(|| {
            let all = backbone.trained().into_iter().chain(backbone.buffers());
            for (_, mut tensor) in all.filter(|(_, tensor)| tensor.is_floating_point()) {
                let _ = tensor.g_add_scalar_(value);
            }
        });
    }

    fn get(state: &[(String, Tensor)], name: &str) -> f64 {
        let tensor = &state.iter().find(|(other, _)| other == name).unwrap().1;
        tensor.detach().flatten(0, -1).double_value(&[0])
    }

    #[test]
    fn the_average_is_the_formulas() {
        let live = backbone();
        let mut averaged = AveragedWeights::new(&live, Average::Moving(0.3));
        let names = ["conv1.weight", "linear.bias", "bn1.running_mean", "bn1.running_var"];
        let mut expected = names.map(|name| get(&live.state(), name));
        for step in 0..6 {
            add(&live, 1.0 + step as f64);
            averaged.update(step, None).unwrap();
            let decay = 0.3f64.min((1.0 + step as f64) / (10.0 + step as f64));
            for (expected, name) in expected.iter_mut().zip(names) {
                *expected = decay * *expected + (1.0 - decay) * get(&live.state(), name);
                let got = get(&averaged.state(), name);
                assert!((got - *expected).abs() < 1e-5, "step {step}, {name}: {got}, not {expected}");
            }
            let count = "bn1.num_batches_tracked";
            assert_eq!(get(&averaged.state(), count), get(&live.state(), count));
        }
    }

    #[test]
    fn the_mean_of_the_last_epochs_is_that() {
        let live = backbone();
        let mut averaged = AveragedWeights::new(&live, Average::Epochs { first: 2 });
        let name = "conv1.weight";
        let mut seen = Vec::new();
        for epoch in 0..6 {
            for step in 0..3 {
                add(&live, 1.0 + epoch as f64);
                averaged.update(3 * epoch + step, None).unwrap();
            }
            averaged.end_epoch(epoch).unwrap();
            seen.push(get(&live.state(), name));
            let of = &seen[epoch.min(2)..];
            let expected = of.iter().sum::<f64>() / of.len() as f64;
            assert!((get(&averaged.state(), name) - expected).abs() < 1e-4, "epoch {epoch}");
        }
    }

    #[test]
    fn weights_and_averages_change_places() {
        let live = backbone();
        let mut averaged = AveragedWeights::new(&live, Average::Moving(0.9));
        add(&live, 1.0);
        averaged.update(100, None).unwrap();
        let values =
            |state: Vec<(String, Tensor)>| state.into_iter().map(|(_, tensor)| tensor.copy()).collect::<Vec<_>>();
        let (weights, averages) = (values(live.state()), values(averaged.state()));
        assert!(weights.iter().zip(&averages).any(|(weight, average)| !weight.equal(average)));
        averaged.swap().unwrap();
        assert!(live.state().iter().zip(&averages).all(|((_, weight), average)| weight.equal(average)));
        averaged.swap().unwrap();
        assert!(
            live.state()
                .iter()
                .zip(&weights)
                .all(|((_, now), before)| now.equal(before) && now.requires_grad() == before.requires_grad())
        );
        assert!(averaged.state().iter().zip(&averages).all(|((_, now), before)| now.equal(before)));
        averaged.restart().unwrap();
        assert!(averaged.state().iter().zip(&weights).all(|((_, average), weight)| average.equal(weight)));
    }
}
