//! The build script of every crate above torch-ext that makes executables: they find libtorch by their rpath, so that
//! nobody has to set LD_LIBRARY_PATH. (Link arguments of a library do not reach the executables that use it.)
fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let lib = std::env::var("DEP_TORCH_EXT_SHIM_LIBTORCH_LIB").expect("torch-ext gives libtorch's library folder");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    if std::path::Path::new(&lib).join("libtorch_cuda.so").exists() {
        // What libtorch_cuda needs in turn (cuBLAS, cuDNN, the driver) is looked for when the program starts, so that a
        // login node without CUDA can link for the nodes that have it.
        println!("cargo::rustc-link-arg=-Wl,--allow-shlib-undefined");
    }
}
