//! How many images each class has, and what follows from it.

/// The number of images of each of so many classes, where images have these `labels`.
pub fn class_counts(labels: &[i64], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for &label in labels {
        counts[label as usize] += 1;
    }
    counts
}

/// A weight for each class, for the loss of a set whose classes differ in size: the inverse of its share, so that the
/// mean over all images is 1. A class without images has weight 0.
///
/// ```
/// assert_eq!(dataset::class_weights(&[30, 10]), [40.0 / 60.0, 40.0 / 20.0]);
/// ```
pub fn class_weights(counts: &[usize]) -> Vec<f64> {
    let total: usize = counts.iter().sum();
    let used = counts.iter().filter(|&&count| count > 0).count();
    let weight = |&count: &usize| if count == 0 { 0.0 } else { total as f64 / (used * count) as f64 };
    counts.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_mean_weight_of_an_image_is_one(counts in proptest::collection::vec(0usize..1000, 1..20)) {
            let total: usize = counts.iter().sum();
            let sum: f64 = counts.iter().zip(class_weights(&counts)).map(|(&count, weight)| count as f64 * weight).sum();
            prop_assert!((sum - total as f64).abs() < 1e-6 * total.max(1) as f64);
        }
    }

    #[test]
    fn classes_are_counted() {
        assert_eq!(class_counts(&[2, 0, 2, 2, 0], 4), [2, 0, 3, 0]);
    }
}
