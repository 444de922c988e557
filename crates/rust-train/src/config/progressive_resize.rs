//! Progressive resizing: the first epochs see smaller images, which cost less. The size follows from the epoch alone, so
//! that a run that goes on in its middle needs to know nothing else.

use architectures::Architecture;
use flags::AugmentationArgs;

use crate::errors::usage;

/// How the side of the images grows, epoch by epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProgressiveResize {
    /// Side in the first epoch, in pixels.
    pub first: usize,
    /// Side of the images after it, in pixels.
    pub last: usize,
    /// Epochs before images have their full size.
    pub epochs: usize,
}

impl ProgressiveResize {
    /// Validates the flags for images of `image_size`, a run of `epochs`, and a network of the catalogue; `None` where
    /// images do not grow.
    pub(crate) fn new(
        args: &AugmentationArgs,
        epochs: usize,
        image_size: usize,
        architecture: Option<&Architecture>,
    ) -> anyhow::Result<Option<Self>> {
        let first = match (args.progressive_resize.unwrap_or(0), args.progressive_epochs.unwrap_or(0)) {
            (0, 0) => return Ok(None),
            (0, epochs) => {
                return Err(usage(format!(
                    "--progressive-epochs {epochs}: nothing grows without --progressive-resize"
                )));
            }
            (first, _) => first,
        };
        if first >= image_size {
            let refused = format!("must be smaller than the images' {image_size} pixels");
            return Err(usage(format!("--progressive-resize {first}: {refused}")));
        }
        let growing = args.progressive_epochs.unwrap_or_else(|| (epochs * 4).div_ceil(5));
        if !(1..=epochs).contains(&growing) {
            return Err(usage(format!("--progressive-epochs {growing}: must be between 1 and {epochs}")));
        }
        let progressive_resize = Self { first, last: image_size, epochs: growing };
        if let Some(network) = architecture.map(|known| known.network(1).with_image_side(image_size)) {
            for side in progressive_resize.sides() {
                network.shapes(side, side).map_err(|error| usage(format!("--progressive-resize {first}: {error}")))?;
            }
        }
        Ok(Some(progressive_resize))
    }

    /// The side of the images of `epoch`, counted from 0: a line from the first to the full size, in stairs of 32 pixels
    /// (4 for images of up to 64).
    pub(crate) fn side(&self, epoch: usize) -> usize {
        if epoch >= self.epochs {
            return self.last;
        }
        let stair = if self.last <= 64 { 4 } else { 32 };
        let grown = (self.last - self.first) * epoch / self.epochs;
        self.first + grown / stair * stair
    }

    /// All sides, each once.
    fn sides(&self) -> Vec<usize> {
        let mut sides: Vec<_> = (0..=self.epochs).map(|epoch| self.side(epoch)).collect();
        sides.dedup();
        sides
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn images_grow_in_stairs() {
        let progressive_resize = ProgressiveResize { first: 128, last: 224, epochs: 6 };
        assert_eq!(
            (0..8).map(|epoch| progressive_resize.side(epoch)).collect::<Vec<_>>(),
            [128, 128, 160, 160, 192, 192, 224, 224]
        );
        assert_eq!(progressive_resize.sides(), [128, 160, 192, 224]);
        assert_eq!(ProgressiveResize { first: 16, last: 32, epochs: 4 }.sides(), [16, 20, 24, 28, 32]);
    }

    proptest! {
        #[test]
        fn images_never_shrink(first in 1usize..300, more in 1usize..300, epochs in 1usize..100) {
            let progressive_resize = ProgressiveResize { first, last: first + more, epochs };
            let sides: Vec<_> = (0..epochs + 2).map(|epoch| progressive_resize.side(epoch)).collect();
            prop_assert!(sides.is_sorted());
            prop_assert_eq!((sides[0], sides[epochs]), (first, first + more));
        }
    }
}
