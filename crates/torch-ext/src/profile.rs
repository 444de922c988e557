//! What a device spends its time on.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ptr;
use std::time::Duration;

use tch::Device;

use crate::Result;
use crate::ffi::{self, take_text};

/// A kernel of a GPU, or an operation of the CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Its name, as libtorch's profiler has it.
    pub name: String,
    /// How often it ran.
    pub count: u64,
    /// How long, all together.
    pub time: Duration,
}

/// What `device` spends its time on while it does `work`, longest first, and what `work` gives. The work must end with a wait for
/// the device.
///
/// # Errors
/// What libtorch threw: a profiler that is running already.
pub fn profile<T>(device: Device, work: impl FnOnce() -> T) -> Result<(Vec<Spent>, T)> {
    // SAFETY: takes a flag.
    unsafe { ffi::te_profile_begin(device.is_cuda()) }.check("the profiler")?;
    let done = work();
    let mut text = ptr::null_mut();
    // SAFETY: room for the text, which is ours from then on.
    let text = unsafe {
        ffi::te_profile_end(device.is_cuda(), &mut text).check("the profiler")?;
        take_text(text)
    };
    let mut spent: Vec<_> = text.lines().filter_map(spent_of).collect();
    spent.sort_by(|one, other| other.time.cmp(&one.time).then_with(|| one.name.cmp(&other.name)));
    Ok((spent, done))
}

fn spent_of(line: &str) -> Option<Spent> {
    let mut words = line.splitn(3, ' ');
    let (nanoseconds, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Spent { name: words.next()?.to_owned(), count, time: Duration::from_nanos(nanoseconds) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn operations_are_named_and_counted() {
        let work = || {
            let x = Tensor::ones([64, 64], (Kind::Float, Device::Cpu));
            (0..3).fold(x.shallow_clone(), |sum, _| sum.matmul(&x))
        };
        let (spent, _) = profile(Device::Cpu, work).unwrap();
        let matmul = spent.iter().find(|spent| spent.name == "aten::matmul").unwrap();
        assert_eq!(matmul.count, 3);
        assert!(matmul.time > Duration::ZERO && spent.is_sorted_by(|one, other| one.time >= other.time));
    }
}
