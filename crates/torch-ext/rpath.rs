//! The build script of every crate above torch-ext that makes executables: they find libtorch by their rpath, so that
//! nobody has to set LD_LIBRARY_PATH. (Link arguments of a library do not reach the executables that use it.)

/// What libtorch_cpu 2.11 needs of the libraries that may lie beside it.
const NEEDED: [&str; 3] = ["libgomp", "libcudart", "libcupti"];

pub(crate) fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-env-changed=RUST_TRAIN_PORTABLE");
    if std::env::var_os("RUST_TRAIN_PORTABLE").is_some() {
        return; // crate installation finds libtorch, and that of the CPU alone needs nothing of CUDA
    }
    let lib = std::env::var("DEP_TORCH_EXT_SHIM_LIBTORCH_LIB").expect("torch-ext gives libtorch's library folder");
    let mut arguments = vec![format!("-Wl,-rpath,{lib}")];
    // What libtorch_cpu needs is named by the executable, too, and so loaded before libtorch asks: it would look in the
    // folders of its own rpath, which seldom exist, with a hundred failing calls a rank on storage that all ranks share.
    // Nothing but what it needs (`readelf -d libtorch_cpu.so`): a libtorch with CUDA has large libraries beside it.
    arguments.push("-Wl,--push-state,--no-as-needed".to_owned());
    for file in std::fs::read_dir(&lib).expect("libtorch's library folder can be read").flatten() {
        let name = file.file_name().into_string().unwrap_or_default();
        if NEEDED.iter().any(|needed| name.starts_with(needed)) && name.contains(".so.") {
            arguments.push(file.path().display().to_string());
        }
    }
    arguments.push("-Wl,-l:librt.so.1,-l:libdl.so.2,-l:libpthread.so.0,--pop-state".to_owned());
    if ["libtorch_cuda.so", "libtorch_hip.so"].iter().any(|half| std::path::Path::new(&lib).join(half).exists()) {
        // What libtorch's half for GPUs needs in turn (cuBLAS, cuDNN, the driver) is looked for when the program starts, so that a
        // login node without CUDA can link for the nodes that have it.
        arguments.push("-Wl,--allow-shlib-undefined".to_owned());
    }
    let lines: Vec<_> = arguments.iter().map(|argument| format!("cargo::rustc-link-arg={argument}")).collect();
    println!("{}", lines.join("\n"));
    // Executables of other packages want the same: their build script prints this (docs/library.md).
    if std::env::var_os("CARGO_MANIFEST_LINKS").is_some() {
        println!("cargo::metadata=link={}", lines.join(";"));
    }
}
