# For the scripts beside it (`. scripts/lib.sh`, from the repository's root): the set-up, and the environment of a run.

[ -n "${RUST_TRAIN:-}" ] || scripts/setup ${setup_flag:-} # a program that was built elsewhere needs none

# What scripts/setup may just have installed.
[ ! -x "$HOME/.cargo/bin/cargo" ] || PATH=$HOME/.cargo/bin:$PATH

# Open MPI refuses root, which is what a container usually is.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
