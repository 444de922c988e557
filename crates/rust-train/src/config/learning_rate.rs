//! How the learning rate goes over the epochs of a run, as the flags say it.

/// How the learning rate goes, in epochs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LearningRate {
    pub shape: Shape,
    /// The highest rate.
    pub peak: f64,
    /// The rate at the end, or the least there is.
    pub floor: f64,
    /// Epochs in which the rate rises.
    pub warmup_epochs: f64,
    /// The least and the highest momentum of one-cycle; `None` where it stays as it is.
    pub momentum: Option<(f64, f64)>,
}

/// How the rate goes on after the warm-up. Epochs are counted from the run's first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Half a cosine down to the floor. As `CosineAnnealingLR`, step by step.
    Cosine,
    /// A line down to the floor. As `LinearLR`, step by step.
    Linear,
    /// Times `gamma` every so many epochs. As `StepLR`.
    Step { every: usize, gamma: f64 },
    /// Times `gamma` after each of these epochs. As `MultiStepLR`.
    MultiStep { milestones: Vec<usize>, gamma: f64 },
    /// From a 25th up half a cosine, and down another to the floor, while momentum goes down and up. As `OneCycleLR`.
    OneCycle,
    /// The peak.
    Constant,
}
