//! MPI's C interface, of whichever MPI started this program: nothing is linked, the library is opened when the world is
//! made ([`find`] says which), and spoken to by its own ABI ([`Abi`]). So one program serves them all.
//!
//! What is called here may block, and return codes are numbers: `world` makes collectives with time-outs and names of it.
#![expect(unsafe_code, reason = "opens a library and calls C")]

mod abi;
mod element;
mod find;
mod functions;
mod launcher;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

pub use abi::Abi;
pub use element::{Element, Reduction};
pub use find::{Choice, Found, NoLibrary, Origin, Search, find, open};
pub use functions::Handle;
pub use launcher::{Launcher, Manager, idle_tasks, is_on_one_node, local_tasks};

use abi::Constants;
use functions::{Functions, Interface, Out};

/// Whose GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpu {
    /// NVIDIA's.
    Cuda,
    /// AMD's.
    Hip,
}

/// An error that MPI reported.
#[derive(Debug)]
pub struct Error {
    /// The MPI function.
    pub call: &'static str,
    /// MPI's text for its error code.
    pub message: String,
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// Turns MPI's return code into an error with MPI's own text.
///
/// # Errors
/// What MPI reported.
pub fn check(call: &'static str, code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(()); // MPI_SUCCESS is 0 by the standard
    }
    let message = mpi().error_string(code).unwrap_or_else(|| format!("error code {code}"));
    Err(Error { call, message })
}

/// An MPI library, opened.
pub struct Mpi {
    interface: Box<dyn Interface + Send + Sync>,
    constants: Constants,
    found: Found,
}

// SAFETY: its handles are constants, and `World::init` demands MPI_THREAD_MULTIPLE.
unsafe impl Send for Mpi {}
// SAFETY: as above.
unsafe impl Sync for Mpi {}

static MPI: OnceLock<Mpi> = OnceLock::new();

/// The library of this process.
///
/// # Panics
/// Before [`open`] has opened one.
pub fn mpi() -> &'static Mpi {
    MPI.get().expect("the world is made before MPI is used")
}

/// The library, where one was opened.
pub fn opened() -> Option<&'static Mpi> {
    MPI.get()
}

/// Opens the library of `found`, once in a process.
///
/// # Errors
/// What the loader said, or what the library lacks.
pub(crate) fn open_library(found: Found) -> Result<&'static Mpi, String> {
    if let Some(mpi) = MPI.get() {
        return Ok(mpi);
    }
    let library = Opened::of(&found.path)?;
    let abi = library.abi()?;
    let found = Found { abi, ..found };
    let find = |name: &CStr| library.symbol(name);
    let missing = |error: String| format!("{}: {error}", found.path.display());
    // SAFETY: the library has this ABI, and is never closed.
    let interface: Box<dyn Interface + Send + Sync> = unsafe {
        match abi {
            Abi::Mpich => Box::new(Functions::<c_int>::load(&find).map_err(missing)?),
            Abi::OpenMpi | Abi::Standard => Box::new(Functions::<*mut c_void>::load(&find).map_err(missing)?),
        }
    };
    let constants = abi.constants(&find, &library.version()?).map_err(missing)?;
    Ok(MPI.get_or_init(|| Mpi { interface, constants, found }))
}

/// The file of a library that was opened, links followed: where only the loader knew its folder, it is asked.
pub fn path_of(found: &Found) -> PathBuf {
    let path = Opened::of(&found.path).ok().and_then(|library| library.path()).unwrap_or_else(|| found.path.clone());
    path.canonicalize().unwrap_or(path)
}

/// A collective failed: what is collective is no longer called to put things away.
static ABANDONED: AtomicBool = AtomicBool::new(false);

/// From here on no communicator is freed: that is collective, and ranks are out of step.
pub fn abandon() {
    ABANDONED.store(true, Ordering::SeqCst);
}

/// A library in this process, for as long as it lives.
struct Opened(*mut c_void);

impl Opened {
    /// Opens `path`, visible to what it opens in turn: Open MPI's parts look for its symbols.
    fn of(path: &Path) -> Result<Self, String> {
        use std::os::unix::ffi::OsStrExt;
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: a path that ends in zero; the library's own initializers are trusted, as those of a linked one would be.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if handle.is_null() { Err(last_error()) } else { Ok(Self(handle)) }
    }

    fn symbol(&self, name: &CStr) -> Result<*mut c_void, String> {
        // SAFETY: the handle came from `dlopen` and is never closed.
        let symbol = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if symbol.is_null() { Err(format!("has no {}", name.to_string_lossy())) } else { Ok(symbol) }
    }

    /// What the library calls itself, which its file's name need not tell.
    fn version(&self) -> Result<String, String> {
        type Version = unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int;
        let function = self.symbol(c"MPI_Get_library_version")?;
        let mut text = vec![0u8; LONGEST_VERSION];
        let mut length = 0;
        // SAFETY: the function has this type in every ABI, may be called before MPI_Init, and `text` is longer than any
        // MPI_MAX_LIBRARY_VERSION_STRING.
        let code = unsafe {
            let function = std::mem::transmute::<*mut c_void, Version>(function);
            function(text.as_mut_ptr().cast(), &mut length)
        };
        if code != 0 {
            return Err(format!("MPI_Get_library_version gave {code}"));
        }
        Ok(first_line(&text, length))
    }

    fn abi(&self) -> Result<Abi, String> {
        let is_called_so = |path: PathBuf| path.file_name()?.to_str().map(|file| file.starts_with(abi::STANDARD_NAME));
        let is_standard = self.path().and_then(is_called_so).unwrap_or(false);
        let version = self.version()?;
        Abi::of_library(is_standard, |name| self.symbol(name).is_ok(), &version)
            .ok_or_else(|| format!("\"{version}\" has an ABI of its own, which rust-train does not know"))
    }

    /// The file that the loader took.
    fn path(&self) -> Option<PathBuf> {
        let mut map: *mut LinkMap = std::ptr::null_mut();
        // SAFETY: the handle is open; RTLD_DI_LINKMAP fills in a pointer to the loader's own description.
        let code = unsafe { libc::dlinfo(self.0, RTLD_DI_LINKMAP, (&raw mut map).cast()) };
        if code != 0 || map.is_null() {
            return None;
        }
        // SAFETY: the loader's description lives as long as the library; its name ends in zero.
        let path = unsafe { CStr::from_ptr((*map).name) };
        Some(PathBuf::from(path.to_string_lossy().into_owned()))
    }
}

/// The beginning of the loader's `struct link_map`.
#[repr(C)]
struct LinkMap {
    address: usize,
    name: *const c_char,
}

const RTLD_DI_LINKMAP: c_int = 2;

/// More than any MPI's MPI_MAX_LIBRARY_VERSION_STRING (MPICH: 8192).
const LONGEST_VERSION: usize = 16 << 10;

fn last_error() -> String {
    // SAFETY: the loader's text, which is there until this thread's next call.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() { "it could not be opened".to_owned() } else { CStr::from_ptr(text).to_string_lossy().into() }
    }
}

fn first_line(text: &[u8], length: c_int) -> String {
    let text = String::from_utf8_lossy(&text[..(length.max(0) as usize).min(text.len())]).into_owned();
    // MPICH gives "MPICH Version:      4.0.2".
    let line = text.lines().next().unwrap_or_default();
    line.trim_end_matches('\0').split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Mpi {
    /// Where it was found.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// "Open MPI v4.1.4, package: …", one line.
    pub fn version(&self) -> String {
        let mut text = vec![0u8; LONGEST_VERSION];
        let mut length = 0;
        // SAFETY: `text` is longer than any MPI's longest.
        unsafe { self.interface.get_library_version(text.as_mut_ptr().cast(), &mut length) };
        first_line(&text, length)
    }

    /// `MPI_Init_thread`, asking for MPI_THREAD_MULTIPLE; gives whether that is what came, or `None` where MPI was initialized
    /// before.
    pub fn init(&self) -> Result<Option<bool>> {
        let mut before = 0;
        // SAFETY: may be called at any time.
        check("MPI_Initialized", unsafe { self.interface.initialized(&mut before) })?;
        if before != 0 {
            return Ok(None);
        }
        let (wanted, mut got) = (self.constants.thread_multiple, 0);
        let none = std::ptr::null_mut();
        // SAFETY: MPI takes null in the place of `main`'s arguments.
        check("MPI_Init_thread", unsafe { self.interface.init_thread(none, none.cast(), wanted, &mut got) })?;
        Ok(Some(got >= wanted))
    }

    /// Whether MPI is initialized and not finalized.
    pub fn is_running(&self) -> bool {
        let (mut begun, mut ended) = (0, 0);
        // SAFETY: both may be called at any time.
        unsafe {
            self.interface.initialized(&mut begun);
            self.interface.finalized(&mut ended);
        }
        begun != 0 && ended == 0
    }

    /// `MPI_Finalize`.
    pub fn finalize(&self) {
        if self.is_running() {
            // SAFETY: MPI is initialized, and not finalized.
            let _ = unsafe { self.interface.finalize() };
        }
    }

    /// Ends all ranks with `exit_code`, if MPI runs. May come back where MPI does not manage to.
    pub fn abort(&self, exit_code: c_int) {
        if self.is_running() {
            // SAFETY: MPI is initialized and not finalized; MPI_Abort may be called from any thread.
            let _ = unsafe { self.interface.abort(self.constants.comm_world, exit_code) };
        }
    }

    /// This node's name.
    pub fn processor_name(&self) -> Option<String> {
        let mut text = vec![0u8; 1024]; // MPI_MAX_PROCESSOR_NAME is 128 or 256
        let mut length = 0;
        // SAFETY: `text` is longer than any MPI's longest name.
        let code = unsafe { self.interface.get_processor_name(text.as_mut_ptr().cast(), &mut length) };
        (code == 0).then(|| first_line(&text, length))
    }

    /// Whether this MPI says that it reads and writes the memory of such GPUs ("CUDA-aware"). To be asked after [`init`](Self::init).
    ///
    /// Open MPI and its children are not asked: their reductions bring a device's memory to the host first, through memory that is not
    /// page-locked.
    pub fn reaches(&self, gpu: Gpu) -> bool {
        if self.found.abi == Abi::OpenMpi || self.version().starts_with("Open MPI") {
            return false;
        }
        // SAFETY: the functions of these names are MPI's, and this library is never closed.
        Opened::of(&self.found.path).is_ok_and(|library| unsafe { reaches(gpu, &|name| library.symbol(name).ok()) })
    }

    /// MPI's text for a return code.
    pub fn error_string(&self, code: c_int) -> Option<String> {
        let mut text = vec![0u8; 4096]; // MPI_MAX_ERROR_STRING is 256 to 512
        let mut length = 0;
        // SAFETY: `text` is longer than any MPI's longest error text.
        let known = unsafe { self.interface.error_string(code, text.as_mut_ptr().cast(), &mut length) } == 0;
        known.then(|| String::from_utf8_lossy(&text[..(length.max(0) as usize).min(text.len())]).into_owned())
    }

    /// All ranks.
    pub fn world(&self) -> Communicator {
        Communicator { handle: self.constants.comm_world, is_own: false }
    }

    /// No request yet.
    pub fn request(&self) -> Handle {
        self.constants.request_null
    }

    fn datatype(&self, element: Element) -> Handle {
        self.constants.datatype(element)
    }

    /// Whether `request` is done, in `done`.
    ///
    /// # Safety
    /// The request came from a call of this library; where it is done, its buffers may be used again.
    pub unsafe fn test(&self, request: &mut Handle, done: &mut c_int) -> c_int {
        // SAFETY: by the caller; no status is wanted.
        unsafe { self.interface.test(Out(request), done, self.constants.status_ignore) }
    }
}

/// Asks a library, whose functions `find` finds, whether it reaches the memory of such GPUs. The standard has no such question: MPICH and
/// others have a function for each maker, some of MPICH's children one for all.
///
/// # Safety
/// What `find` finds is MPI's.
unsafe fn reaches(gpu: Gpu, find: &dyn Fn(&CStr) -> Option<*mut c_void>) -> bool {
    type OfOne = unsafe extern "C" fn() -> c_int;
    type OfAll = unsafe extern "C" fn(c_int, *mut c_int) -> c_int;
    let (names, number): (&[&CStr], c_int) = match gpu {
        Gpu::Cuda => (&[c"MPIX_Query_cuda_support"], 0),
        Gpu::Hip => (&[c"MPIX_Query_rocm_support", c"MPIX_Query_hip_support"], 2),
    };
    if let Some(question) = names.iter().find_map(|name| find(name)) {
        // SAFETY: by the caller, the functions of these names take nothing, and give 1 for yes.
        return unsafe { std::mem::transmute::<*mut c_void, OfOne>(question)() } == 1;
    }
    let Some(question) = find(c"MPIX_GPU_query_support") else { return false };
    let mut yes = 0;
    // SAFETY: by the caller, it takes the number of a maker (MPIX_GPU_SUPPORT_…), and a place for its answer.
    let code = unsafe { std::mem::transmute::<*mut c_void, OfAll>(question)(number, &raw mut yes) };
    code == 0 && yes != 0
}

/// A communicator, freed with its last use.
///
/// Collectives give MPI's return code, and are unsafe as in C: what is sent and received must live, and be left alone, until
/// the request is done.
pub struct Communicator {
    handle: Handle,
    is_own: bool,
}

// SAFETY: a communicator is a handle that any thread may use under MPI_THREAD_MULTIPLE, which `World::init` demands.
unsafe impl Send for Communicator {}

impl Drop for Communicator {
    fn drop(&mut self) {
        // After a lost rank nothing is put away: MPI_Comm_free is collective.
        if self.is_own && mpi().is_running() && !ABANDONED.load(Ordering::SeqCst) {
            // SAFETY: our own communicator, with no request under way.
            unsafe { mpi().interface.comm_free(Out(&mut self.handle)) };
        }
    }
}

impl Communicator {
    /// This rank.
    pub fn rank(&self) -> usize {
        let mut rank = 0;
        // SAFETY: the communicator is valid.
        unsafe { mpi().interface.comm_rank(self.handle, &mut rank) };
        rank.max(0) as usize
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        let mut size = 0;
        // SAFETY: the communicator is valid.
        unsafe { mpi().interface.comm_size(self.handle, &mut size) };
        size.max(0) as usize
    }

    /// The same ranks, apart from this communicator's messages; errors come back as return codes. Collective.
    pub fn duplicate(&self) -> Result<Self> {
        let mut handle = mpi().constants.comm_null;
        // SAFETY: the communicator is valid.
        check("MPI_Comm_dup", unsafe { mpi().interface.comm_dup(self.handle, Out(&mut handle)) })?;
        let new = Self { handle, is_own: true };
        // SAFETY: the communicator was just made and is valid.
        let code = unsafe { mpi().interface.comm_set_errhandler(new.handle, mpi().constants.errors_return) };
        check("MPI_Comm_set_errhandler", code).map(|()| new)
    }

    /// The ranks that `belong`, in their order; `None` on the others. Collective.
    pub fn split(&self, belongs: bool) -> Result<Option<Self>> {
        let color = if belongs { 0 } else { mpi().constants.undefined };
        let mut handle = mpi().constants.comm_null;
        // SAFETY: the communicator is valid.
        let code = unsafe { mpi().interface.comm_split(self.handle, color, self.rank() as c_int, Out(&mut handle)) };
        check("MPI_Comm_split", code)?;
        Ok(belongs.then(|| Self { handle, is_own: true })) // not `then_some`: that would free what the others have not
    }

    /// The ranks that share this one's memory, in their order. Collective.
    pub fn split_shared(&self) -> Result<Self> {
        let Constants { comm_type_shared, info_null, comm_null, .. } = mpi().constants;
        let (mut handle, key) = (comm_null, self.rank() as c_int);
        // SAFETY: the communicator is valid.
        let code =
            unsafe { mpi().interface.comm_split_type(self.handle, comm_type_shared, key, info_null, Out(&mut handle)) };
        check("MPI_Comm_split_type", code).map(|()| Self { handle, is_own: true })
    }

    /// `MPI_Allreduce`, in place.
    ///
    /// # Safety
    /// `data` holds `count` elements.
    pub unsafe fn all_reduce(&self, data: *mut c_void, count: c_int, element: Element, reduction: Reduction) -> c_int {
        let Mpi { interface, constants, .. } = mpi();
        let (datatype, op) = (constants.datatype(element), constants.op(reduction));
        // SAFETY: by the caller.
        unsafe { interface.allreduce(constants.in_place, data, count, datatype, op, self.handle) }
    }

    /// `MPI_Iallreduce`, in place.
    ///
    /// # Safety
    /// `data` holds `count` elements, and is left alone until the request is done.
    pub unsafe fn start_all_reduce(
        &self,
        data: *mut c_void,
        count: c_int,
        element: Element,
        reduction: Reduction,
        request: &mut Handle,
    ) -> c_int {
        let Mpi { interface, constants, .. } = mpi();
        let (datatype, op) = (constants.datatype(element), constants.op(reduction));
        // SAFETY: by the caller.
        unsafe { interface.iallreduce(constants.in_place, data, count, datatype, op, self.handle, Out(request)) }
    }

    /// `MPI_Ibcast`.
    ///
    /// # Safety
    /// As [`start_all_reduce`](Self::start_all_reduce).
    pub unsafe fn start_broadcast(
        &self,
        data: *mut c_void,
        count: c_int,
        element: Element,
        root: usize,
        request: &mut Handle,
    ) -> c_int {
        let datatype = mpi().datatype(element);
        // SAFETY: by the caller.
        unsafe { mpi().interface.ibcast(data, count, datatype, root as c_int, self.handle, Out(request)) }
    }

    /// `MPI_Iallgather`: `count` elements of each rank.
    ///
    /// # Safety
    /// `data` holds `count` elements, `gathered` so many of every rank; both are left alone until the request is done.
    pub unsafe fn start_all_gather(
        &self,
        data: *const c_void,
        gathered: *mut c_void,
        count: c_int,
        element: Element,
        request: &mut Handle,
    ) -> c_int {
        let datatype = mpi().datatype(element);
        // SAFETY: by the caller.
        unsafe {
            mpi().interface.iallgather(data, count, datatype, gathered, count, datatype, self.handle, Out(request))
        }
    }

    /// `MPI_Ibarrier`.
    ///
    /// # Safety
    /// As in C.
    pub unsafe fn start_barrier(&self, request: &mut Handle) -> c_int {
        // SAFETY: by the caller.
        unsafe { mpi().interface.ibarrier(self.handle, Out(request)) }
    }

    /// `MPI_Isend`.
    ///
    /// # Safety
    /// `data` holds `count` of them, and is left alone until the request is done.
    pub unsafe fn start_send(
        &self,
        data: *const c_void,
        count: c_int,
        element: Element,
        to: usize,
        tag: c_int,
        request: &mut Handle,
    ) -> c_int {
        let datatype = mpi().datatype(element);
        // SAFETY: by the caller.
        unsafe { mpi().interface.isend(data, count, datatype, to as c_int, tag, self.handle, Out(request)) }
    }

    /// `MPI_Irecv`.
    ///
    /// # Safety
    /// `data` has room for `count` of them, and is left alone until the request is done.
    pub unsafe fn start_receive(
        &self,
        data: *mut c_void,
        count: c_int,
        element: Element,
        from: usize,
        tag: c_int,
        request: &mut Handle,
    ) -> c_int {
        let datatype = mpi().datatype(element);
        // SAFETY: by the caller.
        unsafe { mpi().interface.irecv(data, count, datatype, from as c_int, tag, self.handle, Out(request)) }
    }

    /// `MPI_Iprobe`: whether a message with `tag` of any rank has arrived.
    pub fn has_message(&self, tag: c_int) -> bool {
        let Mpi { interface, constants, .. } = mpi();
        let mut arrived = 0;
        // SAFETY: the communicator is valid; no status is wanted.
        let code =
            unsafe { interface.iprobe(constants.any_source, tag, self.handle, &mut arrived, constants.status_ignore) };
        code == 0 && arrived != 0 // an error of MPI comes to light in the collective itself
    }

    /// `MPI_Recv` of 64-bit numbers, of any rank.
    ///
    /// # Safety
    /// `data` has room for `count` of them.
    pub unsafe fn receive_from_any(&self, data: *mut u64, count: c_int, tag: c_int) -> c_int {
        let Mpi { interface, constants, .. } = mpi();
        let datatype = constants.datatype(Element::U64);
        // SAFETY: by the caller; no status is wanted.
        unsafe {
            interface.recv(
                data.cast(),
                count,
                datatype,
                constants.any_source,
                tag,
                self.handle,
                constants.status_ignore,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn yes() -> c_int {
        1
    }

    extern "C" fn no() -> c_int {
        0
    }

    unsafe extern "C" fn of_amd_only(maker: c_int, answer: *mut c_int) -> c_int {
        // SAFETY: the caller gives a place.
        unsafe { *answer = c_int::from(maker == 2) };
        0
    }

    unsafe extern "C" fn failing(_: c_int, answer: *mut c_int) -> c_int {
        // SAFETY: the caller gives a place.
        unsafe { *answer = 1 };
        15
    }

    #[test]
    fn each_mpi_is_asked_whether_it_reaches_gpus_in_its_own_words() {
        let (yes, no) = (yes as *mut c_void, no as *mut c_void);
        let library = [
            ("one for CUDA", vec![(c"MPIX_Query_cuda_support", yes), (c"MPIX_Query_rocm_support", no)], [true, false]),
            ("MPICH", vec![(c"MPIX_Query_cuda_support", no), (c"MPIX_Query_hip_support", yes)], [false, true]),
            ("Cray's", vec![(c"MPIX_GPU_query_support", of_amd_only as *mut c_void)], [false, true]),
            ("one that fails", vec![(c"MPIX_GPU_query_support", failing as *mut c_void)], [false, false]),
            ("another", vec![], [false, false]),
        ];
        for (name, functions, expected) in library {
            let find =
                |wanted: &CStr| functions.iter().find(|(name, _)| *name == wanted).map(|&(_, function)| function);
            // SAFETY: the functions have the types that these names stand for.
            let answers = [Gpu::Cuda, Gpu::Hip].map(|gpu| unsafe { reaches(gpu, &find) });
            assert_eq!(answers, expected, "{name}");
        }
    }
}
