//! The data set inside the program: handwritten digits of 8×8 pixels, in ten classes.
//!
//! *Optical Recognition of Handwritten Digits*, E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
//! CC BY 4.0; see `data/README.md`.

use crate::{Dataset, ImageSet};

/// The side of a digit, in pixels.
pub const SIDE: usize = 8;

/// Of this many examples of a digit, the last is held out.
const HELD_OUT_EVERY: usize = 5;

/// The digits: 1,442 to train on, and every fifth of each class (355) held out to validate on.
///
/// # Panics
/// Never: the data are part of the program.
pub fn load() -> Dataset {
    let packed = include_bytes!("../data/digits.csv.gz");
    let mut rows = csv::ReaderBuilder::new().has_headers(false).from_reader(flate2::read::GzDecoder::new(&packed[..]));
    let mut splits = [const { (Vec::new(), Vec::new()) }; 2];
    let mut seen = [0; 10];
    for row in rows.deserialize::<Vec<u8>>() {
        let row = row.expect("the embedded digits are well-formed");
        let (label, values) = row.split_last().expect("a row has 65 numbers");
        let seen = &mut seen[usize::from(*label)];
        *seen += 1;
        let (pixels, labels) = &mut splits[usize::from(*seen % HELD_OUT_EVERY == 0)];
        // 0–16 becomes 0–255, the same in red, green and blue.
        pixels.extend(values.iter().flat_map(|&value| [(u16::from(value) * 255 / 16) as u8; 3]));
        labels.push(i64::from(*label));
    }
    let [train, val] = splits.map(|(pixels, labels)| ImageSet::from_memory(pixels, labels, SIDE));
    Dataset { classes: (0..10).map(|digit| digit.to_string()).collect(), train, val, test: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_all_there() {
        let digits = load();
        assert_eq!((digits.train.len(), digits.val.len()), (1442, 355));
        for class in 0..10 {
            let held_out = digits.val.labels().iter().filter(|&&label| label == class).count();
            assert!((34..=36).contains(&held_out), "{held_out} held-out digits of class {class}");
        }
        // The first digit of the file is a zero: dark in the middle, bright around.
        assert_eq!(digits.train.labels()[0], 0);
        assert_eq!(digits.train.pixels(0)[..12], [0, 0, 0, 0, 0, 0, 79, 79, 79, 207, 207, 207]);
    }
}
