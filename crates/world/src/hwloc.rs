//! What MPI's start-up looks at, and need not.
#![expect(unsafe_code, reason = "sets environment variables")]

/// The devices to compute and to draw on: as hwloc calls what asks for them, and as the plugins that do. MPI places ranks by
/// cores and network interfaces, and for these devices hwloc loads the libraries of OpenCL, CUDA and X in every rank.
const NOT_ASKED: [(&str, &str); 2] = [
    ("HWLOC_COMPONENTS", "-cuda,-gl,-levelzero,-nvml,-opencl,-rsmi"),
    (
        "HWLOC_PLUGINS_BLACKLIST",
        "hwloc_cuda.so,hwloc_gl.so,hwloc_levelzero.so,hwloc_nvml.so,hwloc_opencl.so,hwloc_rsmi.so",
    ),
];

/// MPI_Init asks hwloc what the node is made of; from here on only for what MPI uses. A list of the user's own stands.
pub(crate) fn ask_for_less() {
    for (variable, not_asked) in NOT_ASKED {
        if std::env::var_os(variable).is_none() {
            // SAFETY: comes right before MPI_Init, which sets environment variables, too, and so demands the same: that
            // no other thread uses them.
            unsafe { std::env::set_var(variable, not_asked) };
        }
    }
}
