//! What a run leaves for people to look at.
//!
//! ```text
//! RUN/metrics.jsonl     every step and epoch         metrics ──┐
//! RUN/evaluation.json   the last evaluation       evaluation ──┼─> Run ─> page ─> RUN/report.html
//! RUN/environment.json  who computed where        environment ─┤     └─> table ─> RUN/metrics.csv
//! RUN/plan.toml         every flag                            ─┘
//! RUN/events.out.tfevents.*                        tensorboard
//! ```
//!
//! All that is drawn is drawn by [`chart`], as SVG; [`Scaling`] is the page of a benchmark over several numbers of ranks.
//! Nothing here knows torch, MPI or HDF5: values in, files out.

pub mod chart;
mod confusion;
mod environment;
mod error;
mod evaluation;
mod mask;
mod metrics;
mod page;
mod run;
mod scaling;
mod scores;
pub mod tensorboard;
mod thumbnail;

pub use confusion::{ClassScores, Confusion};
pub use environment::{Environment, Rank, Session, SessionEnd};
pub use error::{Error, Result};
pub use evaluation::{Curve, Evaluation, OutputScores, WorstMask, WorstSample};
pub use mask::{mask_overlay, mask_png};
pub use metrics::{EpochLine, Metrics, StepLine, csv};
pub use page::{comparison, page};
pub use run::Run;
pub use scaling::{Mode, Parts, Point, Scaling};
pub use scores::{Better, Metric, Scores};
pub use thumbnail::thumbnail;
