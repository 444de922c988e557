//! With the feature `cuda`: compiles the CUDA half of torch-ext, against CUDA's headers and libtorch's. With `hip`: against those of
//! HIP and of a ROCm libtorch, which calls AMD's GPUs CUDA devices.
use std::path::{Path, PathBuf};

/// A half of libtorch for GPUs.
struct Half {
    /// As cargo's feature and libtorch's libraries call it.
    name: &'static str,
    /// Names the libtorch that has it, where the one that torch-ext was built with has none.
    variable: &'static str,
    /// Defined for its headers.
    defines: &'static [&'static str],
    /// What else its headers include: a header, and what brings it.
    headers: &'static [&'static str],
    /// Where that may lie: folders that variables name, then the usual one.
    homes: &'static [&'static str],
    usual: &'static str,
    help: &'static str,
}

const CUDA: Half = Half {
    name: "cuda",
    variable: "LIBTORCH_CUDA",
    defines: &[],
    headers: &["cuda_runtime.h", "nccl.h"],
    homes: &["CUDA_HOME", "CUDA_PATH", "NCCL_HOME"],
    usual: "/usr/local/cuda",
    help: "load the site's CUDA and NCCL modules, set CUDA_HOME and NCCL_HOME, or call `scripts/setup --cuda`",
};

const HIP: Half = Half {
    name: "hip",
    variable: "LIBTORCH_HIP",
    defines: &["USE_ROCM", "__HIP_PLATFORM_AMD__", "HIPBLAS_V2"],
    headers: &["hip/hip_runtime_api.h", "rccl/rccl.h"],
    homes: &["ROCM_PATH", "ROCM_HOME", "HIP_PATH"],
    usual: "/opt/rocm",
    help: "load the site's ROCm module, set ROCM_PATH, or call `scripts/rocm-env`",
};

fn main() {
    let wanted = |feature: &str| std::env::var_os(feature).is_some();
    let half = match (wanted("CARGO_FEATURE_CUDA"), wanted("CARGO_FEATURE_HIP")) {
        (false, false) => return,
        (true, false) => CUDA,
        (false, true) => HIP,
        (true, true) => panic!("the features `cuda` and `hip` are for one libtorch each: take one of them"),
    };
    let shim = Path::new("../torch-ext/shim");
    println!("cargo::rerun-if-changed={}", shim.display());
    println!("cargo::rerun-if-env-changed={}", half.variable);
    let lib = PathBuf::from(
        std::env::var("DEP_TORCH_EXT_SHIM_LIBTORCH_LIB").expect("torch-ext gives libtorch's library folder"),
    );
    let with_half = std::env::var_os(half.variable).map(PathBuf::from);
    // The headers of a libtorch for the CPU are those for CUDA, too; those for HIP are others.
    let include = match &with_half {
        Some(folder) if half.name == HIP.name => folder.join("include"),
        _ => lib.parent().expect("a library folder has a parent").join("include"),
    };
    let mut cuda = cc::Build::new();
    cuda.cpp(true)
        .std("c++17")
        .flag("-Wno-unused-parameter") // libtorch's headers
        .define("USE_DISTRIBUTED", None)
        .define("USE_C10D", None)
        .define("USE_C10D_NCCL", None)
        .include(shim)
        .file(shim.join("cuda.cpp"));
    for name in half.defines {
        cuda.define(name, None);
    }
    for folder in [include.join("torch/csrc/api/include"), include].into_iter().chain(half.header_folders()) {
        cuda.flag("-isystem").flag(folder);
    }
    cuda.compile("torch_ext_cuda");

    // The libtorch that this is linked with may be one without CUDA: then what it needs of the other half is found when the
    // library is opened, by these names alone.
    let folders = [with_half.map(|folder| folder.join("lib")), Some(lib)];
    let of_half = folders.into_iter().flatten().find(|folder| folder.join(half.library("torch")).exists());
    if let Some(folder) = &of_half {
        // Every name must be there; what libtorch's half needs in turn is the machine's with the GPU.
        println!("cargo::rustc-link-arg-cdylib=-Wl,-z,defs,--allow-shlib-undefined,-rpath-link,{}", folder.display());
        for name in ["torch_cpu", "c10"] {
            println!("cargo::rustc-link-lib=dylib={name}");
        }
    }
    let folder = of_half.unwrap_or_else(|| half.stubs());
    println!("cargo::rustc-link-search=native={}", folder.display());
    println!("cargo::rustc-link-lib=dylib=torch_{}", half.name);
    println!("cargo::rustc-link-lib=dylib=c10_{}", half.name);
}

impl Half {
    fn library(&self, of: &str) -> String {
        format!("lib{of}_{}.so", self.name)
    }

    /// A folder of empty libraries with the names of this half's.
    fn stubs(&self) -> PathBuf {
        // Of its own: a later build that has the real ones looks into cargo's.
        let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names a folder")).join("stubs");
        std::fs::create_dir_all(&folder).expect("cargo's folder can be written to");
        println!("cargo::rustc-link-arg-cdylib=-Wl,--unresolved-symbols=ignore-all");
        println!("cargo::rustc-link-arg-cdylib=-Wl,--no-as-needed");
        let compiler = cc::Build::new().cpp(true).get_compiler();
        for name in ["torch", "c10"].map(|of| self.library(of)) {
            let mut command = compiler.to_command();
            command
                .args(["-shared", "-x", "c", "/dev/null", "-o"])
                .arg(folder.join(&name))
                .arg(format!("-Wl,-soname,{name}"));
            assert!(command.status().is_ok_and(|status| status.success()), "{name} cannot be linked");
        }
        folder
    }

    /// The folders of the headers that are not libtorch's.
    fn header_folders(&self) -> Vec<PathBuf> {
        for variable in self.homes {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        let named = self.homes.iter().filter_map(std::env::var_os).map(PathBuf::from);
        let homes = named.chain([self.usual.into(), "/usr".into()]);
        let folders: Vec<_> = homes.map(|home| home.join("include")).collect();
        let holder = |header: &&str| {
            folders.iter().find(|folder| folder.join(header).exists()).unwrap_or_else(|| {
                panic!("the feature `{}` needs {header}, which is in none of {folders:?}: {}", self.name, self.help)
            })
        };
        let mut headers: Vec<_> = self.headers.iter().map(holder).cloned().collect();
        headers.dedup();
        // CUDA 13 keeps the headers of its C++ libraries apart.
        headers.insert(0, headers[0].join("cccl"));
        headers.retain(|folder| folder.exists() && folder != Path::new("/usr/include"));
        headers
    }
}
