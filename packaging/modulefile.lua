-- rust-train for all users of a cluster: copy this to MODULEPATH/rust-train/0.1.0.lua, and change `root`, where you once called
--   python3 -m venv /opt/apps/rust-train/0.1.0 && /opt/apps/rust-train/0.1.0/bin/pip install rust-train
-- (or dist/*.whl in place of the name). No MPI comes along: the site's module has the one that knows its network.
local root = "/opt/apps/rust-train/0.1.0"

whatis("Name: rust-train")
whatis("Version: 0.1.0")
whatis("Description: data-parallel training of image models under mpirun and srun")
help([[
Load an MPI, too (any: Open MPI, MPICH, Cray MPICH, Intel MPI), then:
  srun rust-train --data DIR      or mpirun
  rust-train doctor               what is found, and what does not fit
  check-devices job.sbatch        would this job run?
]])

-- At the end: root/bin has a python as well, which must not become everybody's.
append_path("PATH", pathJoin(root, "bin"))
