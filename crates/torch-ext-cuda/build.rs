//! With the feature `cuda`: compiles the CUDA half of torch-ext, against CUDA's headers and libtorch's.
use std::path::{Path, PathBuf};

fn main() {
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let shim = Path::new("../torch-ext/shim");
    println!("cargo::rerun-if-changed={}", shim.display());
    println!("cargo::rerun-if-env-changed=LIBTORCH_CUDA");
    let lib = PathBuf::from(
        std::env::var("DEP_TORCH_EXT_SHIM_LIBTORCH_LIB").expect("torch-ext gives libtorch's library folder"),
    );
    let include = lib.parent().expect("a library folder has a parent").join("include");
    let mut cuda = cc::Build::new();
    cuda.cpp(true)
        .std("c++17")
        .flag("-Wno-unused-parameter") // libtorch's headers
        .define("USE_DISTRIBUTED", None)
        .define("USE_C10D", None)
        .define("USE_C10D_NCCL", None)
        .include(shim)
        .file(shim.join("cuda.cpp"));
    for folder in [include.join("torch/csrc/api/include"), include].into_iter().chain(cuda_headers()) {
        cuda.flag("-isystem").flag(folder);
    }
    cuda.compile("torch_ext_cuda");

    // The libtorch that this is linked with may be one without CUDA: then what it needs of the other half is found when the
    // library is opened, by these names alone.
    let halves = [std::env::var_os("LIBTORCH_CUDA").map(|folder| PathBuf::from(folder).join("lib")), Some(lib)];
    let with_cuda = halves.into_iter().flatten().find(|folder| folder.join("libtorch_cuda.so").exists());
    if let Some(folder) = &with_cuda {
        // Every name must be there; what libtorch_cuda needs in turn is the machine's with the GPU.
        println!("cargo::rustc-link-arg-cdylib=-Wl,-z,defs,--allow-shlib-undefined,-rpath-link,{}", folder.display());
        for name in ["torch_cpu", "c10"] {
            println!("cargo::rustc-link-lib=dylib={name}");
        }
    }
    let folder = with_cuda.unwrap_or_else(stubs);
    println!("cargo::rustc-link-search=native={}", folder.display());
    println!("cargo::rustc-link-lib=dylib=torch_cuda");
    println!("cargo::rustc-link-lib=dylib=c10_cuda");
}

/// A folder of empty libraries with the names of libtorch's CUDA half.
fn stubs() -> PathBuf {
    // Of its own: a later build that has the real ones looks into cargo's.
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names a folder")).join("stubs");
    std::fs::create_dir_all(&folder).expect("cargo's folder can be written to");
    println!("cargo::rustc-link-arg-cdylib=-Wl,--unresolved-symbols=ignore-all");
    println!("cargo::rustc-link-arg-cdylib=-Wl,--no-as-needed");
    let compiler = cc::Build::new().cpp(true).get_compiler();
    for name in ["libtorch_cuda.so", "libc10_cuda.so"] {
        let mut command = compiler.to_command();
        command
            .args(["-shared", "-x", "c", "/dev/null", "-o"])
            .arg(folder.join(name))
            .arg(format!("-Wl,-soname,{name}"));
        assert!(command.status().is_ok_and(|status| status.success()), "{name} cannot be linked");
    }
    folder
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
