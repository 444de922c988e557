//! `--version`: what the program is, and what it stands on.

use std::fmt::Write;

/// The version, the commit, and the libraries.
pub(crate) fn text() -> String {
    let commit =
        option_env!("RUST_TRAIN_COMMIT").map_or_else(|| "debug build".to_owned(), |commit| format!("commit {commit}"));
    let cuda = torch_ext::cuda::open().map_or_else(|why| format!("not used: {why}"), |()| "opened".to_owned());
    let devices = if tch::Cuda::is_available() { "CUDA" } else { "CPU" };
    let mut text = format!("rust-train {} ({commit})\n", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("libtorch", format!("{} (computes on {devices} here)", torch_ext::version())),
        ("MPI", mpi::open(None).map_or_else(|none| none.to_string(), mpi::Mpi::version)),
        ("HDF5", dataset::hdf5_version()),
        ("CUDA", cuda),
    ] {
        let _ = writeln!(text, "{name:9} {value}"); // writing to a string does not fail
    }
    text
}
