//! Data-parallel training of image models under mpirun and srun.
