//! The CUDA half of this crate, a library of its own: opened once, where there is a GPU and libtorch knows CUDA. Until then
//! nothing of CUDA is loaded, so that one program runs everywhere.
#![expect(unsafe_code, reason = "opens libraries")]

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::ffi::CudaFunctions;
use crate::{Error, Result};

/// The library of crate torch-ext-cuda.
const LIBRARY: &str = "libtorch_ext_cuda.so";

/// A half of libtorch for GPUs, whose devices it calls CUDA's whoever made them.
struct Half {
    library: &'static str,
    maker: &'static str,
    /// The cargo feature that this program must have been built with.
    feature: &'static str,
    /// Where a driver shows that there is such a GPU: Linux, and Linux under Windows.
    drivers: &'static [&'static str],
}

const NVIDIA: Half =
    Half { library: "libtorch_cuda.so", maker: "NVIDIA", feature: "cuda", drivers: &["/dev/nvidiactl", "/dev/dxg"] };
const AMD: Half = Half { library: "libtorch_hip.so", maker: "AMD", feature: "hip", drivers: &["/dev/kfd"] };
const HALVES: [Half; 2] = [NVIDIA, AMD];

impl Half {
    fn has_driver(&self) -> bool {
        self.drivers.iter().any(|driver| Path::new(driver).exists())
    }
}

/// The functions, or why there are none.
static FUNCTIONS: OnceLock<std::result::Result<&'static CudaFunctions, String>> = OnceLock::new();

/// Opens the CUDA half where there is a GPU, once. To be called before libtorch is asked for devices: it looks once.
///
/// # Errors
/// Why there is none, in one line: no GPU, a libtorch without CUDA, a program built without it, or what the loader said.
pub fn open() -> std::result::Result<(), &'static str> {
    FUNCTIONS.get_or_init(find).as_ref().map(drop).map_err(String::as_str)
}

/// Whether a driver shows a GPU on this machine, whatever libtorch can do with it.
pub fn has_driver() -> bool {
    HALVES.iter().any(Half::has_driver)
}

/// Whether this libtorch's devices are AMD's.
pub fn is_amd() -> bool {
    libtorch_folder().is_some_and(|libtorch| libtorch.join(AMD.library).exists())
}

/// The functions, for what `call` does.
///
/// # Errors
/// Why there are none.
pub(crate) fn functions(call: &'static str) -> Result<&'static CudaFunctions> {
    FUNCTIONS.get_or_init(find).as_ref().copied().map_err(|why| Error::WithoutCuda { call, why: why.clone() })
}

fn find() -> std::result::Result<&'static CudaFunctions, String> {
    let libtorch = libtorch_folder().ok_or("libtorch's folder is not known")?;
    let Some(half) = HALVES.iter().find(|half| libtorch.join(half.library).exists()) else {
        let besides =
            if has_driver() { "" } else { ", and there is no NVIDIA GPU on this machine (no driver is loaded)" };
        return Err(format!("the libtorch in {} is one for the CPU alone{besides}", libtorch.display()));
    };
    if !half.has_driver() {
        let there_is = HALVES.iter().find(|other| other.has_driver());
        let besides = there_is
            .map_or(String::new(), |other| format!(", but one of {}, for which libtorch is another", other.maker));
        return Err(format!("there is no {} GPU on this machine (no driver is loaded){besides}", half.maker));
    }
    let Half { feature, .. } = half;
    let without = || format!("this program was built for no {} GPU; build it with `--features {feature}`", half.maker);
    let library = beside_program().ok_or_else(without)?;
    // Everything that its kernels register is for all of libtorch.
    load(&libtorch.join(half.library))?;
    let handle = load(&library)?;
    // SAFETY: the handle is open.
    let te_cuda = unsafe { libc::dlsym(handle, c"te_cuda".as_ptr()) };
    if te_cuda.is_null() {
        return Err(format!("{} is empty: it was built without the feature `{feature}`", library.display()));
    }
    // SAFETY: the library's function of that name takes nothing and gives a `te_cuda`, which begins with its size.
    let functions = unsafe {
        let te_cuda = std::mem::transmute::<*mut c_void, extern "C" fn() -> *const CudaFunctions>(te_cuda);
        te_cuda()
    };
    // SAFETY: it points to a constant of the library, which is never closed; only its first member is read.
    if unsafe { (*functions).size } != size_of::<CudaFunctions>() {
        return Err(format!("{} is of another build than this program", library.display()));
    }
    // SAFETY: as above, and it has this type's size.
    Ok(unsafe { &*functions })
}

/// Opens a library for good, visible to all.
fn load(path: &Path) -> std::result::Result<*mut c_void, String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: libraries of libtorch and of this workspace: their initializers register themselves with libtorch.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(handle);
    }
    // SAFETY: the loader's text, which is there until this thread's next call.
    let error = unsafe { libc::dlerror() };
    if error.is_null() {
        return Err(format!("{} cannot be loaded", path.display()));
    }
    // SAFETY: it is there until this thread's next call, and ends in zero.
    let error = unsafe { CStr::from_ptr(error) }.to_string_lossy();
    Err(format!("{} cannot be loaded: {error}", path.display()))
}

/// The library beside this program, or where cargo puts it.
fn beside_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    let above = folder.parent().unwrap_or(folder);
    let folders = [folder.to_owned(), folder.join("deps"), above.to_owned(), above.join("deps")];
    folders.into_iter().map(|folder| folder.join(LIBRARY)).find(|library| library.exists())
}

/// The folder of the libtorch that this process has.
pub fn libtorch_folder() -> Option<PathBuf> {
    // SAFETY: opens nothing (RTLD_NOLOAD): the process is linked with it.
    let handle = unsafe { libc::dlopen(c"libtorch_cpu.so".as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY) };
    if handle.is_null() {
        return None;
    }
    let mut map: *mut LinkMap = std::ptr::null_mut();
    // SAFETY: the handle is open; RTLD_DI_LINKMAP fills in a pointer to the loader's own description.
    let code = unsafe { libc::dlinfo(handle, RTLD_DI_LINKMAP, (&raw mut map).cast()) };
    if code != 0 || map.is_null() {
        return None;
    }
    // SAFETY: the description lives as long as the library; its name ends in zero.
    let path = unsafe { CStr::from_ptr((*map).name) };
    Path::new(OsStr::from_bytes(path.to_bytes())).parent().map(Path::to_owned)
}

/// The beginning of the loader's `struct link_map`.
#[repr(C)]
struct LinkMap {
    address: usize,
    name: *const c_char,
}

const RTLD_DI_LINKMAP: c_int = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_is_found_where_it_was_loaded_from() {
        let folder = libtorch_folder().unwrap();
        assert!(folder.join("libtorch_cpu.so").exists(), "{}", folder.display());
    }

    #[test]
    fn without_a_gpu_nothing_of_cuda_is_loaded() {
        if has_driver() {
            return; // scripts/gpu-check looks at the rest
        }
        assert!(open().unwrap_err().contains("no NVIDIA GPU"));
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(HALVES.iter().all(|half| !maps.contains(half.library)), "a half for GPUs is loaded");
    }
}
