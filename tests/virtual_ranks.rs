//! `--virtual-ranks`: the same bits at any number of ranks, on any number of nodes, and after any stops.

use std::fs;
use std::path::Path;
use std::time::Duration;

use multi_rank_tests::{Mpirun, Outcome, binary, can_make_nodes};
use serde_json::Value;

const FAULTY: &str = env!("CARGO_BIN_EXE_faults-program");

fn run(program: &Path, (ranks, nodes): (usize, usize), folder: &Path, fault: &str, flags: &str) -> Outcome {
    let job =
        Mpirun::new(ranks).nodes(nodes).directory(folder).variable("FAULT", fault).timeout(Duration::from_secs(240));
    job.run(program, flags.split_whitespace())
}

/// All that a run leaves and that does not depend on how fast it was: both models to the last byte, the record, and the scores.
fn left(run: &Path) -> Vec<Vec<u8>> {
    let record = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let record = record.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let times = ["images_per_second", "data_wait", "communication_wait", "elapsed_seconds"];
        line.as_object_mut().unwrap().retain(|key, _| !times.contains(&key.as_str()));
        line.to_string()
    });
    let record = record.collect::<Vec<_>>().join("\n").into_bytes();
    let files =
        ["last.safetensors", "best.safetensors", "evaluation.json"].map(|name| fs::read(run.join(name)).unwrap());
    files.into_iter().chain([record]).collect()
}

fn assert_same(folder: &Path, one: &str, other: &str) {
    let [one_left, other_left] = [one, other].map(|run| left(&folder.join(run)));
    for (name, (one_left, other_left)) in
        ["last", "best", "evaluation", "record"].iter().zip(one_left.iter().zip(&other_left))
    {
        assert!(one_left == other_left, "{one} and {other}: {name} differs");
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let program = binary("rust-train");
    let nodes = can_make_nodes();
    // BatchNorm, dropout and squeeze-and-excitation, stochastic depth; each optimizer; what draws, mixes, grows, averages and clips.
    let cases: [(&str, &[(usize, usize)]); 6] = [
        ("--model cifar_resnet20 --cutmix 1 --nesterov true --ema 0.9 --max-steps 30", &[(1, 1), (2, 1), (8, 1)]),
        (
            "--model lenet --optimizer adamw --clip-grad-norm 1 --label-smoothing 0.1 --progressive-resize 4",
            &[(1, 1), (4, 2)],
        ),
        ("--model mobilenet_v3_small --optimizer lamb --mixup 0.2 --max-steps 6", &[(2, 1), (4, 1)]),
        (
            "--model cifar_resnet20 --balanced --repeats 2 --class-weights balanced --precision bf16 --max-steps 6",
            &[(1, 1), (4, 1)],
        ),
        (
            "--model cifar_resnet20 --zero --optimizer adamw --clip-grad-norm 1 --max-steps 6 --record-bits",
            &[(1, 1), (4, 1)],
        ),
        ("--model lenet --optimizer lars --random-erasing 0.5 --color-jitter 0.2 --virtual-ranks 2", &[(1, 1), (2, 2)]),
    ];
    for (index, (flags, worlds)) in cases.into_iter().enumerate() {
        let mut first = None;
        for world in worlds.iter().filter(|(_, of)| *of == 1 || nodes) {
            let own = if flags.contains("--virtual-ranks") { "" } else { "--virtual-ranks 8" };
            let output = format!("{index}-{}-{}", world.0, world.1);
            let all = format!("--epochs 2 --batch 64 --seed 3 {own} {flags} --output {output}");
            run(&program, *world, folder.path(), "", &all).expect_success();
            match &first {
                None => first = Some(output),
                Some(first) => assert_same(folder.path(), first, &output),
            }
        }
    }
    // What is compared can differ: without, the same parts of a batch are added up in another order.
    for (ranks, accumulate) in [(1, 8), (4, 2)] {
        let flags = format!(
            "--model lenet --epochs 1 --batch 64 --accumulate {accumulate} --record-bits --output line-{ranks}"
        );
        run(&program, (ranks, 1), folder.path(), "", &flags).expect_success();
    }
    assert_ne!(left(&folder.path().join("line-1"))[0], left(&folder.path().join("line-4"))[0]);

    let compare = |one: &str, other: &str| {
        let mut command = std::process::Command::new(&program);
        let output = command.args(["compare-bits", one, other]).current_dir(folder.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, said) = compare("4-1-1", "4-4-1");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.starts_with("bits.jsonl        the same\n"), "{said}");
    let (status, said) = compare("line-1", "line-4");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.starts_with("bits.jsonl        first at step 1, after all parts: conv1.weight differs\n"), "{said}");
    assert_eq!(compare("line-1", "nothing").0, Some(2));
}

#[test]
fn a_run_goes_on_at_other_numbers_of_ranks_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(FAULTY);
    let flags = "--epochs 3 --seed 7 --batch 64 --virtual-ranks 8 --lr 0.05 --ema 0.9 --mixup 0.2";
    run(program, (2, 1), folder.path(), "", &format!("{flags} --output whole")).expect_success();
    let resume = format!("{flags} --output parts --resume auto");
    // Ranks, and the passes of a rank after which it is stopped: in the middle of epochs, once before the first step is over.
    for (ranks, passes) in [(4, 37), (1, 90), (8, 3), (2, 71)] {
        let stopped = run(program, (ranks, 1), folder.path(), &format!("usr1:{}:{passes}", ranks - 1), &resume);
        assert_eq!(stopped.status, Some(75), "{stopped:?}");
        assert!(stopped.stderr.contains("stopped by a signal after step"), "{stopped:?}");
    }
    run(program, (4, 1), folder.path(), "", &resume).expect_success();
    assert_same(folder.path(), "whole", "parts");

    // Bits depend on the instructions, too.
    let longer =
        format!("{flags} --resume parts --output longer").replace("--epochs 3", "--epochs 4 --allow-changed-plan");
    let job = Mpirun::new(1).directory(folder.path()).variable("ATEN_CPU_CAPABILITY", "default");
    let elsewhere = job.run(program, longer.split_whitespace());
    elsewhere.expect_success();
    let said = "--virtual-ranks: from here on the bits may be others than without the stop: instructions:";
    assert!(
        elsewhere.stderr.contains(said) && elsewhere.stderr.contains("ATEN_CPU_CAPABILITY=default"),
        "{elsewhere:?}"
    );

    let refused = run(program, (1, 1), folder.path(), "", &resume.replace("ranks 8", "ranks 4"));
    assert_eq!((refused.status, refused.error_lines().len()), (Some(2), 1), "{refused:?}");
    let odd = run(program, (3, 1), folder.path(), "", &flags.replace("--batch 64", "--batch 96"));
    assert_eq!((odd.status, odd.error_lines().len()), (Some(2), 1), "{odd:?}");
    assert!(odd.stderr.contains("--virtual-ranks 8: 3 ranks cannot share them evenly"), "{odd:?}");
}
