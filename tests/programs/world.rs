//! Who is where, and the collectives. Arguments: the number of ranks, of nodes, and of ranks on each node.

use world::{Error, Failure, Reduction, World, WorldConfig};

fn main() {
    let expected: Vec<usize> = std::env::args().skip(1).map(|argument| argument.parse().unwrap()).collect();
    let world = World::init(WorldConfig::default()).unwrap();
    let (rank, size) = (world.rank(), world.size());
    assert_eq!([size, world.nodes(), world.local_size()], expected[..]);
    assert_eq!(rank, world.node() * world.local_size() + world.local_rank());
    assert!((0..size).all(|other| (world.host_of(other) == world.host()) == (other / expected[2] == world.node())));

    let control = world.control();
    // Sums, in every type; long enough for several rounds of MPI's algorithms.
    let mut floats: Vec<f32> = (0..100_003).map(|index| (index % 17) as f32 + rank as f32).collect();
    control.all_reduce(&mut floats, Reduction::Sum).unwrap();
    let ranks = (size * (size - 1) / 2) as f32;
    assert!(floats.iter().enumerate().all(|(index, &sum)| sum == (index % 17) as f32 * size as f32 + ranks));
    // Half precision is added up in single precision: 2048 + 1 + 1 … would stay 2048 otherwise.
    let mut halves = [half::f16::from_f32(if rank == 0 { 2048.0 } else { 1.0 }), half::f16::ONE];
    control.all_reduce_half(&mut halves, Reduction::Sum).unwrap();
    assert_eq!(halves.map(f32::from), [half::f16::from_f32(2047.0 + size as f32).to_f32(), size as f32]);
    let mut most = [rank as i64, -(rank as i64)];
    control.all_reduce(&mut most, Reduction::Max).unwrap();
    assert_eq!(most, [size as i64 - 1, 0]);
    control.all_reduce::<u8>(&mut [], Reduction::Sum).unwrap();

    // Sums along a tree, in both types and of any length: those of a tree over all ranks' numbers, to the last bit.
    let number = |rank: usize, index: usize| {
        (rank * 31 + index * 17 + 1) as f32 * 1.1 * 10_f32.powi((rank * 7 + index) as i32 % 9)
    };
    let tree = |index: usize| {
        let mut sums: Vec<f32> = (0..size).map(|rank| number(rank, index)).collect();
        while sums.len() > 1 {
            sums = sums.chunks(2).map(|pair| pair.iter().skip(1).fold(pair[0], |sum, other| sum + other)).collect();
        }
        sums[0]
    };
    for length in [0, 1, 2, 3, 7, 1000, 100_003] {
        let mut sums: Vec<f32> = (0..length).map(|index| number(rank, index)).collect();
        match control.tree_sum(&mut sums) {
            Ok(()) => {
                assert!(size.is_power_of_two() && sums.iter().enumerate().all(|(index, sum)| *sum == tree(index)));
            }
            Err(error) => assert!(!size.is_power_of_two() && error.to_string().contains("no power of two"), "{error}"),
        }
    }
    if size.is_power_of_two() {
        let mut sums = [0.1 * rank as f64, 1e300];
        control.tree_sum(&mut sums[..1]).unwrap();
        let in_order: f64 = (0..size).map(|rank| 0.1 * rank as f64).sum();
        assert!((sums[0] - in_order).abs() < 1e-12 && sums[1] == 1e300);
    }

    // Broadcasts of unequal and empty lengths, from every root.
    for root in 0..size {
        let mut bytes = if rank == root { vec![root as u8; root * 1000] } else { vec![7; 3] };
        control.broadcast_bytes(&mut bytes, root).unwrap();
        assert_eq!(bytes, vec![root as u8; root * 1000]);
    }

    // Texts of unequal and no length.
    let texts = control.all_gather_text(&"é".repeat(rank)).unwrap();
    assert!(texts.iter().enumerate().all(|(rank, text)| *text == "é".repeat(rank)));
    assert!(control.all_gather_text("").unwrap().iter().all(String::is_empty));
    control.barrier().unwrap();

    // A world of the first ranks: they talk among themselves, and the others are not in it.
    for part in 1..=size {
        let first = world.first(part).unwrap();
        assert_eq!(first.is_some(), rank < part);
        if let Some(first) = first {
            assert_eq!((first.rank(), first.size(), first.host()), (rank, part, world.host()));
            assert_eq!(first.nodes(), part.div_ceil(expected[2]));
            let mut sum = [1i64];
            first.control().all_reduce(&mut sum, Reduction::Sum).unwrap();
            assert_eq!(sum, [part as i64]);
            assert_eq!(first.agree(Ok(rank)).unwrap(), rank);
        }
    }

    // Agreement: all well, one fails, all fail.
    assert_eq!(world.agree(Ok(rank)).unwrap(), rank);
    let last = size - 1;
    let result = if rank == last { Err(Failure::usage("no such file")) } else { Ok(()) };
    match world.agree(result) {
        Err(Error::Agreed(verdict)) => {
            assert_eq!((verdict.rank, verdict.failed, verdict.failure.exit_code), (last, 1, 2));
            assert_eq!(verdict.host, world.host_of(last));
            if size > 1 {
                assert_eq!(verdict.to_string(), format!("rank {last} on {}: no such file", world.host_of(last)));
            }
        }
        other => panic!("{other:?}"),
    }
    match world.agree::<()>(Err(Failure::new(format!("rank {rank} failed")))) {
        Err(Error::Agreed(verdict)) => {
            assert_eq!((verdict.failed, verdict.to_string()), (size, "rank 0 failed".to_owned()));
        }
        other => panic!("{other:?}"),
    }

    // Bytes for every node, in pieces; what a reader or a writer fails with, all ranks learn.
    let content: Vec<u8> = (0..20_000_000u32).map(|index| (index % 251) as u8).collect();
    for from in 0..world.nodes() {
        let (mut sent, mut received) = (0, Vec::new());
        let mut read = |piece: &mut [u8]| {
            let length = piece.len().min(content.len() - sent);
            piece[..length].copy_from_slice(&content[sent..][..length]);
            sent += length;
            Ok(length)
        };
        let mut write = |piece: &[u8]| {
            received.extend_from_slice(piece);
            Ok(())
        };
        world.spread(from, &mut read, &mut write).unwrap();
        let is_receiver = world.local_rank() == 0 && world.node() != from;
        assert!(received == if is_receiver { &content[..] } else { &[] });
    }
    let failed = world.spread(0, &mut |_| Err(Failure::new("cannot read")), &mut |_| Ok(()));
    assert!(matches!(failed, Err(Error::Agreed(verdict)) if verdict.failure.message == "cannot read"));
    if world.nodes() > 1 {
        let mut left = 3;
        let mut read = |piece: &mut [u8]| {
            left -= 1;
            Ok(if left > 0 { piece.len() } else { 0 })
        };
        let failed = world.spread(0, &mut read, &mut |_| Err(Failure::new("disk full")));
        assert!(matches!(failed, Err(Error::Agreed(verdict)) if verdict.failure.message == "disk full"));
    }

    // What rank 0 alone finds out.
    assert_eq!(world.from_rank_zero("counting", || Ok(vec![1, 2, 3])).unwrap(), [1, 2, 3]);
    assert!(matches!(world.from_rank_zero("counting", || panic!("miscounted")), Err(Error::Agreed(_))));
}
