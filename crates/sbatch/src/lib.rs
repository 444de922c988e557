//! A Slurm batch script as data, with the line and column of every directive.
