//! The type that a network computes in.

use serde::Serialize;

/// The type that a network computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PrecisionKind {
    /// Single precision throughout
    #[value(aliases = ["single", "none", "off"])]
    Fp32,
    /// bfloat16 in convolutions and matrix products
    Bf16,
    /// fp16 in convolutions and matrix products, with loss scaling
    Fp16,
}

impl PrecisionKind {
    /// Bytes of a value that the network computes with.
    pub fn value_bytes(self) -> usize {
        match self {
            Self::Fp32 => 4,
            Self::Bf16 | Self::Fp16 => 2,
        }
    }
}
