//! Compiles the one constant of `mpi.h` that differs between MPIs and that rsmpi does not hand on.
fn main() {
    println!("cargo::rerun-if-changed=src/in_place.c");
    println!("cargo::rerun-if-env-changed=MPICC");
    let mut build = cc::Build::new();
    build.file("src/in_place.c");
    match build_probe_mpi::probe() {
        Ok(library) => match library.mpicc {
            Some(mpicc) => build.compiler(mpicc),
            None => build.includes(library.include_paths),
        },
        Err(reasons) => panic!("no MPI was found: run scripts/setup, or load an MPI module; tried: {reasons:?}"),
    };
    build.compile("world_in_place");
}
