//! The binary interfaces of MPI, as constants. A test compares them with every `mpi.h` at hand.

use std::ffi::{CStr, c_int, c_void};
use std::fmt;

use crate::element::{Element, Reduction};
use crate::functions::Handle;

/// How an MPI library is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abi {
    /// Open MPI from 3 on: handles are addresses of the library's own objects. IBM Spectrum MPI has it, too.
    OpenMpi,
    /// MPICH's since 2014: handles are integers. Cray MPICH, Intel MPI, MVAPICH and ParaStation MPI have it, too.
    Mpich,
    /// That of the MPI 5 standard, which MPICH 5 offers beside its own.
    Standard,
}

/// How the file of a library with the standard's ABI is called.
pub(crate) const STANDARD_NAME: &str = "libmpi_abi.so";

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenMpi => "Open MPI",
            Self::Mpich => "MPICH",
            Self::Standard => "the MPI 5 standard ABI",
        })
    }
}

impl Abi {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OpenMpi, Self::Mpich, Self::Standard];

    /// What libraries with this ABI are called, the usual name first.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::OpenMpi => &["libmpi.so.40", "libmpi_ibm.so.3"],
            // Debian's, then those of Cray's compilers.
            Self::Mpich => &[
                "libmpi.so.12",
                "libmpich.so.12",
                "libmpi_gnu_123.so.12",
                "libmpi_gnu_112.so.12",
                "libmpi_gnu_91.so.12",
                "libmpi_gnu_82.so.12",
                "libmpi_cray.so.12",
            ],
            Self::Standard => &["libmpi_abi.so.1", "libmpi_abi.so.0"],
        }
    }

    /// The ABI of a library by what it has, whatever its file is called; `None` where it is another (HPE MPT).
    pub(crate) fn of_library(is_standard: bool, has: impl Fn(&CStr) -> bool, version: &str) -> Option<Self> {
        // Of this name a library offers nothing else, even if others that it stands on do.
        if is_standard {
            return Some(Self::Standard);
        }
        if has(c"ompi_mpi_comm_world") {
            return Some(Self::OpenMpi);
        }
        let mpich = ["MPICH", "Intel(R) MPI", "MVAPICH", "ParaStation"];
        mpich.iter().any(|name| version.contains(name)).then_some(Self::Mpich)
    }

    /// Its constants. `find` finds a symbol of the library, which calls itself `version`.
    pub(crate) fn constants(
        self,
        find: &dyn Fn(&CStr) -> Result<*mut c_void, String>,
        version: &str,
    ) -> Result<Constants, String> {
        Ok(match self {
            Self::OpenMpi => {
                let object = |name| find(name).map(Handle::pointer);
                Constants {
                    comm_world: object(c"ompi_mpi_comm_world")?,
                    comm_null: object(c"ompi_mpi_comm_null")?,
                    request_null: object(c"ompi_request_null")?,
                    info_null: object(c"ompi_mpi_info_null")?,
                    errors_return: object(c"ompi_mpi_errors_return")?,
                    u8: object(c"ompi_mpi_uint8_t")?,
                    i32: object(c"ompi_mpi_int32_t")?,
                    i64: object(c"ompi_mpi_int64_t")?,
                    u64: object(c"ompi_mpi_uint64_t")?,
                    f32: object(c"ompi_mpi_float")?,
                    f64: object(c"ompi_mpi_double")?,
                    sum: object(c"ompi_mpi_op_sum")?,
                    product: object(c"ompi_mpi_op_prod")?,
                    min: object(c"ompi_mpi_op_min")?,
                    max: object(c"ompi_mpi_op_max")?,
                    in_place: std::ptr::without_provenance(1),
                    status_ignore: std::ptr::null_mut(),
                    undefined: -32766,
                    comm_type_shared: 0,
                    any_source: -1,
                    thread_multiple: 3,
                }
            }
            Self::Mpich => Constants {
                comm_world: Handle::integer(0x4400_0000),
                comm_null: Handle::integer(0x0400_0000),
                request_null: Handle::integer(0x2c00_0000),
                info_null: Handle::integer(0x1c00_0000),
                errors_return: Handle::integer(0x5400_0001),
                u8: Handle::integer(0x4c00_013b),
                i32: Handle::integer(0x4c00_0439),
                i64: Handle::integer(0x4c00_083a),
                u64: Handle::integer(0x4c00_083e),
                f32: Handle::integer(0x4c00_040a),
                f64: Handle::integer(0x4c00_080b),
                sum: Handle::integer(0x5800_0003),
                product: Handle::integer(0x5800_0004),
                min: Handle::integer(0x5800_0002),
                max: Handle::integer(0x5800_0001),
                in_place: std::ptr::without_provenance(usize::MAX),
                status_ignore: std::ptr::without_provenance_mut(1),
                undefined: -32766,
                comm_type_shared: 1,
                any_source: -2,
                thread_multiple: 3,
            },
            Self::Standard => {
                let handle = |number: usize| Handle::pointer(std::ptr::without_provenance_mut(number));
                Constants {
                    comm_world: handle(0x101),
                    comm_null: handle(0x100),
                    request_null: handle(0x180),
                    info_null: handle(0x130),
                    // Intel's header (2021.18) has this one and MPI_ERRORS_ABORT the other way round.
                    errors_return: handle(if version.contains("Intel(R) MPI") { 0x142 } else { 0x143 }),
                    u8: handle(0x241),
                    i32: handle(0x250),
                    i64: handle(0x258),
                    u64: handle(0x259),
                    f32: handle(0x210),
                    f64: handle(0x214),
                    sum: handle(0x21),
                    product: handle(0x24),
                    min: handle(0x22),
                    max: handle(0x23),
                    in_place: std::ptr::without_provenance(1),
                    status_ignore: std::ptr::null_mut(),
                    undefined: -32766,
                    comm_type_shared: 221,
                    any_source: -1,
                    thread_multiple: 4096,
                }
            }
        })
    }
}

/// The constants of `mpi.h` that are used here.
pub(crate) struct Constants {
    pub comm_world: Handle,
    pub comm_null: Handle,
    pub request_null: Handle,
    pub info_null: Handle,
    pub errors_return: Handle,
    u8: Handle,
    i32: Handle,
    i64: Handle,
    u64: Handle,
    f32: Handle,
    f64: Handle,
    sum: Handle,
    product: Handle,
    min: Handle,
    max: Handle,
    pub in_place: *const c_void,
    pub status_ignore: *mut c_void,
    pub undefined: c_int,
    pub comm_type_shared: c_int,
    pub any_source: c_int,
    pub thread_multiple: c_int,
}

impl Constants {
    pub fn datatype(&self, element: Element) -> Handle {
        match element {
            Element::U8 => self.u8,
            Element::I32 => self.i32,
            Element::I64 => self.i64,
            Element::U64 => self.u64,
            Element::F32 => self.f32,
            Element::F64 => self.f64,
        }
    }

    pub fn op(&self, reduction: Reduction) -> Handle {
        match reduction {
            Reduction::Sum => self.sum,
            Reduction::Product => self.product,
            Reduction::Min => self.min,
            Reduction::Max => self.max,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    /// Which headers there are: the system's Open MPI, and what `scripts/mpis-env` has brought.
    fn headers() -> Vec<(Abi, PathBuf)> {
        let brought = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../third-party/mpis");
        let known = [
            (Abi::OpenMpi, brought.join("openmpi/include/mpi.h")),
            (Abi::Mpich, brought.join("mpich/include/mpi.h")),
            (Abi::Standard, brought.join("mpich/include/mpi_abi.h")),
            (Abi::OpenMpi, "/usr/lib/x86_64-linux-gnu/openmpi/include/mpi.h".into()),
            (Abi::Mpich, "/usr/include/x86_64-linux-gnu/mpich/mpi.h".into()),
        ];
        known.into_iter().filter(|(_, header)| header.exists()).collect()
    }

    /// What a C compiler makes of a header: numbers, and the names of objects.
    fn of_header(abi: Abi, header: &Path) -> BTreeMap<&'static str, String> {
        let folder = tempfile::tempdir().unwrap();
        let number = |name: &str| format!("  printf(\"{name} %lld\\n\", (long long)(intptr_t)({name}));\n");
        // The addresses of Open MPI's objects are known to the library alone; their names stand in the header.
        let object = |name: &str| format!("  printf(\"{name} %s\\n\", TEXT({name}));\n");
        let handles = HANDLES.iter().map(|name| if abi == Abi::OpenMpi { object(name) } else { number(name) });
        let lines: String = handles.chain(NUMBERS.iter().map(|name| number(name))).collect();
        let source = folder.path().join("constants.c");
        let text = format!(
            "#include <stdint.h>\n#include <stdio.h>\n#include {:?}\n#define TEXT_(x) #x\n#define TEXT(x) TEXT_(x)\nint main(void) {{\n{lines}}}\n",
            header.canonicalize().unwrap()
        );
        std::fs::write(&source, text).unwrap();
        let program = folder.path().join("constants");
        let mut compiler = Command::new("cc");
        compiler.arg(&source).arg("-I").arg(header.parent().unwrap()).arg("-o").arg(&program);
        assert!(compiler.status().unwrap().success(), "{}", header.display());
        let printed = String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap();
        let value = |name: &&'static str| {
            let line = printed.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix(' ')).unwrap();
            // "((MPI_Comm)((void *) &(ompi_mpi_comm_world)))", or OMPI_PREDEFINED_GLOBAL(MPI_Comm, ompi_mpi_comm_world).
            let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '-');
            let name_of_object = words.rfind(|word| word.starts_with("ompi_"));
            (*name, name_of_object.unwrap_or(line).to_owned())
        };
        HANDLES.iter().chain(NUMBERS).map(value).collect()
    }

    const HANDLES: &[&str] = &[
        "MPI_COMM_WORLD",
        "MPI_COMM_NULL",
        "MPI_REQUEST_NULL",
        "MPI_INFO_NULL",
        "MPI_ERRORS_RETURN",
        "MPI_UINT8_T",
        "MPI_INT32_T",
        "MPI_INT64_T",
        "MPI_UINT64_T",
        "MPI_FLOAT",
        "MPI_DOUBLE",
        "MPI_SUM",
        "MPI_PROD",
        "MPI_MIN",
        "MPI_MAX",
    ];
    const NUMBERS: &[&str] = &[
        "MPI_IN_PLACE",
        "MPI_STATUS_IGNORE",
        "MPI_UNDEFINED",
        "MPI_COMM_TYPE_SHARED",
        "MPI_ANY_SOURCE",
        "MPI_THREAD_MULTIPLE",
    ];

    /// The constants of this file, in the same form.
    fn ours(abi: Abi) -> BTreeMap<&'static str, String> {
        // An object is known again by the number of its name.
        let asked = RefCell::new(Vec::new());
        let find = |name: &CStr| {
            asked.borrow_mut().push(name.to_string_lossy().into_owned());
            Ok(asked.borrow().len() as *mut c_void)
        };
        let constants = abi.constants(&find, "MPICH Version: 5.0.2").unwrap();
        let handle = |handle: Handle| {
            // SAFETY: MPICH's handles are integers, the others' pointers.
            #[expect(unsafe_code, reason = "reads a union")]
            let number = unsafe {
                match abi {
                    Abi::Mpich => i64::from(handle.integer),
                    _ => handle.pointer as i64,
                }
            };
            if abi == Abi::OpenMpi { asked.borrow()[number as usize - 1].clone() } else { number.to_string() }
        };
        let c = &constants;
        let handles = [
            c.comm_world,
            c.comm_null,
            c.request_null,
            c.info_null,
            c.errors_return,
            c.u8,
            c.i32,
            c.i64,
            c.u64,
            c.f32,
            c.f64,
            c.sum,
            c.product,
            c.min,
            c.max,
        ];
        let numbers = [
            c.in_place as i64,
            c.status_ignore as i64,
            c.undefined.into(),
            c.comm_type_shared.into(),
            c.any_source.into(),
            c.thread_multiple.into(),
        ];
        let handles = HANDLES.iter().copied().zip(handles.map(handle));
        handles.chain(NUMBERS.iter().copied().zip(numbers.map(|number| number.to_string()))).collect()
    }

    #[test]
    fn constants_are_those_of_the_headers() {
        let headers = headers();
        for abi in Abi::ALL {
            if !headers.iter().any(|(of, _)| *of == abi) {
                eprintln!("SKIPPED: no header of {abi} is here (scripts/mpis-env brings one)");
            }
        }
        for (abi, header) in headers {
            assert_eq!(ours(abi), of_header(abi, &header), "{}", header.display());
        }
    }

    #[test]
    fn a_library_is_known_by_what_it_has() {
        let open = |name: &CStr| name == c"ompi_mpi_comm_world";
        let none = |_: &CStr| false;
        assert_eq!(Abi::of_library(false, open, "Open MPI v5.0.11"), Some(Abi::OpenMpi));
        assert_eq!(Abi::of_library(false, open, "IBM Spectrum MPI v10.4"), Some(Abi::OpenMpi));
        for version in [
            "MPICH Version: 4.0.2",
            "Intel(R) MPI Library 2021.17",
            "MVAPICH Version : 3.0",
            "MPI VERSION : CRAY MPICH version 8.1.29",
        ] {
            assert_eq!(Abi::of_library(false, none, version), Some(Abi::Mpich), "{version}");
        }
        assert_eq!(Abi::of_library(true, open, "Open MPI v6.0.0"), Some(Abi::Standard));
        assert_eq!(Abi::of_library(false, none, "HPE MPT 2.28"), None);
    }
}
