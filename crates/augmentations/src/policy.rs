//! Random choices of operations: RandAugment (Cubuk et al., 2019) and TrivialAugment (Müller and Hutter, 2021), with
//! torchvision's operations and strengths.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Change, Image, colour, warp};

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

impl Change for Policy {
    fn apply(&self, image: &mut Image<'_>, random: &mut ChaCha8Rng) {
        match *self {
            Self::RandAugment { operations, magnitude } => {
                let translation = 150.0 / 331.0 * image.side as f64;
                let range = Range { shear: 0.3, translation, degrees: 30.0, enhancement: 0.9, posterize: 4.0 };
                for _ in 0..operations {
                    one(&range, magnitude.min(BINS - 1), image, random);
                }
            }
            Self::TrivialAugmentWide => {
                let range = Range { shear: 0.99, translation: 32.0, degrees: 135.0, enhancement: 0.99, posterize: 6.0 };
                let bin = random.random_range(0..BINS);
                one(&range, bin, image, random);
            }
        }
    }
}

fn one(range: &Range, bin: u32, image: &mut Image<'_>, random: &mut ChaCha8Rng) {
    let Image { pixels, side, scratch } = image;
    let side = *side;
    let operation = OPERATIONS[random.random_range(0..OPERATIONS.len() as u32) as usize];
    let sign = if random.random_bool(0.5) { -1.0 } else { 1.0 };
    let strength = f64::from(bin) / f64::from(BINS - 1);
    let mut warp = |affine| warp::apply(affine, pixels, side, scratch);
    let factor = (1.0 + sign * strength * range.enhancement) as f32;
    let translation = (sign * strength * range.translation).trunc();
    match operation {
        Operation::Identity => {}
        Operation::ShearX => warp(warp::shear_x(sign * strength * range.shear)),
        Operation::ShearY => warp(warp::shear_y(sign * strength * range.shear)),
        Operation::TranslateX => warp(warp::translation(translation, 0.0)),
        Operation::TranslateY => warp(warp::translation(0.0, translation)),
        Operation::Rotate => warp(warp::rotation(sign * strength * range.degrees, side)),
        Operation::Brightness => colour::brightness(pixels, factor),
        Operation::Color => colour::saturation(pixels, factor),
        Operation::Contrast => colour::contrast(pixels, factor),
        Operation::Sharpness => colour::sharpness(pixels, side, factor, scratch),
        Operation::Posterize => colour::posterize(pixels, 8 - (strength * range.posterize).round_ties_even() as u32),
        Operation::Solarize => colour::solarize(pixels, 255.0 * (1.0 - strength)),
        Operation::AutoContrast => colour::autocontrast(pixels),
        Operation::Equalize => colour::equalize(pixels),
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
