//! Compiles the shim against the libtorch that torch-sys found, and tells the crates above where it lies.
use std::path::{Path, PathBuf};

/// What works on any machine.
const SOURCES: [&str; 8] =
    ["batch_norm", "context", "convolution", "optim", "process_group", "reducer", "store", "sync_batch_norm"];

fn main() {
    // torch-sys says where its libraries are; the headers lie beside them in every distribution of libtorch.
    let lib = PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys gives its library folder"));
    let include = lib.parent().expect("a library folder has a parent").join("include");

    println!("cargo::rerun-if-changed=shim");
    let mut shim = cc::Build::new();
    shim.cpp(true)
        .std("c++17")
        .flag("-Wno-unused-parameter") // libtorch's headers
        .define("USE_DISTRIBUTED", None)
        .define("USE_C10D", None)
        .files(SOURCES.map(|part| format!("shim/{part}.cpp")));
    let mut headers = vec![include.join("torch/csrc/api/include"), include];
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        headers.extend(cuda_headers());
        shim.file("shim/cuda.cpp").define("USE_C10D_NCCL", None);
        assert!(
            lib.join("libtorch_cuda.so").exists(),
            "the feature `cuda` needs a libtorch with CUDA, and {} has no libtorch_cuda.so: set LIBTORCH_USE_PYTORCH=1 \
             where PyTorch is installed, or LIBTORCH to what `scripts/setup --cuda` brings",
            lib.display()
        );
        println!("cargo::rustc-link-search=native={}", lib.display());
        println!("cargo::rustc-link-lib=dylib=torch_cuda");
        println!("cargo::rustc-link-lib=dylib=c10_cuda");
    }
    for folder in &headers {
        shim.flag("-isystem").flag(folder);
    }
    shim.compile("torch_ext_shim");
    compile_kernels("batch_norm_kernels", "off");
    compile_kernels("convolution_kernels", "fast");

    println!("cargo::metadata=libtorch_lib={}", lib.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

/// Compiles loops over numbers, which include nothing of libtorch. Optimized in debug builds, too: tests train.
///
/// `contraction` says whether a product and a sum may become one operation.
fn compile_kernels(name: &str, contraction: &str) {
    let mut kernels = cc::Build::new();
    kernels.cpp(true).std("c++17").opt_level(3).flag(format!("-ffp-contract={contraction}"));
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        kernels.flag("-mavx2").flag("-mfma"); // asked for before they are called
    }
    // What it keeps for the next round of a loop takes registers that sums need.
    kernels.flag_if_supported("-fno-predictive-commoning");
    kernels.file(format!("shim/{name}.cpp")).compile(&format!("torch_ext_{name}"));
}

/// The folders of CUDA's and NCCL's headers.
fn cuda_headers() -> Vec<PathBuf> {
    let variables = ["CUDA_HOME", "CUDA_PATH", "NCCL_HOME"];
    for variable in variables {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let folders: Vec<_> = variables
        .iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from)
        .chain(["/usr/local/cuda".into(), "/usr".into()])
        .map(|home| home.join("include"))
        .collect();
    let holder = |header: &str| {
        let mut with = folders.iter().filter(|folder| folder.join(header).exists());
        with.next().unwrap_or_else(|| {
            panic!(
                "the feature `cuda` needs {header}, which is in none of {folders:?}: load the site's CUDA and NCCL \
                 modules, set CUDA_HOME and NCCL_HOME, or call `scripts/setup --cuda`"
            )
        })
    };
    let (cuda, nccl) = (holder("cuda_runtime.h").clone(), holder("nccl.h").clone());
    // CUDA 13 keeps the headers of its C++ libraries apart.
    let mut headers = vec![cuda.join("cccl"), cuda, nccl];
    headers.retain(|folder| folder.exists() && folder != Path::new("/usr/include"));
    headers
}
