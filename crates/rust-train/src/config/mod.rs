//! What is wanted: flags as they are typed, a recipe that completes them, and the validated plan of a run. Plain values,
//! which know nothing of what they are for.

mod batch;
pub(crate) mod bounds;
pub(crate) mod distillation;
mod features;
pub(crate) mod images;
pub(crate) mod learning_rate;
mod network;
pub(crate) mod plan;
pub(crate) mod preprocessing;
pub(crate) mod progressive_resize;
pub(crate) mod recipe;
pub(crate) mod task;
pub(crate) mod weights;
