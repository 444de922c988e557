# For Spack 1.x: into a repository of your own (`spack repo create`), as packages/rust_train/package.py.

from spack_repo.builtin.build_systems.cargo import CargoBuilder as Builder
from spack_repo.builtin.build_systems.cargo import CargoPackage

from spack.package import *


class RustTrain(CargoPackage):
    """Data-parallel training of image models under mpirun and srun, in Rust."""

    # There is no public address and no release yet, so no checksum either: your clone goes here.
    git = "file:///path/to/rust-train"
    version("main", branch="main")

    license("MIT OR Apache-2.0")

    variant("cuda", default=False, description="Compute on NVIDIA GPUs, with gradients over NCCL")

    with default_args(type="build"):
        depends_on("c")
        depends_on("cxx")
        depends_on("rust@1.89:")
        depends_on("cmake")  # libjpeg-turbo comes with a crate
        depends_on("nasm", when="target=x86_64:")
        depends_on("pkgconfig")

    depends_on("hdf5@1.10:~mpi")  # ~mpi, here and below: no MPI shall be loaded before the launcher's is looked for
    # Its libtorch, found by rpath: tch 0.24 is for this one alone.
    depends_on("py-torch@2.11.0+distributed~mpi", type=("build", "link", "run"))
    depends_on("py-torch~cuda", when="~cuda")
    with when("+cuda"):
        depends_on("py-torch+cuda+nccl")
        depends_on("cuda")
        depends_on("nccl")
    # Opened when a run starts; the build needs none.
    depends_on("mpi", type="run")


class CargoBuilder(Builder):
    install_time_test_callbacks = []  # scripts/test wants launchers, several MPIs and Slurm

    def setup_build_environment(self, env):
        platlib = self.spec["python"].package.platlib  # below any package's prefix
        env.set("LIBTORCH", join_path(self.spec["py-torch"].prefix, platlib, "torch"))
        env.set("HDF5_DIR", self.spec["hdf5"].prefix)
        if self.spec.satisfies("+cuda"):
            env.set("CUDA_HOME", self.spec["cuda"].prefix)
            env.set("NCCL_HOME", self.spec["nccl"].prefix)

    # Not `cargo install`, which takes one program of a workspace at a time, and no library.
    def build(self, pkg, spec, prefix):
        arguments = ["build", "--locked", "--release", *self.std_build_args]
        arguments += ["-p", "rust-train", "-p", "check-devices", "-p", "check-devices-probe"]
        if spec.satisfies("+cuda"):
            arguments += ["-p", "torch-ext-cuda", "--features", "rust-train/cuda"]
        with working_dir(self.build_directory):
            pkg.module.cargo(*arguments)

    def install(self, pkg, spec, prefix):
        files = ["rust-train", "check-devices", "check-devices-probe"]
        if spec.satisfies("+cuda"):
            files.append("libtorch_ext_cuda.so")  # looked for beside the program
        mkdirp(prefix.bin)
        for file in files:
            install(join_path(self.build_directory, "target", "release", file), prefix.bin)
