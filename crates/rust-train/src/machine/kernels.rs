//! Whether this rank computes with kernels of our own.

use flags::Fused;
use tch::Device;
use torch_ext::{Precision, kernels};
use world::{Failure, World};

/// Uses our own kernels where the run wants them and every rank has found them right; else nobody does, and one line says why.
/// Collective.
pub(crate) fn choose(world: &World, device: Device, fused: Fused, precision: Precision) -> anyhow::Result<()> {
    let tried = match fused {
        Fused::Off => {
            kernels::set_used(device, false);
            return Ok(());
        }
        Fused::Auto => kernels::check(device, precision).map_err(|error| Failure::new(error.to_string())),
    };
    match world.agree_after("trying out kernels", tried) {
        Ok(()) => kernels::set_used(device, true),
        Err(world::Error::Agreed(verdict)) => {
            kernels::set_used(device, false);
            if world.rank() == 0 {
                log::warn!(
                    "norms, sums and activations are computed one by one, not in one (--fused off says nothing of it): \
                     {verdict}"
                );
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
