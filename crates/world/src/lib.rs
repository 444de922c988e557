//! Who am I, who goes first, how we agree, how we stop: everything that knows MPI.
