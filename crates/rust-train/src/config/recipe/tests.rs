use std::os::unix::ffi::OsStringExt;

use flags::{Command as Verb, Scope, TrainArgs};

use super::plan_file::{render, table};
use super::*;
use crate::config::plan::{Own, Plan};
use proptest::prelude::*;

fn words(line: &str) -> Vec<OsString> {
    std::iter::once("rust-train").chain(line.split_whitespace()).map(OsString::from).collect()
}

/// The flags of a recipe and a command line.
fn completed(recipe: &str, line: &str) -> anyhow::Result<TrainArgs> {
    Ok(Recipe::parse("r.toml", recipe)?.complete(&words(line))?.train)
}

#[test]
fn a_recipe_is_flags_and_the_command_line_wins() {
    // Of the recipe; of the command line; what both are together, as a command line.
    let cases = [
        ("epochs = 3\nlr = 0.5", "", "--epochs 3 --lr 0.5"),
        ("epochs = 3\nlr = 0.5", "--lr 0.1 --batch 8", "--epochs 3 --lr 0.1 --batch 8"),
        ("lr = 1\nepochs = 0x10", "--lr=2", "--lr 2 --epochs 16"),
        ("sync-bn = true\nzero = false", "", "--sync-bn"),
        ("sync-bn = true", "--sync-bn=false", ""),
        ("nesterov = false", "", "--nesterov false"),
        ("lr-milestones = [3, 5]\nschedule = 'multistep'", "", "--lr-milestones 3,5 --schedule multistep"),
        ("lr-milestones = []", "", ""),
        ("device = 'cpu'\ndata = 'my images'", "--data pets", "--device cpu --data pets"),
        ("device = 0", "", "--device 0"),
        ("pretrained = true", "--weights w.pth", "--weights w.pth"),
        ("weights = 'w.pth'\npretrained = false", "", "--weights w.pth"),
        ("weights = 'w.pth'", "--pretrained", "--pretrained"),
        ("freeze = 'backbone'\nfreeze-epochs = 2", "", "--freeze backbone --freeze-epochs 2"),
        ("freeze = 'backbone'", "--freeze-epochs 3", "--freeze backbone --freeze-epochs 3"),
    ];
    for (recipe, line, expected) in cases {
        let got = completed(recipe, line).unwrap_or_else(|error| panic!("{recipe}: {error}"));
        let expected = Cli::of(words(expected)).unwrap().train;
        assert_eq!(table(&got).unwrap(), table(&expected).unwrap(), "{recipe:?} and {line:?}");
    }
}

#[test]
fn a_verb_takes_a_recipe_too() {
    let recipe = Recipe::parse("r.toml", "sync-bn = true\nbatch = 32\nepochs = 3").unwrap();
    let cli = recipe.complete(&words("bench --windows 2 --batch 16")).unwrap();
    let Some(Verb::Bench(bench)) = cli.command else { panic!("{cli:?}") };
    assert_eq!((bench.windows, bench.train.batch.images, bench.train.epochs, bench.train.sync_bn), (2, 16, 3, true));
}

#[test]
fn a_fault_is_one_line_with_its_place() {
    let cases = [
        ("epochs = ", "r.toml:1: "),
        ("epochs = 3\nepochs = 4", "r.toml:2: duplicate key"),
        (
            "\nlearning-rate = 1",
            "r.toml:2: learning-rate: is not a flag of a training run; `rust-train --help` lists them",
        ),
        ("weight_decay = 1e-4", "r.toml:1: weight_decay: is written weight-decay"),
        ("# 1\n# 2\nepochs = 'many'", "r.toml:3: epochs: must be a whole number, not the string \"many\""),
        ("epochs = 2.5", "r.toml:1: epochs: must be a whole number, not the number 2.5"),
        ("lr = true", "r.toml:1: lr: must be a number, not true"),
        ("sync-bn = 'yes'", "r.toml:1: sync-bn: must be true or false, not the string \"yes\""),
        ("model = 18.5", "r.toml:1: model: must be a string, not the number 18.5"),
        ("lr-milestones = [1, 'a']", "r.toml:1: lr-milestones: must be a list of whole numbers, not a list"),
        ("data = 2020-01-01", "r.toml:1: data: must be a string, not a date"),
        ("[model]\nname = 'x'", "r.toml:1: model: must be a string, not a table; recipes have none"),
        ("[training]\nlr = 1", "r.toml:1: training: is not a flag"),
        ("timeout = 3", "r.toml:1: timeout: it already holds while the recipe is read; give --timeout"),
        ("config = 'other.toml'", "r.toml:1: config: a recipe cannot name another one"),
        ("help = true", "r.toml:1: help: is not a flag"),
        ("lr = 1\nepochs = -1", "r.toml:2: invalid value '-1' for '--epochs <EPOCHS>': invalid digit found in string"),
        (
            "optimizer = 'sdg'",
            "r.toml:1: invalid value 'sdg' for '--optimizer <OPTIMIZER>' [possible values: sgd, adam,",
        ),
        ("seed = 9223372036854775808", "r.toml:1: invalid value '9223372036854775808' for '--seed <SEED>'"),
        (
            "weights = 'w'\npretrained = true",
            "r.toml:1: the argument '--weights <SOURCE>' cannot be used with '--pretrained",
        ),
        (
            "allow-changed-plan = true",
            "r.toml: the following required arguments were not provided: --resume <auto|DIR>",
        ),
    ];
    for (recipe, words) in cases {
        let error = completed(recipe, "").unwrap_err();
        assert!(error.is::<crate::errors::Usage>(), "{recipe}: {error:?}");
        let text = error.to_string();
        assert!(text.starts_with(words) && !text.contains('\n'), "{recipe:?}: {text}");
    }
}

#[test]
fn an_error_of_the_plan_names_the_line_it_comes_from() {
    let recipe = Recipe::parse("r.toml", "epochs = 5\nlr = nan").unwrap();
    let located = |message: &str, line: &str| {
        let failure = Failure::usage(message.to_owned());
        let verdict = world::Verdict { rank: 0, host: String::new(), failure, failed: 1, size: 1 };
        recipe.locate(world::Error::Agreed(Box::new(verdict)).into(), &words(line)).to_string()
    };
    assert!(located("--lr NaN: must be a number", "").contains("r.toml:2: --lr NaN: must be a number"));
    assert!(!located("--lr NaN: must be a number", "--lr nan").contains("r.toml"));
    assert!(!located("--batch: must be", "").contains("r.toml"));
    assert!(!located("disk full", "").contains("r.toml"));
}

/// What a plan is, without the flags that it was made from.
fn decided(flags: &TrainArgs) -> String {
    let plan = Plan::new(flags, 1, Own::default()).unwrap();
    let resolved = format!("flags: {:?}, ", plan.flags);
    format!("{plan:?}").replace(&resolved, "")
}

/// The plan of `flags` is also that of its `plan.toml`.
fn assert_same_plan(flags: &TrainArgs) {
    let plan = Plan::new(flags, 1, Own::default()).unwrap();
    let file = render(&plan.flags).unwrap();
    // What belongs to one run is said anew.
    let mut again = completed(&file, "").unwrap_or_else(|error| panic!("{error}\n{file}"));
    (again.output, again.trace, again.run) = (flags.output.clone(), flags.trace.clone(), flags.run.clone());
    again.eval_only = flags.eval_only;
    assert_eq!(decided(&again), decided(flags), "{file}");
    assert_eq!(render(&Plan::new(&again, 1, Own::default()).unwrap().flags).unwrap(), file);
}

#[test]
fn shipped_recipes_are_plans() {
    for (name, text) in recipes::SHIPPED {
        let recipe = Recipe::parse(name, text).unwrap();
        assert!(recipe.entries.len() >= 5, "{name}");
        let flags = recipe.complete(&words(if name == "digits" { "" } else { "--data d" })).unwrap().train;
        assert_same_plan(&flags);
    }
}

#[test]
fn a_plan_file_reads_like_the_help() {
    let recipe = Recipe::parse("digits", recipes::SHIPPED[0].1).unwrap();
    let plan = Plan::new(&recipe.complete(&words("--output out")).unwrap().train, 2, Own::default()).unwrap();
    insta::assert_snapshot!(render(&plan.flags).unwrap());
}

#[test]
fn flags_that_are_no_toml_are_named() {
    let refused = |arguments: Vec<OsString>| {
        let error = Plan::new(&Cli::of(arguments).unwrap().train, 1, Own::default()).unwrap_err();
        assert!(error.is::<crate::errors::Usage>(), "{error}");
        error.to_string()
    };
    let largest = "must be at most 9223372036854775807";
    let epochs = refused(words("--epochs 18446744073709551615"));
    assert_eq!(epochs, "--epochs 18446744073709551615: must be at most 4294967295");
    let milestones = refused(words("--schedule multistep --lr-milestones 1,9223372036854775808"));
    assert_eq!(milestones, format!("--lr-milestones [1,9223372036854775808]: {largest}"));
    let path = OsString::from_vec(b"--data=caf\xe9".to_vec());
    let path = refused(words("--model lenet").into_iter().chain([path]).collect());
    assert!(path.contains("UTF-8") && path.ends_with("give a link with another name"), "{path}");
}

#[test]
fn a_flag_says_what_it_is_about() {
    let command = command();
    let scope = |name| Scope::of(flag(&command, name).unwrap());
    assert_eq!(["lr", "zero", "output"].map(scope), [Scope::Result, Scope::Free, Scope::OneRun]);
}

/// Every flag with a value is in the table: one that was forgotten would be lost from `plan.toml`.
#[test]
fn every_flag_is_in_the_plan_file() {
    let full = completed("", "--data d --model lenet").unwrap();
    let table = table(&Plan::new(&full, 1, Own::default()).unwrap().flags).unwrap();
    let without_value = [
        &["cache", "checkpoint-steps", "classes", "clip-grad-norm", "ema", "freeze-epochs", "loader-threads"][..],
        &["max-steps", "min-momentum", "progressive-epochs", "progressive-resize", "store", "weights", "weights-match"],
        &["crop", "mean", "patience", "resize", "std", "val-split", "weights-sha256"],
        &["image-layout", "images", "labels", "loss", "normalize"],
        &["column-image", "column-split", "crop-scale", "ignore-index", "label-separator", "mask-values", "table"],
        &[
            "stage",
            "virtual-ranks",
            "weight-decay-end",
            "weights-key",
            "weights-prefix",
            "drop-path",
            "bce-threshold",
            "layer-decay",
            "swa",
            "probe-penalty",
            "teacher",
            "teacher-model",
            "distillation",
            "distillation-alpha",
            "distillation-temperature",
        ],
    ];
    for flag in flags_of_run(&command()).filter(|flag| Scope::of(flag) != Scope::OneRun) {
        let name = flag.get_long().unwrap();
        assert!(table.contains_key(name) || without_value.concat().contains(&name), "{name} has no value");
    }
}

/// A command line of any flags, each with a value that it takes.
fn any_command_line() -> impl Strategy<Value = Vec<String>> {
    let command = command();
    let flag = |flag: &Arg| -> Option<BoxedStrategy<String>> {
        let name = flag.get_long()?.to_owned();
        let choices: Vec<String> = flag.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let values: BoxedStrategy<String> = match name.as_str() {
            "config" | "timeout" | "model" | "data" | "pretrained" | "weights-sha256" | "min-momentum" => return None,
            "freeze-epochs" | "cache" | "on-bad-image" | "cache-format" | "progressive-resize"
            | "progressive-epochs" => return None,
            // Of tables alone.
            "table" | "column-image" | "column-label" | "column-split" | "label-separator" => return None,
            // Of files of arrays alone, or of the task.
            "images" | "labels" | "image-layout" | "nan" | "task" | "loss" | "intensity-jitter" | "noise" | "blur" => {
                return None;
            }
            "resume" | "allow-changed-plan" | "time-limit" | "eval-only" | "virtual-ranks" => return None,
            "weights" | "classes" | "output" | "trace" | "store" => "[a-z/ .'\"\\\\]{1,9}é".boxed(),
            "resize"
            | "crop"
            | "drop-path"
            | "weight-decay-end"
            | "bce-threshold"
            | "layer-decay"
            | "swa"
            | "distillation-temperature"
            | "probe-penalty" => {
                return None;
            }
            "mean" | "std" => (0.01f64..1.0).prop_map(|value| value.to_string()).boxed(),
            "image-size" => (3usize..5).prop_map(|size| (size * 32).to_string()).boxed(),
            "warmup" | "momentum" | "weight-decay" | "backbone-lr-scale" | "clip-grad-norm" | "mixup" | "lr" => {
                (1e-12f64..9.0).prop_map(|value| value.to_string()).boxed()
            }
            "translate" | "zoom" => (0.0f64..0.9).prop_map(|value| value.to_string()).boxed(),
            "label-smoothing" | "ema" | "random-erasing" | "lr-gamma" | "cutmix" | "color-jitter" => {
                (0.0f64..1.0).prop_map(|value| value.to_string()).boxed()
            }
            "min-lr" => Just("1e-13".to_owned()).boxed(),
            "stall-timeout" => (1.0f64..1e9).prop_map(|value| value.to_string()).boxed(),
            "lr-milestones" => prop::collection::vec(0usize..99, 1..4)
                .prop_map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
                .boxed(),
            "seed" => (0..=i64::MAX).prop_map(|seed| seed.to_string()).boxed(),
            "batch" => prop::sample::select(vec!["64", "auto:128"]).prop_map(str::to_owned).boxed(),
            "accumulate" => Just("1".to_owned()).boxed(),
            "device" => prop::sample::select(vec!["", "cpu", "cuda", "0", "0,1"]).prop_map(str::to_owned).boxed(),
            _ if !choices.is_empty() => prop::sample::select(choices).boxed(),
            _ => (1usize..30).prop_map(|number| number.to_string()).boxed(),
        };
        Some(values.prop_map(move |value| format!("--{name}={value}")).boxed())
    };
    let all: Vec<_> = flags_of_run(&command).filter_map(flag).collect();
    let model =
        prop::sample::select(vec!["resnet18", "cifar_resnet20", "lenet"]).prop_map(|name| format!("--model={name}"));
    let count = all.len();
    (model, prop::sample::subsequence(all, 0..count)).prop_flat_map(|(model, chosen)| {
        chosen.prop_map(move |mut line| {
            line.push(model.clone());
            line.push("--data=d".to_owned());
            line
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_plan_is_the_plan_of_its_file(line in any_command_line()) {
        let line = std::iter::once("rust-train".to_owned()).chain(line);
        let flags = Cli::of(line).unwrap().train;
        prop_assume!(Plan::new(&flags, 1, Own::default()).is_ok());
        assert_same_plan(&flags);
    }
}
