//! What MPI's start-up looks at, and need not.
#![expect(unsafe_code, reason = "sets environment variables")]

/// hwloc's variables for what it does not ask for hardware, and for the same where it is a library of its own. MPI places
/// ranks by cores and network interfaces; for devices to compute or draw on hwloc loads the drivers' libraries, starts
/// the drivers, and looks for ten X servers, in every rank.
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
