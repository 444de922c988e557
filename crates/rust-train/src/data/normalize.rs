//! Images in host memory become what a network takes.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

use dataset::{Batch, PixelFormat};
use tch::{Device, Kind, Tensor};
use torch_ext::{Copies, MemoryFormat, NormalizeImages, to_device};

/// Bytes N×side×side×3 to normalized images N×3×side×side on a device, or planes of numbers as they are. Bytes on the host by `dataset`, in one pass on all its
/// cores; elsewhere by the device, to which a quarter of the bytes travel then. Both give the same bits.
#[derive(Debug)]
pub(crate) struct Normalize {
    device: Device,
    format: MemoryFormat,
    copies: RefCell<Copies<Pixels>>,
}

/// Those of a batch, which others look at, too.
#[derive(Debug)]
struct Pixels(Rc<Batch>);

impl Deref for Pixels {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.pixels
    }
}

impl Normalize {
    /// Images on `device`, in `format` where that costs nothing.
    pub(crate) fn new(device: Device, format: MemoryFormat) -> Self {
        Self { device, format, copies: RefCell::default() }
    }

    /// The images of `batch`, which travel to a device while it computes something else: its memory is kept until then.
    pub(crate) fn images(&self, batch: &Rc<Batch>) -> torch_ext::Result<Tensor> {
        match self.device {
            Device::Cpu => on_host(batch),
            device => {
                let bytes = self.copies.borrow_mut().start(Pixels(Rc::clone(batch)), &shape(batch), device)?;
                on_device(&bytes, batch, self.format)
            }
        }
    }
}

fn on_device(bytes: &Tensor, batch: &Batch, format: MemoryFormat) -> torch_ext::Result<Tensor> {
    if let PixelFormat::Planes { .. } = batch.format {
        return Ok(bytes.f_view_dtype(Kind::Float)?); // normalized when they were read
    }
    let (scale, shift) = batch.normalization.scale_and_shift();
    NormalizeImages { scale, shift, kind: Kind::Float, format }.forward(bytes)
}

fn shape(batch: &Batch) -> [i64; 4] {
    let lengths = match batch.format {
        PixelFormat::Rgb8 => [batch.len(), batch.side, batch.side, 3],
        // Numbers by their bytes.
        PixelFormat::Planes { channels } => [batch.len(), channels, batch.side, batch.side * size_of::<f32>()],
    };
    lengths.map(|length| length as i64)
}

fn on_host(batch: &Batch) -> torch_ext::Result<Tensor> {
    let side = batch.side as i64;
    if let PixelFormat::Planes { channels } = batch.format {
        return Ok(Tensor::f_from_slice(batch.values())?.f_view([batch.len() as i64, channels as i64, side, side])?);
    }
    let mut values = vec![0.0; batch.pixels.len()];
    batch.normalization.apply(&batch.pixels, batch.side, &mut values);
    Ok(Tensor::f_from_slice(&values)?.f_view([batch.len() as i64, 3, side, side])?)
}

/// The images of `batch`, N×channels×side×side, as a model sees them: for a task that shows them to a network of its own.
///
/// # Errors
/// A device without memory for them.
pub fn normalized(batch: &Batch, device: Device) -> torch_ext::Result<Tensor> {
    match device {
        Device::Cpu => on_host(batch),
        // The caller keeps the batch: it is copied before anything else.
        _ => on_device(&to_device(&batch.pixels, &shape(batch), device)?, batch, MemoryFormat::Contiguous),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataset::Normalization;

    #[test]
    fn host_and_device_give_the_same_bits() {
        let pixels: Vec<u8> = (0..2 * 16 * 16 * 3).map(|index: u32| (index * 7 % 256) as u8).collect();
        let normalization = Normalization { mean: vec![0.5, 0.4, 0.3], std: vec![0.1, 0.2, 0.3] };
        let batch = Batch::of_rgb8(pixels.into(), vec![3, 4], 16, normalization);
        let host = on_host(&batch).unwrap();
        let bytes = to_device(&batch.pixels, &shape(&batch), Device::Cpu).unwrap();
        let device = on_device(&bytes, &batch, MemoryFormat::Contiguous).unwrap();
        assert_eq!(host.size(), [2, 3, 16, 16]);
        assert!(host == device && host.is_contiguous() && device.is_contiguous());
        let first = host.double_value(&[0, 0, 0, 0]);
        assert!((first - (0.0 - 0.5) / 0.1).abs() < 1e-6, "{first}");
    }
}
