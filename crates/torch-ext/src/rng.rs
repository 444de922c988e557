//! libtorch's random generators: their states, for checkpoints; and one of a thread's own, for threads that draw side by side.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::{Device, Tensor};

use crate::Result;
use crate::ffi::{self, device_index, new_tensor};

/// The state of `device`'s generator, as bytes: `torch.get_rng_state`, `torch.cuda.get_rng_state`.
///
/// # Errors
/// What libtorch threw: a device that is not there.
pub fn state(device: Device) -> Result<Tensor> {
    // SAFETY: `out` lives during the call.
    new_tensor("the random generator's state", |out| unsafe { ffi::te_rng_get_state(device_index(device), out) })
}

/// Puts `device`'s generator into a state that [`state`] gave.
///
/// # Errors
/// What libtorch threw: bytes that are no state of this kind of device.
pub fn set_state(device: Device, state: &Tensor) -> Result<()> {
    // SAFETY: the tensor lives during the call.
    unsafe { ffi::te_rng_set_state(device_index(device), state.as_ptr()) }.check("the random generator's state")
}

/// Runs `work`, in which [`dropout`] and [`bernoulli`] of tensors on the CPU draw from a generator of this thread alone, seeded with
/// `seed`, and not from libtorch's, which all threads share: what they draw is what they would draw from that after
/// `tch::manual_seed(seed)`, whatever other threads draw meanwhile.
pub fn with_own_generator<T>(seed: i64, work: impl FnOnce() -> T) -> T {
    // SAFETY: changes a variable of this thread.
    let _before = Before(unsafe { ffi::te_own_generator(seed) });
    work()
}

/// The state of the generator that [`dropout`] and [`bernoulli`] of this thread draw from on `device`: its own, or libtorch's.
///
/// # Errors
/// What libtorch threw: a device that is not there.
pub fn in_use(device: Device) -> Result<Tensor> {
    // SAFETY: `out` lives during the call.
    new_tensor("the random generator's state", |out| unsafe { ffi::te_rng_in_use(device_index(device), out) })
}

/// Runs `work`, in which this thread draws on `device` what it would draw from a generator in this `state`, which [`in_use`] gave.
/// What is drawn afterwards does not depend on it.
///
/// # Errors
/// What libtorch threw: bytes that are no state of this kind of device.
pub fn replay<T>(device: Device, state: &Tensor, work: impl FnOnce() -> T) -> Result<T> {
    if device == Device::Cpu {
        let mut before = std::ptr::null_mut();
        // SAFETY: the tensor lives during the call, which changes a variable of this thread.
        unsafe { ffi::te_own_generator_of(state.as_ptr(), &raw mut before) }.check("the random generator's state")?;
        let _before = Before(before);
        return Ok(work());
    }
    let now = self::state(device)?;
    set_state(device, state)?;
    let done = work();
    set_state(device, &now)?;
    Ok(done)
}

/// What this thread drew from before; it does so again when this is dropped, whatever becomes of the work.
struct Before(*mut ffi::Generator);

impl Drop for Before {
    fn drop(&mut self) {
        // SAFETY: it came from the shim, on this thread, and is given back once.
        unsafe { ffi::te_own_generator_back(self.0) }
    }
}

/// `input` with elements that are 0 with `probability` and else divided by 1 − `probability` (`torch.nn.functional.dropout` in training).
///
/// # Errors
/// A probability outside 0–1.
pub fn dropout(input: &Tensor, probability: f64) -> Result<Tensor> {
    // SAFETY: the tensor and `out` live during the call.
    new_tensor("dropout", |out| unsafe { ffi::te_dropout(input.as_ptr(), probability, out) })
}

/// A tensor of this `shape`, of the type and on the device of `like`, whose elements are 1 with `probability` and else 0.
///
/// # Errors
/// A probability outside 0–1.
pub fn bernoulli(shape: &[i64], like: &Tensor, probability: f64) -> Result<Tensor> {
    let drawn = Tensor::f_empty(shape, (like.kind(), like.device()))?;
    // SAFETY: the tensor lives during the call.
    unsafe { ffi::te_bernoulli(drawn.as_ptr(), probability) }.check("drawing zeros and ones")?;
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn a_restored_generator_repeats_itself() {
        let before = state(Device::Cpu).unwrap();
        let draw = || Tensor::randn([5], (Kind::Float, Device::Cpu));
        let first = draw();
        set_state(Device::Cpu, &before).unwrap();
        // Another test may draw between our two calls: what is restored is compared, not what follows.
        assert!(state(Device::Cpu).unwrap().size() == before.size());
        assert_eq!(first.size(), [5]);
        assert!(set_state(Device::Cpu, &Tensor::zeros([3], (Kind::Uint8, Device::Cpu))).is_err());
        if !tch::Cuda::is_available() {
            assert!(state(Device::Cuda(0)).is_err());
        }
    }

    #[test]
    fn what_was_drawn_is_drawn_again_and_nothing_else_is_changed() {
        let ones = Tensor::ones([20, 20], (Kind::Float, Device::Cpu));
        let draw = || dropout(&ones, 0.5).unwrap();
        with_own_generator(3, || {
            let _ = draw();
            let state = in_use(Device::Cpu).unwrap();
            let first = draw();
            let again = || with_own_generator(9, draw); // its own inside
            assert!(replay(Device::Cpu, &state, || (again(), draw()).1).unwrap() == first);
            let second = draw();
            assert!(second != first);
            assert!(replay(Device::Cpu, &state, || (draw(), draw()).1).unwrap() == second);
        });
        assert!(replay(Device::Cpu, &ones, || ()).is_err());
    }

    #[test]
    fn threads_draw_from_generators_of_their_own() {
        let ones = Tensor::ones([40, 30], (Kind::Float, Device::Cpu));
        let draw = |seed| {
            with_own_generator(seed, || (dropout(&ones, 0.3).unwrap(), bernoulli(&[40, 1], &ones, 0.5).unwrap()))
        };
        let expected = [1, 2].map(draw);
        assert!(expected[0].0 != expected[1].0 && expected[0].1 != expected[1].1);
        // Four threads at once, and a fifth that draws from the generator of all.
        let again: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = [1, 2, 1, 2]
                .into_iter()
                .map(|seed| {
                    scope.spawn(move || {
                        let ones = Tensor::ones([40, 30], (Kind::Float, Device::Cpu));
                        with_own_generator(seed, || {
                            (dropout(&ones, 0.3).unwrap(), bernoulli(&[40, 1], &ones, 0.5).unwrap())
                        })
                    })
                })
                .collect();
            let _ = scope.spawn(|| Tensor::randn([1000], (Kind::Float, Device::Cpu))).join();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (index, drawn) in again.iter().enumerate() {
            assert!(*drawn == expected[index % 2], "thread {index}");
        }
        let kept = expected[0].0.ne(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!((kept - 0.7).abs() < 0.05, "{kept}");
        assert!((expected[0].0.max().double_value(&[]) - 1.0 / 0.7).abs() < 1e-6);
        assert!(with_own_generator(1, || dropout(&ones, 1.0)).unwrap().abs().max().double_value(&[]) == 0.0);
        assert!(with_own_generator(1, || dropout(&ones, 1.5)).is_err() && dropout(&ones, -0.1).is_err());
    }
}
