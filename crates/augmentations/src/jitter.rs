//! torchvision's `ColorJitter`: brightness, contrast, saturation and hue, each by a random factor, in a random order.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{Change, Geometry, Image, Mask, colour};

/// How far each may go. 0 leaves it alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColorJitter {
    /// The factor is 1 − this to 1 + this, and at least 0.
    pub brightness: f64,
    /// As brightness.
    pub contrast: f64,
    /// As brightness.
    pub saturation: f64,
    /// Of the circle of colours, 0–0.5 each way.
    pub hue: f64,
}

impl ColorJitter {
    /// This strength for brightness, contrast and saturation; hue is left alone.
    pub fn of(strength: f64) -> Self {
        Self { brightness: strength, contrast: strength, saturation: strength, hue: 0.0 }
    }
}

impl Geometry for ColorJitter {
    fn move_mask(&self, _: &mut Mask<'_>, _: &mut ChaCha8Rng) {}
}

impl Change for ColorJitter {
    fn apply(&self, image: &mut Image<'_>, random: &mut ChaCha8Rng) {
        let pixels = &mut *image.pixels;
        let mut order = [0, 1, 2, 3];
        for last in (1..order.len()).rev() {
            order.swap(last, random.random_range(0..=last as u32) as usize);
        }
        let mut factor = |strength: f64| random.random_range((1.0 - strength).max(0.0)..=1.0 + strength) as f32;
        let factors = [self.brightness, self.contrast, self.saturation].map(&mut factor);
        let hue = random.random_range(-self.hue..=self.hue);
        for kind in order {
            match kind {
                0 if self.brightness > 0.0 => colour::brightness(pixels, factors[0]),
                1 if self.contrast > 0.0 => colour::contrast(pixels, factors[1]),
                2 if self.saturation > 0.0 => colour::saturation(pixels, factors[2]),
                3 if self.hue > 0.0 => colour::hue(pixels, (hue * 255.0) as i32 as u8),
                _ => {}
            }
        }
    }
}
