//! What the number behind a flag may be, whichever flag it is.

use crate::errors::usage;

/// The most epochs, images or steps that anybody means: products of two of them do not overflow.
pub(crate) const MOST: usize = u32::MAX as usize;

pub(super) fn at_least_one(flag: &str, value: usize) -> anyhow::Result<usize> {
    if value == 0 {
        return Err(usage(format!("{flag}: must be at least 1")));
    }
    Ok(value)
}

pub(super) fn at_least(flag: &str, value: f64, least: f64) -> anyhow::Result<()> {
    if value.is_finite() && value >= least {
        Ok(())
    } else {
        Err(usage(format!("{flag} {value}: must be a number of at least {least}")))
    }
}

pub(super) fn below_one(flag: &str, value: f64) -> anyhow::Result<f64> {
    if (0.0..1.0).contains(&value) {
        Ok(value)
    } else {
        Err(usage(format!("{flag} {value}: must be a number of at least 0 and below 1")))
    }
}
