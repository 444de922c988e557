//! The build script of every crate above torch-ext that makes executables: they find libtorch by their rpath, so that
//! nobody has to set LD_LIBRARY_PATH. (Link arguments of a library do not reach the executables that use it.)
fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let lib = std::env::var("DEP_TORCH_EXT_SHIM_LIBTORCH_LIB").expect("torch-ext gives libtorch's library folder");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    // What libtorch needs beside itself is named by the executable, and so loaded before it is asked for: libtorch looks in
    // the folders of its own rpath, which seldom exist. A hundred failing calls a rank, on storage that all ranks share.
    let others = std::fs::read_dir(&lib).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut others: Vec<_> = others.filter(|path| path.to_string_lossy().contains(".so.")).collect();
    others.sort();
    println!("cargo::rustc-link-arg=-Wl,--push-state,--no-as-needed");
    for other in others {
        println!("cargo::rustc-link-arg={}", other.display());
    }
    println!("cargo::rustc-link-arg=-Wl,-l:librt.so.1,-l:libdl.so.2,-l:libpthread.so.0,--pop-state");
    if std::path::Path::new(&lib).join("libtorch_cuda.so").exists() {
        // What libtorch_cuda needs in turn (cuBLAS, cuDNN, the driver) is looked for when the program starts, so that a
        // login node without CUDA can link for the nodes that have it.
        println!("cargo::rustc-link-arg=-Wl,--allow-shlib-undefined");
    }
}
