//! Gradients that are noticed as they come, while backward computes the next ones.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use tch::Tensor;

use crate::Result;
use crate::ffi::{self, handles};
use crate::process_group::no_object;

/// What is to be called, and how a call has panicked.
struct Called<'a> {
    call: &'a mut (dyn FnMut(usize) + Send),
    panicked: Option<Box<dyn std::any::Any + Send>>,
}

/// Runs `pass`, and in it calls `come` with the place of each of `parameters` as soon as its gradient is there, summed over all its uses: in
/// the thread that computes it, one at a time, while `pass` waits in backward. After a panic of `come` it is not called any more, and the
/// panic goes on when `pass` is over.
///
/// # Errors
/// A parameter that wants no gradient; what libtorch threw.
pub fn watch_gradients<T>(
    parameters: &[Tensor],
    come: &mut (dyn FnMut(usize) + Send),
    pass: impl FnOnce() -> T,
) -> Result<T> {
    let called = Mutex::new(Called { call: come, panicked: None });
    let handles = handles(parameters);
    let mut raw = ptr::null_mut();
    // SAFETY: the handles are of tensors that live during the call; `called` outlives the hooks, which are taken away below.
    unsafe {
        ffi::te_gradient_hooks_new(handles.list(), on_gradient, (&raw const called).cast_mut().cast(), &raw mut raw)
    }
    .check("watching gradients")?;
    if raw.is_null() {
        return Err(no_object("watching gradients"));
    }
    let hooks = Hooks(raw);
    let result = pass();
    drop(hooks);
    match called.into_inner().unwrap_or_else(PoisonError::into_inner).panicked {
        Some(panic) => resume_unwind(panic),
        None => Ok(result),
    }
}

struct Hooks(*mut ffi::GradientHooks);

impl Drop for Hooks {
    fn drop(&mut self) {
        // SAFETY: it came from the shim, and is freed once.
        unsafe { ffi::te_gradient_hooks_free(self.0) }
    }
}

unsafe extern "C" fn on_gradient(context: *mut c_void, place: usize) {
    // SAFETY: `context` is the `called` of `watch_gradients`, which lives until the hooks are taken away, and is `Sync`.
    let called = unsafe { &*context.cast::<Mutex<Called<'_>>>() };
    let mut called = called.lock().unwrap_or_else(PoisonError::into_inner);
    if called.panicked.is_none() {
        let call = AssertUnwindSafe(|| (called.call)(place));
        let outcome = catch_unwind(call);
        called.panicked = outcome.err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn parameters() -> [Tensor; 3] {
        [1.0, 2.0, 3.0].map(|value| Tensor::full([2], value, (Kind::Float, Device::Cpu)).set_requires_grad(true))
    }

    #[test]
    fn gradients_are_there_when_they_are_told_and_each_is_told_once() {
        let all = parameters();
        let [one, two, unused] = &all;
        for _ in 0..2 {
            let mut seen = Vec::new();
            let (own, told) = (all.each_ref().map(Tensor::shallow_clone), &mut seen);
            let mut come = move |place: usize| told.push((place, own[place].grad().double_value(&[0])));
            // `one` is used twice: 2·two + 1 at last.
            let pass = || (one * two * 2.0 + one).sum(Kind::Float).f_backward();
            watch_gradients(&all, &mut come, pass).unwrap().unwrap();
            seen.sort_by_key(|(place, _)| *place);
            assert_eq!(seen, [(0, 5.0), (1, 2.0)]);
            assert!(!unused.grad().defined());
            crate::drop_gradients(&all).unwrap();
        }
        (one * two).sum(Kind::Float).backward(); // nobody is told
    }

    #[test]
    fn panics_and_refusals_come_out() {
        let all = parameters();
        let mut calls = 0;
        let mut come = |_| {
            calls += 1;
            panic!("no way");
        };
        let pass = || watch_gradients(&all, &mut come, || (&all[0] * &all[1]).sum(Kind::Float).backward());
        std::panic::set_hook(Box::new(|_| {}));
        let panicked = catch_unwind(AssertUnwindSafe(pass));
        let _ = std::panic::take_hook();
        assert!(panicked.is_err());
        assert_eq!(calls, 1);
        let refused = watch_gradients(&[all[0].detach()], &mut |_| {}, || ()).unwrap_err();
        assert!(refused.to_string().contains("wants no gradient"), "{refused}");
    }
}
