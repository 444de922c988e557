//! Judges devices, ranks and batch before a job is submitted.
