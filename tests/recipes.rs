//! Recipes: what a run is told by a file, and what the ingredients of recipes do, under mpirun.

use std::fs;
use std::path::Path;
use std::time::Duration;

use multi_rank_tests::{Mpirun, Outcome, binary, metric};

fn start(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    let launcher = Mpirun::new(ranks).directory(folder).timeout(Duration::from_secs(120));
    launcher.run(&binary("rust-train"), arguments.split_whitespace())
}

fn rust_train(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    let outcome = start(ranks, folder, arguments);
    outcome.expect_success();
    outcome
}

#[test]
fn the_digits_recipe_learns_and_its_plan_does_it_again() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let first = rust_train(2, folder, "--config digits --epochs 6 --output first");
    assert!(
        first
            .stderr
            .contains("epochs 6, image-size 8, schedule one-cycle, warmup 5.0; every flag is in first/plan.toml")
    );
    let best = metric(&folder.join("first"), "top1").into_iter().fold(0.0, f64::max);
    assert!(best >= 0.96, "top-1 {best}");

    rust_train(2, folder, "--config first/plan.toml --output second");
    let read = |run: &str, file: &str| fs::read(folder.join(run).join(file)).unwrap();
    assert_eq!(read("first", "plan.toml"), read("second", "plan.toml"));
    assert_eq!(metric(&folder.join("first"), "loss"), metric(&folder.join("second"), "loss"));
    assert_eq!(read("first", "last.safetensors"), read("second", "last.safetensors"));

    // The command line wins.
    rust_train(1, folder, "--config first/plan.toml --epochs 1 --lr 1e-9 --max-steps 2 --warmup 0 --output third");
    assert_eq!(metric(&folder.join("third"), "lr"), [1e-9, 0.0]);
}

/// Every recipe inside the program trains, on a few images of noise, and check-devices has nothing against it.
#[test]
fn every_recipe_trains_and_is_judged() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    noise(folder);
    for (name, text) in recipes::SHIPPED.into_iter().filter(|(name, _)| *name != "digits") {
        let own = text.parse::<toml::Table>().unwrap();
        let mut flags = format!("--config {name} --data noise --batch 4 --max-steps 20 --device cpu --output {name}");
        match own["model"].as_str().unwrap() {
            // Takes no smaller images; the smallest of them.
            vit if vit.starts_with("vit") => flags += " --model vit_tiny_patch16_224",
            _ if own.contains_key("image-size") => flags += " --image-size 64 --resize 64",
            _ => {}
        }
        for (key, instead) in [
            ("progressive-resize", " --progressive-resize 0 --progressive-epochs 0"),
            ("pretrained", " --pretrained=false --weights-match strict --freeze none --freeze-epochs 0"),
        ] {
            flags += if own.contains_key(key) { instead } else { "" };
        }
        rust_train(1, folder, &flags);
        let losses = metric(&folder.join(name), "loss");
        assert_eq!(losses.len(), 20, "{name}");
        assert!(losses.iter().all(|loss| loss.is_finite()), "{name}: {losses:?}");

        let nodes = match own["batch"].as_integer().unwrap() {
            ..256 => 1,
            256..16384 => 8,
            _ => 64,
        };
        let options =
            format!("#SBATCH --nodes={nodes} --ntasks-per-node=4 --gpus-per-node=4 --cpus-per-task=8 --time=24:00:00");
        let script = format!(
            "#!/bin/bash\n{options}\nsrun rust-train --config {name} --data /scratch/images --precision bf16\n"
        );
        fs::write(folder.join("job.sbatch"), script).unwrap();
        fs::write(folder.join("site.toml"), "internet_on_compute_nodes = true\n").unwrap(); // published weights are fetched
        let judged = std::process::Command::new(binary("check-devices"))
            .args(["job.sbatch", "--gpu", "h100", "--site", "site.toml"])
            .current_dir(folder)
            .output()
            .unwrap();
        let (text, words) = (String::from_utf8_lossy(&judged.stdout), String::from_utf8_lossy(&judged.stderr));
        assert!(judged.status.success() && !text.contains("error"), "{name}: {text}{words}");
    }
}

/// Two classes of images of noise in the folder `noise`.
fn noise(folder: &Path) {
    let mut state = 1_u32;
    for (split, count) in [("train", 80), ("val", 2)] {
        for index in 0..count {
            let class = folder.join(format!("noise/{split}/{}", ["a", "b"][index % 2]));
            fs::create_dir_all(&class).unwrap();
            let mut image = b"P6\n64 64\n255\n".to_vec();
            image.extend((0..3 * 64 * 64).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            }));
            fs::write(class.join(format!("{index}.ppm")), image).unwrap();
        }
    }
}

#[test]
fn a_bad_recipe_is_one_line_however_many_ranks_there_are() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let cases = [
        ("epochs = 2\nlearning-rate = 3", "", "r.toml:2: learning-rate: is not a flag of a training run"),
        ("epochs = 'two'", "", "r.toml:1: epochs: must be a whole number, not the string \"two\""),
        ("optimizer = 'sdg'", "", "r.toml:1: invalid value 'sdg' for '--optimizer <OPTIMIZER>'"),
        ("\nbatch = 63", "", "r.toml:2: --batch: a global batch of 63 cannot be shared evenly by 2 ranks"),
        ("batch = 64", "--batch 63", "error: --batch: a global batch of 63 cannot be shared evenly by 2 ranks"),
        ("batch = 1500", "", "r.toml:1: --batch 1500: there are only 1442 training images"),
        ("lr = ", "", "r.toml:1: "),
        ("", "--config no-such.toml", "--config no-such.toml: No such file or directory"),
        ("model = 'lenet'\nbackbone-lr-scale = -1", "", "r.toml:2: --backbone-lr-scale -1: must be"),
    ];
    for (recipe, arguments, words) in cases {
        fs::write(folder.join("r.toml"), recipe).unwrap();
        let named = if arguments.contains("--config") { "" } else { "--config r.toml " };
        let outcome = start(2, folder, &format!("{named}{arguments}"));
        assert_eq!(outcome.status, Some(2), "{recipe}: {outcome:?}");
        assert_eq!(outcome.error_lines().len(), 1, "{recipe}: {outcome:?}");
        assert!(outcome.error_lines()[0].contains(words), "{recipe}: {outcome:?}");
    }
    assert!(!folder.join("runs").exists());
}

/// A run of every ingredient at once goes on in its middle bit for bit: frozen and free, small and grown, momentum on its
/// way, averages under way.
#[test]
fn every_ingredient_goes_on_where_it_was() {
    goes_on_where_it_was(
        "--lr 0.05 --schedule one-cycle --min-momentum 0.85 --label-smoothing 0.1 --class-weights balanced --mixup 0.2 \
         --ema 0.98 --freeze backbone --freeze-epochs 1 --backbone-lr-scale 0.5 --progressive-resize 4 --progressive-epochs 2",
        [16, 32],
    );
}

/// The same of those that exclude others: the mean of epochs under way, a rate that follows the loss, what is computed once more.
#[test]
fn other_ingredients_go_on_where_they_were() {
    goes_on_where_it_was(
        "--optimizer muon --lr 0.02 --weight-decay 0.05 --weight-decay-end 0.2 --layer-decay 0.9 --schedule plateau \
         --lr-patience 0 --lr-gamma 0.5 --warmup 0 --drop-path 0.2 --loss bce --cutmix 1 --bce-threshold 0.2 --swa 2 \
         --recompute blocks --zero",
        [24, 48],
    );
}

/// A run of these ingredients that goes on from either of two steps is the run that was never stopped, bit for bit.
fn goes_on_where_it_was(ingredients: &str, steps: [usize; 2]) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let flags = format!("--model cifar_resnet20 --batch 64 --epochs 3 --max-steps 60 --seed 3 {ingredients}");
    rust_train(2, folder, &format!("{flags} --checkpoint-steps 8 --keep-checkpoints 99 --output whole"));
    let whole = metric(&folder.join("whole"), "loss");
    assert_eq!(whole.len(), 60);
    for step in steps {
        let part = folder.join(format!("part-{step}"));
        fs::create_dir_all(part.join("checkpoints")).unwrap();
        // The best model is that of an epoch before the checkpoint, or one that comes after it takes its place.
        for name in ["metrics.jsonl", "plan.toml", "best.safetensors"] {
            fs::copy(folder.join("whole").join(name), part.join(name)).unwrap();
        }
        let checkpoint = part.join(format!("checkpoints/step-{step:08}"));
        fs::create_dir(&checkpoint).unwrap();
        for file in fs::read_dir(folder.join(format!("whole/checkpoints/step-{step:08}"))).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), checkpoint.join(file.file_name())).unwrap();
        }
        rust_train(2, folder, &format!("{flags} --resume auto --output part-{step}"));
        assert_eq!(metric(&part, "loss"), whole, "from step {step}");
        assert_eq!(metric(&part, "val_loss"), metric(&folder.join("whole"), "val_loss"), "from step {step}");
        for file in ["last.safetensors", "best.safetensors"] {
            assert!(fs::read(part.join(file)).unwrap() == fs::read(folder.join("whole").join(file)).unwrap(), "{file}");
        }
    }
}

#[test]
fn ingredients_do_not_depend_on_the_number_of_ranks() {
    let root = tempfile::tempdir().unwrap();
    let flags = "--model lenet --batch 48 --lr 0.05 --seed 3 --max-steps 24 --epochs 1 --label-smoothing 0.1 --cutmix 1 \
        --class-weights balanced --ema 0.9 --lr-scaling linear --lr-reference-batch 96 --schedule linear --min-lr 0.001";
    for ranks in [1, 3] {
        rust_train(ranks, root.path(), &format!("{flags} --output {ranks}"));
    }
    let [alone, together] = ["1", "3"].map(|run| metric(&root.path().join(run), "loss"));
    for (step, (alone, together)) in alone.iter().zip(&together).enumerate() {
        assert!((alone - together).abs() < 1e-4 * alone, "step {step}: {alone} and {together}");
    }
    let [alone, together] = ["1", "3"].map(|run| metric(&root.path().join(run), "val_loss"));
    assert!((alone[0] - together[0]).abs() < 1e-3 * alone[0], "{alone:?} and {together:?}");
    let rates = metric(&root.path().join("1"), "lr");
    assert!(rates.iter().all(|&rate| rate <= 0.025) && rates[23] < 0.005, "{rates:?}");
}
