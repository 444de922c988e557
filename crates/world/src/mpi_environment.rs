//! What MPI's start-up looks at, and need not. Settings of the user's own stand.
#![expect(unsafe_code, reason = "sets environment variables")]

/// A variable and its value.
type Setting = (&'static str, &'static str);

/// The devices to compute and to draw on: as hwloc calls what asks for them, and as the plugins that do. MPI places ranks by
/// cores and network interfaces, and for these devices hwloc loads the libraries of OpenCL, CUDA and X in every rank.
const DEVICES: [Setting; 2] = [
    ("HWLOC_COMPONENTS", "-cuda,-gl,-levelzero,-nvml,-opencl,-rsmi"),
    (
        "HWLOC_PLUGINS_BLACKLIST",
        "hwloc_cuda.so,hwloc_gl.so,hwloc_levelzero.so,hwloc_nvml.so,hwloc_opencl.so,hwloc_rsmi.so",
    ),
];

/// The networks: on one node Open MPI's ranks talk through shared memory, by its point-to-point layer ob1, and each library
/// of a network takes tens of milliseconds to find out that it has nothing to do. TCP stays, so that a launcher that is
/// wrong about the node costs speed, not the run.
const NETWORKS: [Setting; 2] = [("OMPI_MCA_pml", "ob1"), ("OMPI_MCA_btl", "^ofi,openib,uct,usnic")];

/// With one of these the user has chosen.
const CHOICES: [&str; 3] = ["OMPI_MCA_pml", "OMPI_MCA_btl", "OMPI_MCA_mtl"];

/// From here on MPI_Init looks only at what MPI uses.
pub(crate) fn ask_for_less() {
    let variable = |name: &str| std::env::var(name).ok();
    for (name, value) in settings(variable) {
        // SAFETY: comes right before MPI_Init, which sets environment variables, too, and so demands the same: that no
        // other thread uses them.
        unsafe { std::env::set_var(name, value) };
    }
}

fn settings(variable: impl Fn(&str) -> Option<String>) -> Vec<Setting> {
    let is_set = |name: &str| variable(name).is_some();
    let devices = DEVICES.into_iter().filter(|(name, _)| !is_set(name));
    let alone = mpi::is_on_one_node(&variable) && !CHOICES.into_iter().any(is_set);
    devices.chain(NETWORKS.into_iter().filter(|_| alone)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_left_alone_on_one_node_unless_the_user_names_some() {
        const ONE: &[&str] = &["OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_SIZE=4"];
        let cases: &[(&[&str], &[&str], bool)] = &[
            (ONE, &[], true),
            (ONE, &["OMPI_MCA_pml=ucx"], false),
            (ONE, &["OMPI_MCA_mtl=psm2"], false),
            (ONE, &["OMPI_MCA_btl=self,tcp"], false),
            (&["OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_SIZE=2"], &[], false),
            (&["SLURM_STEP_NUM_TASKS=4", "SLURM_STEP_NUM_NODES=1"], &[], true),
            (&["SLURM_STEP_NUM_TASKS=4", "SLURM_STEP_NUM_NODES=2"], &[], false),
            // mpirun over two nodes, from a step on one.
            (&["OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_SIZE=2", "SLURM_STEP_NUM_NODES=1"], &[], false),
            (&[], &[], false),
        ];
        for (launcher, own, expected) in cases {
            let set = |name: &str| {
                let mut pairs = launcher.iter().chain(*own).filter_map(|pair| pair.split_once('='));
                pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
            };
            let names: Vec<_> = settings(set).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names.contains(&"OMPI_MCA_pml"), *expected, "{launcher:?} {own:?}");
            assert!(names.contains(&"HWLOC_COMPONENTS"));
        }
        assert!(
            settings(|name| (name == "HWLOC_COMPONENTS").then(String::new))
                .iter()
                .all(|(name, _)| *name != "HWLOC_COMPONENTS")
        );
    }
}
