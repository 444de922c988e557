//! B: the batch and its shares.

pub(super) mod advice;
pub(super) mod device;
pub(super) mod normalization;
pub(super) mod shares;
pub(super) mod steps;
pub(super) mod virtual_ranks;
pub(super) mod world;
