//! What executables are linked with, and which commit they are of.

use std::process::Command;

#[path = "../torch-ext/rpath.rs"]
mod rpath;

/// What filter plugins of HDF5 call, beside what rust-train itself does: kept in the program, and shown to them.
const FOR_FILTERS: &[&str] = &[
    "H5Epush2",
    "H5Pget_filter_by_id2",
    "H5Pmodify_filter",
    "H5Sget_simple_extent_dims",
    "H5Sget_simple_extent_ndims",
    "H5Tclose",
    "H5Tget_array_dims2",
    "H5Tget_array_ndims",
    "H5Tget_class",
    "H5Tget_order",
    "H5Tget_sign",
    "H5Tget_size",
    "H5Tget_super",
    "H5Zfilter_avail",
    "H5Zregister",
    "H5allocate_memory",
    "H5check_version",
    "H5free_memory",
    "H5get_libversion",
    "H5open",
    "H5resize_memory",
];

fn main() {
    rpath::main();
    if std::env::var_os("CARGO_FEATURE_STATIC_HDF5").is_some() {
        let keep = FOR_FILTERS.iter().map(|name| format!(",--undefined={name}")).collect::<String>();
        println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol=H5*{keep}");
    }
    // Whoever changes the program has commits all the time, and would build it anew for each.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let git = |arguments: &[&str]| {
            let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
            Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
        };
        if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
            println!("cargo::rerun-if-changed={log}");
        }
        if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
            println!("cargo::rustc-env=RUST_TRAIN_COMMIT={commit}");
        }
    }
}
