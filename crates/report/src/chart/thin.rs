//! Many points become few, and no extreme is lost.

/// Neighbouring points of a series, as one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Mean place.
    pub x: f64,
    /// Mean of the values that are finite; NaN where none is.
    pub mean: f64,
    /// Smallest of them.
    pub low: f64,
    /// Largest of them.
    pub high: f64,
}

/// Puts `points` (x, y) in at most `most` buckets of equally many.
///
/// # Panics
/// If `most` is 0.
pub fn thin(points: &[(f64, f64)], most: usize) -> Vec<Bucket> {
    let size = points.len().div_ceil(most).max(1);
    let bucket = |points: &[(f64, f64)]| {
        let finite = || points.iter().map(|point| point.1).filter(|value| value.is_finite());
        Bucket {
            x: points.iter().map(|point| point.0).sum::<f64>() / points.len() as f64,
            mean: finite().sum::<f64>() / finite().count() as f64,
            low: finite().fold(f64::NAN, f64::min),
            high: finite().fold(f64::NAN, f64::max),
        }
    };
    points.chunks(size).map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_survive() {
        let mut points: Vec<_> = (0..1000).map(|x| (f64::from(x), 1.0)).collect();
        (points[500].1, points[501].1) = (9.0, f64::NAN);
        let buckets = thin(&points, 100);
        assert_eq!(buckets.len(), 100);
        assert_eq!(buckets[50], Bucket { x: 504.5, mean: 17.0 / 9.0, low: 1.0, high: 9.0 });
        assert_eq!(thin(&points[..3], 100).len(), 3);
        assert!(thin(&[(0.0, f64::NAN)], 1)[0].mean.is_nan());
        assert_eq!(thin(&[], 10), []);
    }
}
