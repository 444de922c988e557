//! Bytes of images become what a network takes.

use tch::{Device, Kind, Tensor};
use torch_ext::to_device;

/// Mean and standard deviation of ImageNet's pixels, red, green and blue, in 0–1.
const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

/// Bytes N×side×side×3 to normalized images N×3×side×side on a device.
#[derive(Debug)]
pub(crate) struct Normalize {
    scale: Tensor,
    shift: Tensor,
    device: Device,
}

impl Normalize {
    pub(crate) fn new(device: Device) -> Self {
        let scale: Vec<_> = STD.iter().map(|std| (1.0 / (255.0 * std)) as f32).collect();
        let shift: Vec<_> = MEAN.iter().zip(STD).map(|(mean, std)| (-mean / std) as f32).collect();
        let channels = |values: &[f32]| Tensor::from_slice(values).view([1, 3, 1, 1]).to_device(device);
        Self { scale: channels(&scale), shift: channels(&shift), device }
    }

    pub(crate) fn images(&self, batch: &dataset::Batch) -> torch_ext::Result<Tensor> {
        let side = batch.side as i64;
        let bytes = to_device(&batch.pixels, &[batch.len() as i64, side, side, 3], self.device)?;
        let images = bytes.permute([0, 3, 1, 2]).to_kind(Kind::Float);
        Ok((images * &self.scale + &self.shift).contiguous())
    }
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
    fn bytes_become_normalized_channels() {
        let batch = dataset::Batch { pixels: [0, 127, 255].repeat(4).into(), labels: vec![3], mixed: None, side: 2 };
        let images = Normalize::new(Device::Cpu).images(&batch).unwrap();
        assert_eq!(images.size(), [1, 3, 2, 2]);
        for (channel, value) in [0.0, 127.0, 255.0].into_iter().enumerate() {
            let expected = (value / 255.0 - MEAN[channel]) / STD[channel];
            let got = images.double_value(&[0, channel as i64, 1, 1]);
            assert!((got - expected).abs() < 1e-5, "channel {channel}: {got}");
        }
    }
}
