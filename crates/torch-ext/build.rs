//! Compiles the shim against the libtorch that torch-sys found, and tells the crates above where it lies.
use std::path::PathBuf;

fn main() {
    // torch-sys says where its libraries are; the headers lie beside them in every distribution of libtorch.
    let lib = PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys gives its library folder"));
    let include = lib.parent().expect("a library folder has a parent").join("include");

    println!("cargo::rerun-if-changed=shim");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .flag("-Wno-unused-parameter") // libtorch's headers
        .flag("-isystem")
        .flag(&include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .define("USE_DISTRIBUTED", None)
        .define("USE_C10D", None)
        .file("shim/c10d.cpp")
        .file("shim/optim.cpp")
        .compile("torch_ext_shim");

    println!("cargo::metadata=libtorch_lib={}", lib.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
