//! Ranks, nodes, collectives and zero-first, under mpirun.

use std::path::Path;

use multi_rank_tests::{Mpirun, Outcome, can_make_nodes};

const WORLD: &str = env!("CARGO_BIN_EXE_world-program");
const ZERO_FIRST: &str = env!("CARGO_BIN_EXE_zero-first-program");

#[test]
fn ranks_know_who_they_are_and_talk() {
    let several_nodes = can_make_nodes();
    for (ranks, nodes) in [(1, 1), (2, 1), (3, 1), (5, 1), (4, 2), (6, 3)] {
        if nodes > 1 && !several_nodes {
            continue;
        }
        let arguments = [ranks, nodes, ranks / nodes].map(|number| number.to_string());
        Mpirun::new(ranks).nodes(nodes).run(Path::new(WORLD), arguments).expect_success();
    }
}

fn zero_first(case: &str, ranks: usize, nodes: usize) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    Mpirun::new(ranks).nodes(nodes).run(Path::new(ZERO_FIRST), [case, folder.path().to_str().unwrap()])
}

/// What each rank printed, in rank order.
fn lines(outcome: &Outcome) -> Vec<&str> {
    let mut lines: Vec<_> = outcome.stdout.lines().filter(|line| line.starts_with("rank ")).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn one_rank_goes_first_and_the_others_find_its_work() {
    let outcome = zero_first("world", 3, 1);
    outcome.expect_success();
    assert_eq!(lines(&outcome), ["rank 0 ran 1: ok made", "rank 1 ran 1: ok found", "rank 2 ran 1: ok found"]);
    if !can_make_nodes() {
        return;
    }
    let outcome = zero_first("node", 4, 2);
    outcome.expect_success();
    let expected =
        ["rank 0 ran 1: ok made", "rank 1 ran 1: ok found", "rank 2 ran 1: ok made", "rank 3 ran 1: ok found"];
    assert_eq!(lines(&outcome), expected);
}

#[test]
fn failure_and_panic_reach_every_rank() {
    if can_make_nodes() {
        let failed = zero_first("leader-fails", 4, 2);
        failed.expect_success();
        let text = "agreed 2 rank 0 on n1: no space left";
        let expected = [(0, 0), (1, 0), (2, 1), (3, 1)].map(|(rank, runs)| format!("rank {rank} ran {runs}: {text}"));
        assert_eq!(lines(&failed), expected);
    }

    let panicked = zero_first("leader-panics", 3, 1);
    panicked.expect_success();
    assert_eq!(lines(&panicked).len(), 3);
    for line in lines(&panicked) {
        assert!(line.contains("agreed 1 rank 0 on ") && line.contains("the disk is on fire"), "{line}");
    }

    let follower = zero_first("follower-fails", 3, 1);
    follower.expect_success();
    for line in lines(&follower) {
        assert!(line.contains("agreed 1 rank 1 on ") && line.ends_with("cannot see the file"), "{line}");
    }
}

#[test]
fn waiting_costs_nothing() {
    zero_first("leader-slow", 4, 1).expect_success(); // the program asserts its CPU time
}

#[test]
fn waiting_ends_and_names_the_leader() {
    let outcome = zero_first("leader-too-slow", 3, 1);
    assert_eq!(outcome.status, Some(1));
    assert!(outcome.elapsed.as_secs() < 10, "{outcome:?}");
    for line in lines(&outcome) {
        assert!(line.contains("alone gave up after 1 s in making the file: waiting for rank 0 on "), "{line}");
    }
    assert_eq!(lines(&outcome).len(), 2);
}

#[test]
fn a_rank_that_never_starts_is_waited_for_and_missed() {
    let script = "rank=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}; [ $rank = 1 ] && sleep 60; exec $0 progress /nowhere";
    let outcome = Mpirun::new(3).once().run(Path::new("sh"), ["-c", script, ZERO_FIRST]);
    assert_ne!(outcome.status, Some(0), "{outcome:?}");
    assert!((30..50).contains(&outcome.elapsed.as_secs()), "{outcome:?}");
    let lost = "MPI_Init has waited 30 s for the other ranks: one of them has not started, ";
    assert_eq!(outcome.error_lines().len(), 1, "{outcome:?}");
    assert!(outcome.error_lines()[0].contains(lost), "{outcome:?}");
}

#[test]
fn who_makes_progress_is_left_alone() {
    let mut cases = vec![
        ("progress", 3, 1),
        ("progress", 9, 1), // more than the leader's own neighbours
        ("progress-rank-zero", 3, 1),
        ("progress-shares", 3, 1),
        ("progress-part", 4, 1),
    ];
    if can_make_nodes() {
        cases.extend([("progress-node", 4, 2), ("progress", 4, 2), ("progress-part", 6, 3)]);
    }
    for (case, ranks, nodes) in cases {
        let outcome = zero_first(case, ranks, nodes);
        outcome.expect_success();
        assert!(outcome.elapsed.as_secs() >= 4, "{case}: {outcome:?}");
        assert!(lines(&outcome).iter().all(|line| line.contains(": ok ")), "{case}: {outcome:?}");
        assert_eq!(lines(&outcome).len(), ranks, "{case}: {outcome:?}");
    }
}

#[test]
fn nobody_leaves_while_others_have_words_for_it() {
    let nodes = if can_make_nodes() { [1, 3] } else { [1, 1] };
    for nodes in nodes {
        let outcome = zero_first("progress-last-words", 6, nodes);
        outcome.expect_success();
        assert_eq!(outcome.stderr, "", "{outcome:?}");
        assert_eq!(lines(&outcome).len(), 6, "{outcome:?}");
    }
}

#[test]
fn who_stands_still_is_named_even_after_progress() {
    for (case, who) in [("progress-ends", 0), ("progress-freezes", 0), ("progress-other-stalls", 1)] {
        let outcome = zero_first(case, 3, 1);
        assert!(outcome.status.is_some_and(|status| status != 0), "{case}: {outcome:?}");
        assert!((3..10).contains(&outcome.elapsed.as_secs()), "{case}: {outcome:?}");
        let named = format!("alone gave up after 1 s in making the file: waiting for rank {who} on ");
        assert!(lines(&outcome).iter().any(|line| line.contains(&named)), "{case}: {outcome:?}");
        let word = ", last heard of at ";
        assert_eq!(outcome.stdout.contains(word), who == 0, "{case}: {outcome:?}");
    }
}

#[test]
fn a_follower_that_dies_ends_the_job_while_the_leader_works() {
    let outcome = zero_first("progress-follower-dies", 3, 1);
    assert_ne!(outcome.status, Some(0), "{outcome:?}");
    assert!(outcome.elapsed.as_secs() < 10, "{outcome:?}");
    assert!(outcome.says_killed(2), "{outcome:?}");
}

#[test]
fn whoever_waits_passes_on_that_it_was_asked_to_stop() {
    for ranks in [1, 2, 6] {
        let outcome = zero_first("stop", ranks, 1);
        outcome.expect_success();
        assert!(outcome.elapsed.as_secs() < 6, "{outcome:?}");
        for (rank, line) in lines(&outcome).iter().enumerate() {
            let who = if ranks == 1 { String::new() } else { "rank 0 on ".to_owned() };
            assert!(line.starts_with(&format!("rank {rank} ran 0: agreed 75 {who}")), "{outcome:?}");
            assert!(line.ends_with("stopped"), "{outcome:?}");
        }
        assert_eq!(lines(&outcome).len(), ranks);
    }
}

#[test]
fn zero_first_on_finished_work_is_quick() {
    let outcome = zero_first("cached", 8, 1);
    outcome.expect_success();
    println!("zero_first with nothing to do, 8 ranks: {}", lines(&outcome)[0]); // a figure, no assertion
}
