//! Image folders to an HDF5 cache to batches in host memory.
