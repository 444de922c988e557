//! The gradient engine, under mpirun.

use std::path::Path;
use std::time::Duration;

use multi_rank_tests::{Mpirun, Outcome};

fn ddp(case: &str, ranks: usize) -> Outcome {
    let job = Mpirun::new(ranks).timeout(Duration::from_secs(60));
    job.run(Path::new(env!("CARGO_BIN_EXE_ddp-program")), [case])
}

#[test]
fn replicas_stay_equal_bit_by_bit() {
    for ranks in [2, 3, 4] {
        ddp("equal-replicas", ranks).expect_success();
    }
}

#[test]
fn many_ranks_compute_what_one_would() {
    for ranks in [1, 2, 3] {
        ddp("like-one-rank", ranks).expect_success();
    }
}

#[test]
fn every_part_of_the_engine_keeps_its_word() {
    for case in ["sync-bn", "uneven", "unused", "accumulate", "compressed", "scaler", "zero"] {
        for ranks in [2, 3] {
            ddp(case, ranks).expect_success();
        }
    }
    ddp("zero", 1).expect_success();
}

#[test]
fn what_mpi_takes_from_a_device_arrives_as_from_host_memory() {
    let direct = |case, ranks| {
        let job = Mpirun::new(ranks).timeout(Duration::from_secs(60));
        job.run(Path::new(env!("CARGO_BIN_EXE_ddp-program")), [case, "direct"])
    };
    for ranks in [1, 2, 3] {
        let outcome = direct("device-memory", ranks);
        outcome.expect_success();
        assert!(outcome.stdout.contains("MPI reaches Cuda: "), "{outcome:?}");
    }
    for case in ["equal-replicas", "sync-bn", "accumulate", "compressed", "zero"] {
        direct(case, 2).expect_success();
    }
    let stalled = direct("lost-backward", 2);
    assert!(stalled.error_lines()[0].contains("waiting for rank 1 on "), "{stalled:?}");
}

#[test]
fn what_differs_is_named() {
    for ranks in [2, 3] {
        ddp("corrupt", ranks).expect_success();
        ddp("other-shape", ranks).expect_success();
    }
}

#[test]
fn ranks_find_each_other_without_a_port_in_a_script() {
    ddp("store", 3).expect_success(); // on one node: made-up nodes have names, but no addresses
}

#[test]
fn a_lost_rank_ends_the_job_and_is_named() {
    for ranks in [2, 3] {
        let stalled = ddp("lost-backward", ranks);
        assert_eq!(stalled.status, Some(1), "{stalled:?}");
        assert!(stalled.elapsed < Duration::from_secs(10), "{stalled:?}");
        let line = stalled.error_lines()[0];
        assert!(
            line.contains("gave up after 2 s in all-reduce (sum of ") && line.contains("of channel gradients"),
            "{line}"
        );
        assert!(line.contains("waiting for rank 1 on "), "{line}");

        let mixed = ddp("lost-collective", ranks);
        assert_eq!(mixed.status, Some(1), "{mixed:?}");
        let line = mixed.error_lines()[0];
        assert!(line.contains("the ranks called different collectives") && line.contains("called barrier"), "{line}");
        assert!(line.contains("called all-reduce (sum of ") && line.contains("rank 1 on "), "{line}");
    }
}
