//! Random choices of operations: RandAugment (Cubuk et al., 2019) and TrivialAugment (Müller and Hutter, 2021), with
//! torchvision's operations and strengths.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::warp::Affine;
use crate::{Change, Geometry, Image, Mask, colour, warp};

/// Strengths that an operation can have, from none to the strongest.
const BINS: u32 = 31;

/// A random choice of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// So many random operations, one after the other, of one strength.
    RandAugment {
        /// How many; torchvision's default is 2.
        operations: u32,
        /// 0–30; torchvision's default is 9.
        magnitude: u32,
    },
    /// One random operation of a random strength, over a wider range.
    TrivialAugmentWide,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

const OPERATIONS: [Operation; 14] = [
    Operation::Identity,
    Operation::ShearX,
    Operation::ShearY,
    Operation::TranslateX,
    Operation::TranslateY,
    Operation::Rotate,
    Operation::Brightness,
    Operation::Color,
    Operation::Contrast,
    Operation::Sharpness,
    Operation::Posterize,
    Operation::Solarize,
    Operation::AutoContrast,
    Operation::Equalize,
];

/// The strongest form of each kind of operation.
struct Range {
    shear: f64,
    /// Pixels.
    translation: f64,
    degrees: f64,
    /// A factor of 1 − this to 1 + this.
    enhancement: f64,
    /// Bits that are lost.
    posterize: f64,
}

impl Policy {
    /// Calls `take` with each operation that is drawn for an image of this side.
    fn each(self, side: usize, random: &mut ChaCha8Rng, mut take: impl FnMut(&Drawn)) {
        match self {
            Self::RandAugment { operations, magnitude } => {
                let translation = 150.0 / 331.0 * side as f64;
                let range = Range { shear: 0.3, translation, degrees: 30.0, enhancement: 0.9, posterize: 4.0 };
                for _ in 0..operations {
                    take(&Drawn::new(&range, magnitude.min(BINS - 1), random));
                }
            }
            Self::TrivialAugmentWide => {
                let range = Range { shear: 0.99, translation: 32.0, degrees: 135.0, enhancement: 0.99, posterize: 6.0 };
                let bin = random.random_range(0..BINS);
                take(&Drawn::new(&range, bin, random));
            }
        }
    }
}

impl Change for Policy {
    fn apply(&self, image: &mut Image<'_>, random: &mut ChaCha8Rng) {
        self.each(image.side, random, |drawn| drawn.apply(image));
    }
}

impl Geometry for Policy {
    fn move_mask(&self, mask: &mut Mask<'_>, random: &mut ChaCha8Rng) {
        self.each(mask.side, random, |drawn| {
            if let Some(affine) = drawn.affine(mask.side) {
                warp::apply_to_mask(affine, mask);
            }
        });
    }
}

/// An operation and how strong it is.
struct Drawn<'a> {
    range: &'a Range,
    operation: Operation,
    /// −1 or 1.
    sign: f64,
    /// 0–1.
    strength: f64,
}

impl<'a> Drawn<'a> {
    fn new(range: &'a Range, bin: u32, random: &mut ChaCha8Rng) -> Self {
        let operation = OPERATIONS[random.random_range(0..OPERATIONS.len() as u32) as usize];
        let sign = if random.random_bool(0.5) { -1.0 } else { 1.0 };
        Self { range, operation, sign, strength: f64::from(bin) / f64::from(BINS - 1) }
    }

    /// Where it moves pixels, if it does.
    fn affine(&self, side: usize) -> Option<Affine> {
        let Self { range, sign, strength, .. } = *self;
        let translation = (sign * strength * range.translation).trunc();
        match self.operation {
            Operation::ShearX => Some(warp::shear_x(sign * strength * range.shear)),
            Operation::ShearY => Some(warp::shear_y(sign * strength * range.shear)),
            Operation::TranslateX => Some(warp::translation(translation, 0.0)),
            Operation::TranslateY => Some(warp::translation(0.0, translation)),
            Operation::Rotate => Some(warp::rotation(sign * strength * range.degrees, side)),
            _ => None,
        }
    }

    fn apply(&self, image: &mut Image<'_>) {
        let Self { range, sign, strength, .. } = *self;
        let Image { pixels, side, scratch } = image;
        let side = *side;
        if let Some(affine) = self.affine(side) {
            warp::apply(affine, pixels, side, scratch);
        }
        let factor = (1.0 + sign * strength * range.enhancement) as f32;
        match self.operation {
            Operation::Identity
            | Operation::ShearX
            | Operation::ShearY
            | Operation::TranslateX
            | Operation::TranslateY
            | Operation::Rotate => {}
            Operation::Brightness => colour::brightness(pixels, factor),
            Operation::Color => colour::saturation(pixels, factor),
            Operation::Contrast => colour::contrast(pixels, factor),
            Operation::Sharpness => colour::sharpness(pixels, side, factor, scratch),
            Operation::Posterize => {
                colour::posterize(pixels, 8 - (strength * range.posterize).round_ties_even() as u32);
            }
            Operation::Solarize => colour::solarize(pixels, 255.0 * (1.0 - strength)),
            Operation::AutoContrast => colour::autocontrast(pixels),
            Operation::Equalize => colour::equalize(pixels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::changed;

    #[test]
    fn every_operation_works_at_every_size() {
        for side in [1, 2, 3, 8, 33] {
            for index in 0..200 {
                let pixels: Vec<u8> = (0..side * side * 3).map(|value| (value * 31 % 256) as u8).collect();
                for policy in [Policy::TrivialAugmentWide, Policy::RandAugment { operations: 2, magnitude: 40 }] {
                    assert_eq!(changed(&policy, &pixels, side, index).len(), pixels.len());
                }
            }
        }
    }
}
