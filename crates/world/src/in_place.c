/* MPI_IN_PLACE is a cast in a macro, with another value in every MPI: bindgen cannot read it. */
#include <mpi.h>

const void *const world_mpi_in_place = MPI_IN_PLACE;
