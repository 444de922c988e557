//! Two MPIs at once: the `mpirun` of one, and a library of another that the environment shows.

use std::path::Path;

use mpi::{Found, Origin};

/// Says so, where the `mpirun` of `PATH` belongs to another installation than the library that a variable shows. `found` is all
/// that [`mpi::find`] has found.
pub fn mixed_mpis(found: &[Found]) -> Option<String> {
    let (mpirun, of_path) = found.iter().find_map(|found| match &found.origin {
        Origin::InPath(program) => Some((program, found)),
        _ => None,
    })?;
    let (variable, shown) = found.iter().find_map(|found| match found.origin {
        Origin::Variable(name) => Some((name, found)),
        _ => None,
    })?;
    let whose = |found: &Found| format!("{} ({})", found.abi, found.path.display());
    let conda = if is_condas(mpirun) { ", which is conda's," } else { "" };
    Some(format!(
        "two MPIs are mixed: {variable} shows {}, and {}{conda} is the launcher of {}: put the bin folder of the MPI that you \
         mean first in PATH, unload the other one's module, or leave conda's environment",
        whose(shown),
        mpirun.display(),
        whose(of_path)
    ))
}

/// Whether a program lies in an environment of conda's.
fn is_condas(program: &Path) -> bool {
    program.ancestors().nth(2).is_some_and(|prefix| prefix.join("conda-meta").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mpi::Abi;

    #[test]
    fn only_different_installations_are_mixed() {
        let found = |path: &str, abi, origin| Found { path: path.into(), abi, origin };
        let of_path = || found("/conda/lib/libmpi.so.12", Abi::Mpich, Origin::InPath("/conda/bin/mpirun".into()));
        let shown = || found("/opt/ompi/lib/libmpi.so.40", Abi::OpenMpi, Origin::Variable("LD_LIBRARY_PATH"));
        let system = || found("/usr/lib/libmpi.so.40", Abi::OpenMpi, Origin::System);
        let text = mixed_mpis(&[shown(), of_path(), system()]).unwrap();
        assert!(text.starts_with("two MPIs are mixed: LD_LIBRARY_PATH shows Open MPI (/opt/ompi/lib/libmpi.so.40), and /conda/bin/mpirun is the launcher of MPICH (/conda/lib/libmpi.so.12)"), "{text}");
        // What both show counts once, by the variable.
        assert_eq!(mixed_mpis(&[shown(), system()]), None);
        assert_eq!(mixed_mpis(&[of_path(), system()]), None);
    }
}
