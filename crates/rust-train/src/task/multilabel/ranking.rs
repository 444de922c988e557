//! How well scores put samples in order: those where a class is there before those where it is not.

/// The samples of one class from the highest score down: at each score how many have it or a higher one, and in how many of
/// these the class is there.
#[derive(Debug)]
pub(super) struct Ranking {
    /// Samples where it is there, and all, down to each score that there is.
    steps: Vec<(usize, usize)>,
}

impl Ranking {
    /// Of scores, and whether the class is there.
    pub(super) fn new(samples: impl Iterator<Item = (f32, f32)>) -> Self {
        let mut samples: Vec<(f32, bool)> = samples.map(|(score, target)| (score, target > 0.5)).collect();
        samples.sort_by(|one, other| other.0.total_cmp(&one.0));
        let (mut steps, mut present) = (Vec::new(), 0);
        for (index, &(score, is_there)) in samples.iter().enumerate() {
            present += usize::from(is_there);
            if samples.get(index + 1).is_none_or(|next| next.0 != score) {
                steps.push((present, index + 1));
            }
        }
        Self { steps }
    }

    /// Samples where the class is there.
    pub(super) fn present(&self) -> usize {
        self.steps.last().map_or(0, |&(present, _)| present)
    }

    fn absent(&self) -> usize {
        self.steps.last().map_or(0, |&(present, all)| all - present)
    }

    /// The precision at each score, weighted by how much the recall rises there, as scikit-learn has it. `None` where the class is
    /// nowhere.
    pub(super) fn average_precision(&self) -> Option<f64> {
        let total = self.present();
        let mut before = 0;
        let terms = self.steps.iter().map(|&(present, all)| {
            let rise = present - std::mem::replace(&mut before, present);
            rise as f64 / total as f64 * (present as f64 / all as f64)
        });
        let sum: f64 = terms.sum();
        (total > 0).then_some(sum)
    }

    /// The area under the ROC curve: how likely a sample where the class is there stands before one where it is not. `None` where
    /// there are not both.
    pub(super) fn auroc(&self) -> Option<f64> {
        let (present, absent) = (self.present(), self.absent());
        let mut before = (0, 0);
        let areas = self.steps.iter().map(|&(present, all)| {
            let here = (present, all - present);
            let (width, height) = (here.1 - before.1, here.0 + before.0);
            before = here;
            (width * height) as f64 / 2.0
        });
        let area: f64 = areas.sum();
        (present > 0 && absent > 0).then(|| area / (present as f64 * absent as f64))
    }

    /// Recall and precision at each score.
    pub(super) fn precision_recall(&self) -> Vec<[f64; 2]> {
        let total = self.present().max(1) as f64;
        self.steps.iter().map(|&(present, all)| [present as f64 / total, present as f64 / all as f64]).collect()
    }

    /// The shares of those where it is not, and of those where it is, down to each score.
    pub(super) fn roc(&self) -> Vec<[f64; 2]> {
        let (present, absent) = (self.present().max(1) as f64, self.absent().max(1) as f64);
        let points = self.steps.iter().map(|&(there, all)| [(all - there) as f64 / absent, there as f64 / present]);
        std::iter::once([0.0, 0.0]).chain(points).collect()
    }
}

/// The highest F1 over all labels of all samples, and the probability from which on a class is taken to be there for it.
pub(super) fn best_f1(samples: impl Iterator<Item = (f32, f32)>) -> (f64, f64) {
    let mut samples: Vec<(f32, bool)> = samples.map(|(score, target)| (score, target > 0.5)).collect();
    samples.sort_by(|one, other| other.0.total_cmp(&one.0));
    let total = samples.iter().filter(|(_, is_there)| *is_there).count();
    let (mut present, mut best) = (0, (0.0, 0.5));
    for (index, &(score, is_there)) in samples.iter().enumerate() {
        present += usize::from(is_there);
        let is_last_of_its_score = samples.get(index + 1).is_none_or(|next| next.0 != score);
        let f1 = 2.0 * present as f64 / (total + index + 1) as f64;
        if is_last_of_its_score && f1 > best.0 {
            best = (f1, 1.0 / (1.0 + (-f64::from(score)).exp()));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scikit_learn_agrees() {
        // scikit-learn 1.8: average_precision_score, roc_auc_score; the last with ties.
        let cases: [(&[f32], &[f32], f64, f64); 3] = [
            (&[0.1, 0.4, 0.35, 0.8], &[0.0, 0.0, 1.0, 1.0], 0.833_333_333_333_333_3, 0.75),
            (&[0.9, 0.8, 0.7, 0.6, 0.55, 0.54], &[1.0, 0.0, 1.0, 1.0, 0.0, 1.0], 0.770_833_333_333_333_3, 0.5),
            (&[0.5, 0.5, 0.5, 0.2, 0.2, 0.9], &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 0.5, 0.388_888_888_888_888_9),
        ];
        for (scores, targets, precision, area) in cases {
            let ranking = Ranking::new(scores.iter().copied().zip(targets.iter().copied()));
            let (found, found_area) = (ranking.average_precision().unwrap(), ranking.auroc().unwrap());
            assert!((found - precision).abs() < 1e-12 && (found_area - area).abs() < 1e-12, "{found} {found_area}");
        }
        let none = Ranking::new([(0.5, 0.0), (0.2, 0.0)].into_iter());
        assert_eq!((none.average_precision(), none.auroc(), none.present()), (None, None, 0));
    }

    #[test]
    fn the_threshold_is_that_of_the_best_f1() {
        let (f1, threshold) = best_f1([(2.0, 1.0), (1.0, 1.0), (0.0, 0.0), (-1.0, 1.0), (-2.0, 0.0)].into_iter());
        assert!(
            (f1 - 6.0 / 7.0).abs() < 1e-12 && (threshold - 0.268_941_421_369_995_1).abs() < 1e-12,
            "{f1} {threshold}"
        );
    }
}
