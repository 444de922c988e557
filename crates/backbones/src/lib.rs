//! Architectures built on tch, and their published weights.
