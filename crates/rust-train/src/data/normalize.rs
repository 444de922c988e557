//! Bytes of images become what a network takes.

use std::cell::RefCell;

use dataset::Normalization;
use tch::{Device, Kind, Tensor};
use torch_ext::to_device;

/// Bytes N×side×side×3 to normalized images N×3×side×side on a device: on the host by `dataset`, in one pass on all its
/// cores; elsewhere by the device, to which a quarter of the bytes travel then. Both give the same bits.
#[derive(Debug)]
pub(crate) struct Normalize {
    device: Device,
    /// Scale and shift on the device, of the normalization of the last batch.
    last: RefCell<Option<(Normalization, Tensor, Tensor)>>,
}

impl Normalize {
    pub(crate) fn new(device: Device) -> Self {
        Self { device, last: RefCell::new(None) }
    }

    /// What bytes are multiplied with on the device, and what is added then, 1×3×1×1.
    fn scale_and_shift(&self, normalization: Normalization) -> (Tensor, Tensor) {
        let mut last = self.last.borrow_mut();
        let (_, scale, shift) = match last.take() {
            Some(known) if known.0 == normalization => last.insert(known),
            _ => {
                let (scale, shift) = normalization.scale_and_shift();
                let channels = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]).to_device(self.device);
                last.insert((normalization, channels(scale), channels(shift)))
            }
        };
        (scale.shallow_clone(), shift.shallow_clone())
    }

    pub(crate) fn images(&self, batch: &dataset::Batch) -> torch_ext::Result<Tensor> {
        if self.device == Device::Cpu { on_host(batch) } else { self.on_device(batch) }
    }

    fn on_device(&self, batch: &dataset::Batch) -> torch_ext::Result<Tensor> {
        let side = batch.side as i64;
        let bytes = to_device(&batch.pixels, &[batch.len() as i64, side, side, 3], self.device)?;
        let images = bytes.permute([0, 3, 1, 2]).to_kind(Kind::Float);
        let (scale, shift) = self.scale_and_shift(batch.normalization);
        Ok((images * scale + shift).contiguous())
    }
}

fn on_host(batch: &dataset::Batch) -> torch_ext::Result<Tensor> {
    let mut values = vec![0.0; batch.pixels.len()];
    batch.normalization.apply(&batch.pixels, batch.side, &mut values);
    let side = batch.side as i64;
    Ok(Tensor::f_from_slice(&values)?.f_view([batch.len() as i64, 3, side, side])?)
}

/// The images of `batch`, N×3×side×side, as a model sees them: for a task that shows them to a network of its own.
///
/// # Errors
/// A device without memory for them.
pub fn normalized(batch: &dataset::Batch, device: Device) -> torch_ext::Result<Tensor> {
    Normalize::new(device).images(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_device_give_the_same_bits() {
        let pixels: Vec<u8> = (0..2 * 16 * 16 * 3).map(|index: u32| (index * 7 % 256) as u8).collect();
        let normalization = Normalization { mean: [0.5, 0.4, 0.3], std: [0.1, 0.2, 0.3] };
        let batch = dataset::Batch { pixels: pixels.into(), labels: vec![3, 4], mixed: None, side: 16, normalization };
        let normalize = Normalize::new(Device::Cpu);
        let [host, device] = [normalize.images(&batch).unwrap(), normalize.on_device(&batch).unwrap()];
        assert_eq!(host.size(), [2, 3, 16, 16]);
        assert!(host == device && host.is_contiguous() && device.is_contiguous());
        let first = host.double_value(&[0, 0, 0, 0]);
        assert!((first - (0.0 - 0.5) / 0.1).abs() < 1e-6, "{first}");
    }
}
