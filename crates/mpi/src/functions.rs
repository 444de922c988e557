//! MPI's functions, for handles of either width. MPICH's are C's `int`, everybody else's are pointers: a call must pass the
//! one that its library expects.

use std::ffi::{CStr, c_char, c_int, c_void};

/// A handle of MPI: a communicator, a datatype, an operation, a request. Whoever reads it knows its library's width.
#[derive(Clone, Copy)]
#[repr(C)]
pub union Handle {
    /// As MPICH has it.
    pub(crate) integer: c_int,
    /// As the others have it.
    pub(crate) pointer: *mut c_void,
}

impl Handle {
    pub(crate) const fn integer(integer: c_int) -> Self {
        // The other half of the pointer is zero, so that all of it has a value.
        let mut handle = Self { pointer: std::ptr::null_mut() };
        handle.integer = integer;
        handle
    }

    pub(crate) const fn pointer(pointer: *mut c_void) -> Self {
        Self { pointer }
    }
}

/// Where MPI writes a handle.
pub(crate) struct Out<'a>(pub &'a mut Handle);

/// What a handle is in a library's C interface.
pub(crate) trait Width: Copy {
    fn of(handle: Handle) -> Self;
}

impl Width for c_int {
    fn of(handle: Handle) -> Self {
        // SAFETY: every handle of an MPI with integers was made as one, by `Handle::integer` or by MPI in its place.
        unsafe { handle.integer }
    }
}

impl Width for *mut c_void {
    fn of(handle: Handle) -> Self {
        // SAFETY: all of a handle has a value, and any value is a pointer.
        unsafe { handle.pointer }
    }
}

/// What an argument is in C, where handles are `H`.
trait Argument<H> {
    type InC;
    fn in_c(self) -> Self::InC;
}

impl<H: Width> Argument<H> for Handle {
    type InC = H;
    fn in_c(self) -> H {
        H::of(self)
    }
}

impl<H: Width> Argument<H> for Out<'_> {
    type InC = *mut H;
    fn in_c(self) -> *mut H {
        std::ptr::from_mut(self.0).cast() // a union's members all begin where it begins
    }
}

macro_rules! as_they_are {
    ($($kind:ty),*) => {
        $(
            impl<H> Argument<H> for $kind {
                type InC = Self;
                fn in_c(self) -> Self {
                    self
                }
            }
        )*
    };
}

as_they_are!(c_int, &mut c_int, *mut c_int, *mut c_char, *mut *mut *mut c_char, *const c_void, *mut c_void);

macro_rules! functions {
    ($($symbol:literal $name:ident($($argument:ident: $kind:ty),*);)*) => {
        /// MPI's functions, whatever a handle is in C. All give MPI's return code.
        #[allow(clippy::too_many_arguments, reason = "C's own")]
        pub(crate) trait Interface {
            $(
                #[doc = concat!("`", $symbol, "`.\n\n# Safety\nAs in C.")]
                unsafe fn $name(&self $(, $argument: $kind)*) -> c_int;
            )*
        }

        /// The functions of a library whose handles are `H`.
        #[allow(clippy::type_complexity, reason = "C's own")]
        pub(crate) struct Functions<H: Width> {
            $($name: unsafe extern "C" fn($(<$kind as Argument<H>>::InC),*) -> c_int,)*
        }

        impl<H: Width> Functions<H> {
            /// The functions that `find` finds, by their names.
            ///
            /// # Safety
            /// They are MPI's, their handles are `H`, and their library is never closed.
            pub unsafe fn load(find: &dyn Fn(&CStr) -> Result<*mut c_void, String>) -> Result<Self, String> {
                Ok(Self {
                    $(
                        $name: {
                            let name = const {
                                match CStr::from_bytes_with_nul(concat!($symbol, "\0").as_bytes()) {
                                    Ok(name) => name,
                                    Err(_) => unreachable!(),
                                }
                            };
                            // SAFETY: by the caller, this function has that type.
                            unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($(<$kind as Argument<H>>::InC),*) -> c_int>(find(name)?) }
                        },
                    )*
                })
            }
        }

        #[allow(clippy::too_many_arguments, reason = "C's own")]
        impl<H: Width> Interface for Functions<H> {
            $(
                unsafe fn $name(&self $(, $argument: $kind)*) -> c_int {
                    // SAFETY: by the caller.
                    unsafe { (self.$name)($(Argument::<H>::in_c($argument)),*) }
                }
            )*
        }
    };
}

functions! {
    "MPI_Init_thread" init_thread(count: *mut c_int, arguments: *mut *mut *mut c_char, wanted: c_int, got: &mut c_int);
    "MPI_Initialized" initialized(yes: &mut c_int);
    "MPI_Finalize" finalize();
    "MPI_Finalized" finalized(yes: &mut c_int);
    "MPI_Abort" abort(communicator: Handle, exit_code: c_int);
    "MPI_Get_library_version" get_library_version(text: *mut c_char, length: &mut c_int);
    "MPI_Get_processor_name" get_processor_name(text: *mut c_char, length: &mut c_int);
    "MPI_Error_string" error_string(code: c_int, text: *mut c_char, length: &mut c_int);

    "MPI_Comm_rank" comm_rank(communicator: Handle, rank: &mut c_int);
    "MPI_Comm_size" comm_size(communicator: Handle, size: &mut c_int);
    "MPI_Comm_dup" comm_dup(communicator: Handle, new: Out<'_>);
    "MPI_Comm_split" comm_split(communicator: Handle, color: c_int, key: c_int, new: Out<'_>);
    "MPI_Comm_split_type" comm_split_type(communicator: Handle, kind: c_int, key: c_int, info: Handle, new: Out<'_>);
    "MPI_Comm_free" comm_free(communicator: Out<'_>);
    "MPI_Comm_set_errhandler" comm_set_errhandler(communicator: Handle, handler: Handle);

    "MPI_Allreduce" allreduce(data: *const c_void, result: *mut c_void, count: c_int, datatype: Handle, op: Handle, communicator: Handle);
    "MPI_Iallreduce" iallreduce(data: *const c_void, result: *mut c_void, count: c_int, datatype: Handle, op: Handle, communicator: Handle, request: Out<'_>);
    "MPI_Ibcast" ibcast(data: *mut c_void, count: c_int, datatype: Handle, root: c_int, communicator: Handle, request: Out<'_>);
    "MPI_Iallgather" iallgather(data: *const c_void, count: c_int, datatype: Handle, gathered: *mut c_void, of_each: c_int, of_type: Handle, communicator: Handle, request: Out<'_>);
    "MPI_Ibarrier" ibarrier(communicator: Handle, request: Out<'_>);

    "MPI_Isend" isend(data: *const c_void, count: c_int, datatype: Handle, to: c_int, tag: c_int, communicator: Handle, request: Out<'_>);
    "MPI_Irecv" irecv(data: *mut c_void, count: c_int, datatype: Handle, from: c_int, tag: c_int, communicator: Handle, request: Out<'_>);
    "MPI_Recv" recv(data: *mut c_void, count: c_int, datatype: Handle, from: c_int, tag: c_int, communicator: Handle, status: *mut c_void);
    "MPI_Iprobe" iprobe(from: c_int, tag: c_int, communicator: Handle, arrived: &mut c_int, status: *mut c_void);
    "MPI_Test" test(request: Out<'_>, done: &mut c_int, status: *mut c_void);
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn of_integers(communicator: c_int, new: *mut c_int) -> c_int {
        // SAFETY: the test gives a place.
        unsafe { *new = communicator + 1 };
        7
    }

    unsafe extern "C" fn of_pointers(communicator: *mut c_void, new: *mut *mut c_void) -> c_int {
        // SAFETY: the test gives a place.
        unsafe { *new = communicator.cast::<u8>().wrapping_add(1).cast() };
        8
    }

    #[test]
    fn a_call_passes_handles_as_wide_as_its_library_has_them() {
        let mut old = Handle::integer(-5);
        let mut new = Handle::pointer(std::ptr::null_mut());
        // SAFETY: the function is of integers, of which `load` finds it for every name; only this one is called.
        unsafe {
            let functions = Functions::<c_int>::load(&|_| Ok(of_integers as *mut c_void)).unwrap();
            assert_eq!(functions.comm_dup(old, Out(&mut new)), 7);
            assert_eq!(new.integer, -4);
            old = Handle::pointer(0x1234_5678_9abc_usize as *mut c_void);
            let functions = Functions::<*mut c_void>::load(&|_| Ok(of_pointers as *mut c_void)).unwrap();
            assert_eq!(functions.comm_dup(old, Out(&mut new)), 8);
            assert_eq!(new.pointer as usize, 0x1234_5678_9abd);
        }
    }

    #[test]
    fn a_function_that_is_missing_is_named() {
        let find = |name: &CStr| Err(format!("has no {}", name.to_string_lossy()));
        // SAFETY: nothing is found.
        let error = unsafe { Functions::<c_int>::load(&find) }.err();
        assert_eq!(error.as_deref(), Some("has no MPI_Init_thread"));
    }
}
