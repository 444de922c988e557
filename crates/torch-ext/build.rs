//! Compiles the shim against the libtorch that torch-sys found, and tells the crates above where it lies.
use std::path::{Path, PathBuf};

/// The files of the shim, by the headers that they need. What of libtorch each includes takes far longer to read than the file
/// itself, so that each list is compiled as one: names at file level are told apart within a list.
const SOURCES: [(&str, &[&str]); 2] = [
    ("tensors", &["context", "optim", "gpu/compiler", "gpu/device", "gpu/images", "gpu/launch", "gpu/runtime"]),
    (
        "autograd_and_c10d",
        &[
            "autocast",
            "cpu/batch_norm",
            "cpu/convolution",
            "gpu/batch_norm",
            "gpu/layer_norm",
            "gpu/max_pool",
            "process_group",
            "profile",
            "recompute",
            "reducer",
            "scaled_sum",
            "store",
            "sync_batch_norm",
        ],
    ),
];

fn main() {
    // torch-sys says where its libraries are; the headers lie beside them in every distribution of libtorch.
    let lib = PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys gives its library folder"));
    let include = lib.parent().expect("a library folder has a parent").join("include");

    println!("cargo::rerun-if-changed=shim");
    let mut shim = cc::Build::new();
    shim.cpp(true)
        .std("c++17")
        .flag("-Wno-unused-parameter") // libtorch's headers
        .flag_if_supported("-Wno-subobject-linkage") // included files have names of their own
        .define("USE_DISTRIBUTED", None)
        .define("USE_C10D", None)
        .include(kernel_sources())
        .files(SOURCES.map(|(name, parts)| all_of(name, parts)));
    let headers = [include.join("torch/csrc/api/include"), include.clone()];
    for folder in &headers {
        shim.flag("-isystem").flag(folder);
    }
    shim.compile("torch_ext_shim");
    compile_kernels("batch_norm_kernels", "off");
    compile_kernels("convolution_kernels", "fast");
    compile_gpu_kernels(&include);

    println!("cargo::metadata=libtorch_lib={}", lib.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

/// A file in cargo's folder that is all of `parts`.
fn all_of(name: &str, parts: &[&str]) -> PathBuf {
    let shim = std::env::current_dir().expect("cargo says where").join("shim");
    let line = |part: &&str| format!("#include \"{}\"\n", shim.join(part).with_extension("cpp").display());
    let file =
        PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names a folder")).join(name).with_extension("cpp");
    std::fs::write(&file, parts.iter().map(line).collect::<String>()).expect("cargo's folder can be written to");
    file
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
    kernels.file(format!("shim/cpu/{name}.cpp")).compile(&format!("torch_ext_{name}"));
}

/// Compiles a GPU's kernels for the host, where tests run them.
fn compile_gpu_kernels(include: &Path) {
    let mut kernels = cc::Build::new();
    kernels.cpp(true).std("c++17").opt_level(1).flag("-ffp-contract=off").flag("-isystem").flag(include);
    kernels.flag("-Wno-unused-parameter").file("shim/gpu/host.cpp").compile("torch_ext_gpu_kernels");
}

/// A folder with `kernel_sources.h`: the texts of a GPU's kernels, which are compiled where they are to run.
fn kernel_sources() -> PathBuf {
    let mut files: Vec<_> = std::fs::read_dir("shim/gpu/kernels")
        .and_then(|files| files.map(|file| Ok(file?.path())).collect::<std::io::Result<_>>())
        .expect("the kernels lie in shim/gpu/kernels");
    files.sort();
    let (mut names, mut texts) = (String::new(), String::new());
    for file in files {
        names += &format!("    {:?},\n", file.file_name().expect("it is a file"));
        texts += &format!("    R\"kernel({})kernel\",\n", std::fs::read_to_string(&file).expect("a kernel is text"));
    }
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names a folder"));
    let list = |name: &str, of: &str| format!("static const char* const {name}[] = {{\n{of}}};\n");
    let text = list("te_kernel_names", &names) + &list("te_kernel_texts", &texts);
    std::fs::write(folder.join("kernel_sources.h"), text).expect("cargo's folder can be written to");
    folder
}
