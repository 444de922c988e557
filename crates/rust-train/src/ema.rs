//! A moving average of the weights, which is what is evaluated and saved: it generalizes better than the weights of any
//! one step (Polyak and Juditsky, 1992).
//!
//! ```text
//! average ← d·average + (1 − d)·weights after every step,  d = min(decay, (1 + steps) / (10 + steps))
//! ```
//!
//! The decay grows so that the first weights, which are random, are soon forgotten (as TensorFlow's
//! ExponentialMovingAverage does with `num_updates`). BatchNorm's running statistics are averaged with the same decay.

use backbones::Backbone;
use tch::{Kind, Tensor};
use torch_ext::optim::lerp;

/// The average of a model's weights.
#[derive(Debug)]
pub(crate) struct Ema {
    backbone: Backbone,
    /// What is averaged, and its averages.
    live: Vec<Tensor>,
    averages: Vec<Tensor>,
    /// What counts rather than measures, and its copies: BatchNorm's number of batches.
    counters: Vec<(Tensor, Tensor)>,
    decay: f64,
    steps: u64,
}

impl Ema {
    /// An average of the weights of `backbone` that begins with what they are now.
    pub(crate) fn new(backbone: &Backbone, decay: f64) -> Self {
        let average = backbone.duplicate();
        let pairs = backbone.state().into_iter().zip(average.state());
        let (floats, counters): (Vec<_>, Vec<_>) =
            pairs.map(|((_, live), (_, average))| (live.detach(), average)).partition(|(live, _)| is_float(live));
        let (live, averages) = floats.into_iter().unzip();
        Self { backbone: average, live, averages, counters, decay, steps: 0 }
    }

    /// Takes in the weights as they are after a step.
    pub(crate) fn update(&mut self) -> torch_ext::Result<()> {
        let decay = self.decay.min((1 + self.steps) as f64 / (10 + self.steps) as f64);
        self.steps += 1;
        for (live, copy) in &mut self.counters {
            copy.f_copy_(live)?;
        }
        lerp(&self.averages, &self.live, 1.0 - decay)
    }

    /// The model of the averaged weights.
    pub(crate) fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Steps taken, and the averages by the names of what is averaged, for a checkpoint.
    pub(crate) fn state(&self) -> (u64, Vec<(String, Tensor)>) {
        (self.steps, self.backbone.state())
    }

    /// Takes over what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// A tensor of another shape, one too few or too many; nothing has changed then.
    pub(crate) fn load_state(&mut self, (steps, state): (u64, &[(String, Tensor)])) -> torch_ext::Result<()> {
        let own = self.backbone.state();
        let fits = |((name, tensor), (other, given)): (&(String, Tensor), &(String, Tensor))| {
            name == other && tensor.size() == given.size()
        };
        if own.len() != state.len() || !own.iter().zip(state).all(fits) {
            let what = "the averaged weights are those of another network".to_owned();
            return Err(torch_ext::Error::State { what });
        }
        tch::no_grad(|| -> torch_ext::Result<()> {
            for ((_, mut tensor), (_, given)) in own.into_iter().zip(state) {
                tensor.f_copy_(given)?;
            }
            Ok(())
        })?;
        self.steps = steps;
        Ok(())
    }
}

fn is_float(tensor: &Tensor) -> bool {
    matches!(tensor.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn backbone() -> Backbone {
        tch::manual_seed(1);
        Backbone::new(architectures::architecture("cifar_resnet20").unwrap().network(3), Device::Cpu)
    }

    /// Moves every parameter and statistic of `backbone` by `value`.
    fn add(backbone: &Backbone, value: f64) {
        tch::no_grad(|| {
            for (_, mut tensor) in backbone.trained().into_iter().chain(backbone.buffers()) {
                let _ = tensor.g_add_scalar_(value);
            }
        });
    }

    fn get(backbone: &Backbone, name: &str) -> f64 {
        let state = backbone.state();
        let tensor = &state.iter().find(|(other, _)| other == name).unwrap().1;
        tensor.detach().flatten(0, -1).double_value(&[0])
    }

    #[test]
    fn the_average_is_the_formulas() {
        let live = backbone();
        let mut ema = Ema::new(&live, 0.3);
        let names = ["conv1.weight", "linear.bias", "bn1.running_mean", "bn1.running_var"];
        let mut expected = names.map(|name| get(&live, name));
        for step in 0..6 {
            add(&live, 1.0 + step as f64);
            ema.update().unwrap();
            let decay = 0.3f64.min((1.0 + step as f64) / (10.0 + step as f64));
            for (expected, name) in expected.iter_mut().zip(names) {
                *expected = decay * *expected + (1.0 - decay) * get(&live, name);
                let got = get(ema.backbone(), name);
                assert!((got - *expected).abs() < 1e-5, "step {step}, {name}: {got}, not {expected}");
            }
            assert_eq!(get(ema.backbone(), "bn1.num_batches_tracked"), get(&live, "bn1.num_batches_tracked"));
        }
    }

    #[test]
    fn an_average_goes_on_from_its_state() {
        let live = backbone();
        let (mut one, mut other) = (Ema::new(&live, 0.9), Ema::new(&live, 0.9));
        add(&live, 1.0);
        one.update().unwrap();
        let (steps, state) = one.state();
        let state: Vec<_> = state.into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
        other.load_state((steps, &state)).unwrap();
        add(&live, -3.0);
        one.update().unwrap();
        other.update().unwrap();
        let equal = |left: &Backbone, right: &Backbone| {
            left.state().iter().zip(right.state()).all(|(left, right)| left.1.equal(&right.1))
        };
        assert!(equal(one.backbone(), other.backbone()));
        assert!(!equal(one.backbone(), &live));
        assert!(other.load_state((1, &state[1..])).is_err());
    }
}
