//! Values that are forgotten after the forward pass and computed once more on the way back: less memory for more time
//! (Chen et al., 2016; `torch.utils.checkpoint`).
#![expect(unsafe_code, reason = "calls the shim")]

use std::ffi::{CString, c_char, c_void};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use tch::Tensor;

use crate::Result;
use crate::ffi::{self, new_tensor};

/// Which time a value is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// In the forward pass.
    First,
    /// On the way back: what is done once a step must not be done, and what is drawn must be drawn as before.
    Again,
}

/// Computes a tensor of another one; an error is its message.
type Compute = dyn FnMut(&Tensor, Time) -> std::result::Result<Tensor, String> + Send;

/// What `compute` makes of `input`, of which backward keeps `input` alone: it computes the value once more, in the precision of this
/// call, and goes back through that, so that the parameters inside get the gradients that they would have got.
///
/// `compute` must depend on `input` and on tensors that stay as they are until backward. It is called in the thread that computes the
/// gradient. The gradients cannot be differentiated again.
///
/// # Errors
/// What `compute` gave the first time; what it gives the second time is backward's error.
pub fn recomputed(input: &Tensor, compute: Box<Compute>) -> Result<Tensor> {
    let context = Box::into_raw(Box::new(compute)).cast();
    let computation = ffi::Computation { context, compute: on_compute, release };
    // SAFETY: the tensor lives during the call; `context` is a box that the shim releases once.
    new_tensor("computing what is recomputed", |out| unsafe { ffi::te_recomputed(input.as_ptr(), computation, out) })
}

unsafe extern "C" fn on_compute(
    context: *mut c_void,
    input: *const ffi::AtTensor,
    again: bool,
    out: *mut *mut ffi::AtTensor,
) -> *mut c_char {
    let time = if again { Time::Again } else { Time::First };
    let compute = || {
        // SAFETY: `context` is the box of `recomputed`, which nobody else uses: a graph is gone through by one thread at a time.
        // `input` lives during this call.
        let (compute, input) =
            unsafe { (&mut *context.cast::<Box<Compute>>(), Tensor::clone_from_ptr(input.cast_mut())) };
        compute(&input, time)
    };
    let outcome = catch_unwind(AssertUnwindSafe(compute)).unwrap_or_else(|_| Err("a panic".to_owned()));
    let message = match outcome {
        Ok(value) => {
            let value = ManuallyDrop::new(value);
            // SAFETY: `out` lives during this call; whoever gets the handle frees it.
            unsafe { *out = value.as_ptr().cast_mut() };
            return ptr::null_mut();
        }
        Err(message) => CString::new(message.replace('\0', " ")).unwrap_or_default(),
    };
    // SAFETY: a text that ends in a zero, and lives during the call.
    unsafe { ffi::te_message(message.as_ptr()) }
}

unsafe extern "C" fn release(context: *mut c_void) {
    // SAFETY: `context` is the box of `recomputed`, released once.
    drop(unsafe { Box::from_raw(context.cast::<Box<Compute>>()) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Autocast, Precision, rng};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tch::{Device, Kind};

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn numbers(shape: &[i64], scale: f64) -> Tensor {
        let count: i64 = shape.iter().product();
        ((Tensor::arange(count, CPU) * 12.9898).sin() * scale).view(shape)
    }

    /// Two layers with dropout between them, and how often they have been computed.
    struct Layers {
        weights: [Tensor; 2],
        computed: Arc<AtomicUsize>,
    }

    impl Layers {
        fn new() -> Self {
            let weights = [numbers(&[8, 6], 0.3), numbers(&[5, 8], 0.2)].map(|weight| weight.set_requires_grad(true));
            Self { weights, computed: Arc::default() }
        }

        fn compute(&self) -> Box<Compute> {
            let (weights, computed) = (self.weights.each_ref().map(Tensor::shallow_clone), Arc::clone(&self.computed));
            let mut state = None;
            Box::new(move |input, time| {
                computed.fetch_add(1, Ordering::Relaxed);
                let inside = || {
                    let hidden = input.linear(&weights[0], None::<&Tensor>).relu();
                    rng::dropout(&hidden, 0.4).unwrap().linear(&weights[1], None::<&Tensor>)
                };
                Ok(match time {
                    Time::First => {
                        state = Some(rng::in_use(Device::Cpu).unwrap());
                        inside()
                    }
                    Time::Again => rng::replay(Device::Cpu, state.as_ref().unwrap(), inside).unwrap(),
                })
            })
        }

        /// The loss, and the gradients of the input and of the weights.
        fn pass(&self, input: &Tensor, precision: Precision, recompute: bool) -> Vec<Tensor> {
            crate::drop_gradients(&self.weights).unwrap();
            let input = input.detach().set_requires_grad(true);
            // A generator of this thread: tests share libtorch's.
            let loss = rng::with_own_generator(7, || {
                let _autocast = Autocast::enter(Device::Cpu, precision).unwrap();
                let mut compute = self.compute();
                let output = if recompute {
                    recomputed(&input, compute).unwrap()
                } else {
                    compute(&input, Time::First).unwrap()
                };
                output.to_kind(Kind::Float).square().sum(Kind::Float)
            });
            loss.backward();
            let gradients = self.weights.iter().chain([&input]).map(|tensor| tensor.grad().copy());
            gradients.chain([loss.detach()]).collect()
        }
    }

    #[test]
    fn gradients_are_the_same_bits_and_the_value_is_computed_twice() {
        let (layers, input) = (Layers::new(), numbers(&[4, 6], 1.0));
        for precision in [Precision::Single, Precision::BFloat16] {
            layers.computed.store(0, Ordering::Relaxed);
            let expected = layers.pass(&input, precision, false);
            assert_eq!(layers.computed.load(Ordering::Relaxed), 1);
            let got = layers.pass(&input, precision, true);
            assert_eq!(layers.computed.load(Ordering::Relaxed), 3);
            assert!(expected.iter().zip(&got).all(|(expected, got)| expected.equal(got)), "{precision:?}");
            assert!(expected[2].abs().max().double_value(&[]) > 0.0);
        }
    }

    #[test]
    fn an_input_that_wants_no_gradient_gets_none_and_parameters_do() {
        let (layers, input) = (Layers::new(), numbers(&[4, 6], 1.0));
        let output = recomputed(&input, layers.compute()).unwrap();
        assert!(output.requires_grad());
        output.sum(Kind::Float).backward();
        assert!(!input.grad().defined() && layers.weights.iter().all(|weight| weight.grad().defined()));
        let held = Arc::strong_count(&layers.computed);
        drop(output);
        assert_eq!((held, Arc::strong_count(&layers.computed)), (2, 1), "what computes goes with the graph");
    }

    #[test]
    fn errors_and_panics_come_out() {
        let input = numbers(&[2, 2], 1.0).set_requires_grad(true);
        let refuses = |when: Time| -> Box<Compute> {
            Box::new(move |input, time| if time == when { Err("out of paper".to_owned()) } else { Ok(input * 2.0) })
        };
        let error = recomputed(&input, refuses(Time::First)).unwrap_err();
        assert!(error.to_string().contains("out of paper"), "{error}");
        let output = recomputed(&input, refuses(Time::Again)).unwrap();
        let error = output.sum(Kind::Float).f_backward().unwrap_err();
        assert!(error.to_string().contains("out of paper"), "{error}");
        let changed = recomputed(&input.shallow_clone(), Box::new(|input, _| Ok(input.detach().copy()))).unwrap();
        assert!(changed.sum(Kind::Float).f_backward().is_err(), "a value that depends on nothing has no gradient");
    }
}
