//! Randomness: everything follows from one seed.

use torch_ext::{on_warning, set_deterministic};
use world::World;

/// Seeds libtorch's generators, and chooses between the fastest algorithms and those that repeat bit for bit: an operation that
/// has none is named then.
///
/// Every rank uses the same seed: the weights are the same from the start, and the data path keys its randomness by
/// sample, so that no rank repeats another's.
pub(crate) fn init(world: &World, seed: u64, deterministic: bool) -> torch_ext::Result<()> {
    tch::manual_seed(seed as i64);
    // All ranks compute the same, and would say the same.
    on_warning(if world.rank() == 0 {
        |text| log::warn!("{}", words(text))
    } else {
        |text| log::debug!("{}", words(text))
    });
    set_deterministic(deterministic)
}

/// What libtorch warns of, in our words where it speaks of a call that nobody has made here.
fn words(warning: &str) -> String {
    match warning.split_once(" does not have a deterministic implementation") {
        Some((operation, _)) => format!(
            "--deterministic: libtorch has no algorithm for {operation} that repeats bit for bit; it is computed all the same, \
             and the last digits may differ from run to run"
        ),
        None => format!("libtorch: {warning}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_without_such_an_algorithm_is_named() {
        let theirs =
            "put_ does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'";
        assert!(
            words(theirs).starts_with("--deterministic: libtorch has no algorithm for put_ that"),
            "{}",
            words(theirs)
        );
        assert_eq!(words("something else"), "libtorch: something else");
    }
}
