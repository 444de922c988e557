//! Validation images that are set aside from the training images, where nobody has done it: a share of each class.

use std::path::Path;

use super::Sample;

/// The share of each class's training images that are set aside to validate on: above 0 and below 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValSplit(f64);

impl ValSplit {
    /// `None` where `share` is not above 0 and below 1.
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share < 1.0).then_some(Self(share))
    }

    /// The share.
    pub fn share(self) -> f64 {
        self.0
    }

    /// Which images are set aside, by their labels: of each class the share, rounded, but at least one, and never the last.
    /// Those whose `key` has the lowest hash are taken, so that the choice depends on nothing but the keys: neither on a seed,
    /// nor on order, ranks or machine; and another image of the class moves one over the border at most.
    pub(crate) fn choose(self, labels: impl Iterator<Item = i64>, key: impl Fn(usize) -> Vec<u8>) -> Vec<bool> {
        let hash = |index| *blake3::hash(&key(index)).as_bytes();
        let mut images: Vec<_> = labels.enumerate().map(|(index, label)| (label, hash(index), index)).collect();
        images.sort_unstable();
        let mut is_chosen = vec![false; images.len()];
        for class in images.chunk_by(|a, b| a.0 == b.0) {
            let count = (class.len() as f64 * self.0).round() as usize;
            for (_, _, index) in &class[..count.max(1).min(class.len() - 1)] {
                is_chosen[*index] = true;
            }
        }
        is_chosen
    }

    /// The images to train on, and those set aside; both in the order in which they are listed.
    pub(super) fn divide(self, samples: Vec<Sample>) -> (Vec<Sample>, Vec<Sample>) {
        let paths: Vec<_> = samples.iter().map(|sample| sample.path.clone()).collect();
        self.divide_by(samples, |index| &paths[index])
    }

    /// The same by other paths.
    pub(super) fn divide_by<'a>(
        self,
        samples: Vec<Sample>,
        path: impl Fn(usize) -> &'a Path,
    ) -> (Vec<Sample>, Vec<Sample>) {
        let labels = samples.iter().map(|sample| sample.class as i64);
        let is_chosen = self.choose(labels, |index| path(index).as_os_str().as_encoded_bytes().to_vec());
        let mut is_chosen = is_chosen.into_iter();
        let (val, train) = samples.into_iter().partition(|_| is_chosen.next().unwrap_or(false));
        (train, val)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chosen(labels: &[i64], share: f64, name: impl Fn(usize) -> String) -> Vec<bool> {
        ValSplit::new(share).unwrap().choose(labels.iter().copied(), |index| name(index).into_bytes())
    }

    #[test]
    fn a_share_of_each_class() {
        let labels: Vec<i64> =
            [(0, 40), (1, 7), (2, 2), (3, 1)].iter().flat_map(|&(label, n)| vec![label; n]).collect();
        for (share, expected) in
            [(0.1, [4, 1, 1, 0]), (0.5, [20, 4, 1, 0]), (0.99, [39, 6, 1, 0]), (0.001, [1, 1, 1, 0])]
        {
            let is_chosen = chosen(&labels, share, |index| index.to_string());
            let count = |label| (0..labels.len()).filter(|&index| labels[index] == label && is_chosen[index]).count();
            assert_eq!([0, 1, 2, 3].map(count), expected, "{share}");
        }
        for share in [0.0, 1.0, -0.1, f64::NAN] {
            assert_eq!(ValSplit::new(share), None);
        }
    }

    #[test]
    fn the_choice_is_what_it_always_was() {
        // A run that is resumed, and `eval` of one, set the same images aside.
        let is_chosen = chosen(&[0; 10], 0.3, |index| format!("train/ant/{index}.png"));
        let indices: Vec<_> = (0..10).filter(|&index| is_chosen[index]).collect();
        assert_eq!(indices, [3, 4, 5]);
    }

    proptest! {
        #[test]
        fn neither_order_nor_other_classes_matter(
            names in proptest::collection::btree_set("[a-z]{1,6}", 2..40), share in 0.01..0.99f64, turn in 0usize..40,
        ) {
            let names: Vec<String> = names.into_iter().collect();
            let set = |names: &[String], labels: &[i64]| -> std::collections::BTreeSet<String> {
                let is_chosen = chosen(labels, share, |index| names[index].clone());
                (0..names.len()).filter(|&index| is_chosen[index]).map(|index| names[index].clone()).collect()
            };
            let alone = set(&names, &vec![0; names.len()]);
            let mut turned = names.clone();
            turned.rotate_left(turn % names.len());
            turned.extend((0..5).map(|index| format!("other{index}")));
            let mut labels = vec![0; names.len()];
            labels.extend([1; 5]);
            let mixed: std::collections::BTreeSet<_> =
                set(&turned, &labels).into_iter().filter(|name| !name.starts_with("other")).collect();
            prop_assert_eq!(alone, mixed);
        }

        #[test]
        fn one_more_image_moves_one_over_the_border_at_most(count in 2usize..60, share in 0.01..0.99f64) {
            let name = |index: usize| format!("{index}.png");
            let (before, after) = (chosen(&vec![0; count], share, name), chosen(&vec![0; count + 1], share, name));
            let moved = (0..count).filter(|&index| before[index] != after[index]).count();
            prop_assert!(moved <= 1, "{}", moved);
        }
    }
}
