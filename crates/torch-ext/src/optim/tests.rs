//! Against PyTorch's own optimizers: `references.json` and the command that made it are in `tests/references`.

use super::*;
use crate::host::OnlyRank;
use serde_json::Value;
use tch::Device;

fn references() -> Vec<Value> {
    let text = include_str!("../../tests/references/optimizers.json");
    serde_json::from_str::<Value>(text).unwrap()["cases"].as_array().unwrap().clone()
}

fn algorithm(case: &Value) -> Algorithm {
    let number = |key: &str| case[key].as_f64().unwrap();
    let betas = || (case["betas"][0].as_f64().unwrap(), case["betas"][1].as_f64().unwrap());
    match case["algorithm"].as_str().unwrap() {
        "sgd" => Algorithm::Sgd { momentum: number("momentum"), nesterov: case["nesterov"].as_bool().unwrap() },
        "adam" => Algorithm::Adam { betas: betas(), eps: number("eps") },
        "adamw" => Algorithm::AdamW { betas: betas(), eps: number("eps") },
        "lars" => Algorithm::Lars { momentum: number("momentum"), trust: number("trust"), eps: number("eps") },
        "lamb" => Algorithm::Lamb { betas: betas(), eps: number("eps") },
        kind @ ("nadam" | "nadamw") => {
            Algorithm::NAdam { betas: betas(), eps: number("eps"), decoupled: kind == "nadamw" }
        }
        "adamw-schedule-free" => Algorithm::ScheduleFree { betas: betas(), eps: number("eps") },
        "lion" => Algorithm::Lion { betas: betas() },
        "adafactor" => Algorithm::Adafactor,
        "muon" => Algorithm::Muon { momentum: number("momentum") },
        other => panic!("no algorithm is called {other}"),
    }
}

/// The parameters of the reference: a matrix and a vector that count up slowly.
fn parameters() -> Vec<(String, Tensor)> {
    parameters_in(Kind::Float)
}

/// Those of a case.
fn parameters_of_case(case: &Value) -> Vec<(String, Tensor)> {
    parameters_in(if case["double"].as_bool() == Some(true) { Kind::Double } else { Kind::Float })
}

fn parameters_in(kind: Kind) -> Vec<(String, Tensor)> {
    [("weight", vec![6, 5]), ("bias", vec![7])]
        .into_iter()
        .map(|(name, shape)| {
            let count: i64 = shape.iter().product();
            let values = Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.37;
            let values = (values.sin() * 0.5).to_kind(Kind::Float).to_kind(kind).view(&shape[..]);
            (name.to_owned(), values.set_requires_grad(true))
        })
        .collect()
}

/// The gradients of step `step`.
fn set_gradients(parameters: &[(String, Tensor)], step: i64, factor: f64) {
    for (index, (_, parameter)) in parameters.iter().enumerate() {
        let count = parameter.numel() as i64;
        let phase = Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.7 + 0.11 * step as f64 + index as f64;
        let gradient = (phase.sin() * (0.3 * factor)).to_kind(Kind::Float).view_as(parameter);
        let mut old = parameter.grad();
        if old.defined() {
            let _ = old.zero_();
        }
        (parameter * gradient).sum(Kind::Float).backward();
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.detach().flatten(0, -1).to_kind(Kind::Double)).unwrap()
}

fn assert_close(got: &[(String, Tensor)], expected: &Value, case: &str) {
    for (name, tensor) in got {
        let expected: Vec<f64> =
            expected[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        let got = values(tensor);
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            assert!((got - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{case}, {name}: {got} not {expected}");
        }
    }
}

fn groups(case: &Value, parameters: &[(String, Tensor)]) -> Vec<ParameterGroup> {
    let all = parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    let weight_decay = case["weight_decay"].as_f64().unwrap();
    match case["decay_on_vectors"].as_bool().unwrap() {
        true => ParameterGroup::all(all, weight_decay),
        false => ParameterGroup::without_decay_on_vectors(all, weight_decay),
    }
}

#[test]
fn a_hundred_steps_equal_pytorchs() {
    let cases = references();
    assert!(cases.len() >= 10);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let parameters = parameters_of_case(case);
        let mut optimizer = Optimizer::new(groups(case, &parameters), algorithm(case)).unwrap();
        let tensors = optimizer.parameters();
        for step in 0..100 {
            set_gradients(&parameters, step, 1.0);
            if let Some(max_norm) = case["clip"].as_f64() {
                let norm = clip_grad_norm(&tensors, max_norm).unwrap().double_value(&[]);
                assert!(norm > 0.0 && norm.is_finite());
            }
            let warmed_up = case["warmup"].as_f64().map_or(1.0, |steps| ((step + 1) as f64 / steps).min(1.0));
            optimizer.step(case["lr"].as_f64().unwrap() * warmed_up).unwrap();
        }
        assert_close(&parameters, &case["parameters"], name);
        let evaluated = optimizer.evaluated().unwrap();
        assert_eq!(evaluated.is_some(), case["evaluated"].is_object());
        if let Some(evaluated) = evaluated {
            assert_close(&evaluated, &case["evaluated"], name);
        }
    }
}

#[test]
fn a_state_that_is_saved_and_loaded_goes_on_bit_by_bit() {
    for case in &references() {
        let lr = case["lr"].as_f64().unwrap();
        let (whole, halves) = (parameters_of_case(case), parameters_of_case(case));
        let mut optimizer = Optimizer::new(groups(case, &whole), algorithm(case)).unwrap();
        let mut first = Optimizer::new(groups(case, &halves), algorithm(case)).unwrap();
        for step in 0..10 {
            set_gradients(&whole, step, 1.0);
            optimizer.step(lr).unwrap();
            if step < 5 {
                set_gradients(&halves, step, 1.0);
                first.step(lr).unwrap();
            }
        }
        let state: Vec<_> = first.state().unwrap().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
        let mut second = Optimizer::new(groups(case, &halves), algorithm(case)).unwrap();
        second.load_state(&state).unwrap();
        assert_eq!(second.state_bytes(), first.state_bytes());
        for step in 5..10 {
            set_gradients(&halves, step, 1.0);
            second.step(lr).unwrap();
        }
        for ((name, whole), (_, halves)) in whole.iter().zip(&halves) {
            assert!(whole == halves, "{}: {name}", case["name"]);
        }
    }
}

#[test]
fn a_foreign_state_is_refused_whole() {
    let mut optimizer = Optimizer::new(ParameterGroup::all(parameters(), 0.0), Algorithm::ADAM).unwrap();
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let whole = || {
        let state: [(&str, Vec<i64>); 3] = [("exp_avg", vec![7]), ("exp_avg_sq", vec![7]), ("step", vec![])];
        state.map(|(kind, shape)| (format!("bias.{kind}"), zeros(&shape))).into_iter().collect::<Vec<_>>()
    };
    let with = |more: &[(&str, Tensor)]| {
        let more = more.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone()));
        whole().into_iter().chain(more).collect::<Vec<_>>()
    };
    let moments = || [("weight.exp_avg", zeros(&[6, 5])), ("weight.exp_avg_sq", zeros(&[6, 5]))];
    let step = |value: f64| {
        let [first, second] = moments();
        [first, second, ("weight.step", zeros(&[]) + value)]
    };
    let cases = [
        (with(&[("weights.exp_avg", zeros(&[6, 5]))]), "the optimizer has no weights.exp_avg"),
        (with(&[("weight.velocity", zeros(&[6, 5]))]), "the optimizer has no weight.velocity"),
        (with(&[("weight", zeros(&[6, 5]))]), "the optimizer has no weight"),
        (with(&[("bias.step", zeros(&[]))]), "bias.step is in the optimizer's state twice"),
        (with(&moments()), "the optimizer's state of weight is not whole: there is no weight.step"),
        (
            with(&[("weight.step", zeros(&[]))]),
            "the optimizer's state of weight is not whole: there is no weight.exp_avg",
        ),
        (with(&[("bias.momentum_buffer", zeros(&[7]))]), "Adam keeps no bias.momentum_buffer, which is in its state"),
        (with(&step(-1.0)), "weight.step is -1 in the state, which is not a number of steps"),
        (with(&step(f64::NAN)), "weight.step is NaN in the state, which is not a number of steps"),
        (with(&step(1.5)), "weight.step is 1.5 in the state, which is not a number of steps"),
        (
            with(&[
                ("weight.exp_avg", zeros(&[5, 6])),
                ("weight.exp_avg_sq", zeros(&[6, 5])),
                ("weight.step", zeros(&[])),
            ]),
            "weight.exp_avg of the optimizer is [6, 5], in the state [5, 6]",
        ),
        (
            with(&[
                ("weight.exp_avg", zeros(&[6, 5])),
                ("weight.exp_avg_sq", zeros(&[6, 5]).to_kind(Kind::Int64)),
                ("weight.step", zeros(&[])),
            ]),
            "weight.exp_avg_sq of the optimizer is Float, in the state Int64",
        ),
        (
            with(&[
                ("weight.exp_avg", zeros(&[6, 5])),
                ("weight.exp_avg_sq", Tensor::new()),
                ("weight.step", zeros(&[])),
            ]),
            "weight.exp_avg_sq is undefined in the state",
        ),
    ];
    for (state, words) in cases {
        let error = optimizer.load_state(&state).unwrap_err();
        assert_eq!(error.to_string(), words);
        assert!(matches!(error, Error::State { .. }));
        assert_eq!(optimizer.state_bytes(), 0);
    }
    optimizer.load_state(&whole()).unwrap();
    assert_eq!(optimizer.state_bytes(), 4 * (7 + 7 + 1));
    let twice = [parameters(), parameters()].concat_names();
    assert!(Optimizer::new(ParameterGroup::all(twice, 0.0), Algorithm::ADAM).is_err());
}

/// A state of each algorithm, after a step.
fn states() -> Vec<(Algorithm, Vec<(String, Tensor)>)> {
    let state = |algorithm| {
        let all = parameters();
        let mut optimizer = Optimizer::new(ParameterGroup::all(parameters_of(&all), 0.1), algorithm).unwrap();
        set_gradients(&all, 0, 1.0);
        optimizer.step(0.1).unwrap();
        (algorithm, optimizer.state().unwrap())
    };
    all_algorithms().map(state).into_iter().collect()
}

/// Each of them, SGD with and without momentum.
fn all_algorithms() -> [Algorithm; 12] {
    let sgd = |momentum| Algorithm::Sgd { momentum, nesterov: momentum > 0.0 };
    let named = |name| Algorithm::named(name, 0.9, false).unwrap();
    [
        sgd(0.0),
        sgd(0.9),
        Algorithm::LARS,
        Algorithm::ADAM,
        Algorithm::ADAMW,
        Algorithm::LAMB,
        named("nadam"),
        named("nadamw"),
        Algorithm::SCHEDULE_FREE,
        Algorithm::LION,
        Algorithm::Adafactor,
        Algorithm::MUON,
    ]
}

/// What it keeps of a vector, and of a matrix.
fn moments(algorithm: Algorithm) -> [&'static [&'static str]; 2] {
    [1, 2].map(|axes| algorithm.moments(axes))
}

#[test]
fn a_state_of_another_algorithm_is_told_from_damage() {
    for (saved, state) in states() {
        for (own, _) in states() {
            let all = parameters();
            let groups = || ParameterGroup::all(parameters_of(&all), 0.1);
            let group = ProcessGroup::host(Box::new(OnlyRank)).unwrap();
            for mut optimizer in
                [Optimizer::new(groups(), own).unwrap(), Optimizer::sharded(groups(), own, &group).unwrap()]
            {
                match optimizer.load_state(&state) {
                    Ok(()) => assert_eq!(moments(saved), moments(own)),
                    Err(Error::OtherOptimizer { own: name, .. }) => {
                        assert_eq!(name, own.name());
                        assert_ne!(moments(saved), moments(own));
                    }
                    Err(error) => panic!("{saved:?} into {own:?}: {error}"),
                }
                set_gradients(&all, 1, 1.0);
                optimizer.step(0.1).unwrap();
                // An empty state starts anew, whatever there was.
                optimizer.load_state(&[]).unwrap();
                assert_eq!(optimizer.state_bytes(), 0);
                optimizer.step(0.1).unwrap();
                assert!(all.iter().all(|(_, tensor)| tensor.isfinite().all().int64_value(&[]) == 1));
            }
        }
    }
    let sgd = Algorithm::Sgd { momentum: 0.0, nesterov: false };
    let (_, state) = states().into_iter().find(|(algorithm, _)| *algorithm == sgd).unwrap();
    let mut adamw = Optimizer::new(ParameterGroup::all(parameters(), 0.1), Algorithm::ADAMW).unwrap();
    let error = adamw.load_state(&state).unwrap_err();
    assert_eq!(error.to_string(), "the state is that of SGD without momentum, the optimizer is AdamW");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
    #[test]
    fn no_state_crashes_or_is_half_loaded(
        own in 0usize..12,
        sharded in proptest::bool::ANY,
        entries in proptest::collection::vec((0usize..4, 0usize..11, 0usize..6, 0usize..4), 0..9),
    ) {
        let all = parameters();
        let (own, _) = states().swap_remove(own);
        let groups = ParameterGroup::all(parameters_of(&all), 0.1);
        let group = ProcessGroup::host(Box::new(OnlyRank)).unwrap();
        let mut optimizer = match sharded {
            true => Optimizer::sharded(groups, own, &group).unwrap(),
            false => Optimizer::new(groups, own).unwrap(),
        };
        set_gradients(&all, 0, 1.0);
        optimizer.step(0.1).unwrap();
        let copy = |state: Vec<(String, Tensor)>| -> Vec<_> {
            state.into_iter().map(|(name, tensor)| (name, tensor.copy())).collect()
        };
        let before = copy(optimizer.state().unwrap());

        let state: Vec<_> = entries.iter().map(|&(parameter, kind, shape, element)| {
            let parameter = ["weight", "bias", "bias", "other"][parameter];
            let kinds =
                ["momentum_buffer", "exp_avg", "exp_avg_sq", "step", "max_exp_avg_sq", "mu_product", "row_var", "col_var", "variance", "z", "step_weights"];
            let kind = kinds[kind];
            // Most have the right shape.
            let right: &[i64] = match (kind, parameter) {
                ("step" | "mu_product", _) => &[],
                ("step_weights", _) => &[2],
                (_, "bias") => &[7],
                ("row_var", _) => &[6, 1],
                ("col_var", _) => &[1, 5],
                _ => &[6, 5],
            };
            let shape = [right, right, right, &[5, 6], &[], &[0]][shape];
            let element = [Kind::Float, Kind::Float, Kind::Float, Kind::Double][element];
            (format!("{parameter}.{kind}"), Tensor::ones(shape, (element, Device::Cpu)))
        }).collect();
        let loaded = optimizer.load_state(&state);

        let after: HashMap<String, Tensor> = optimizer.state().unwrap().into_iter().collect();
        let expected = if loaded.is_ok() { &state } else { &before };
        proptest::prop_assert_eq!(after.len(), expected.len());
        for (name, tensor) in expected {
            proptest::prop_assert!(after[name].equal(tensor), "{}", name);
        }
        if loaded.is_ok() {
            for (name, axes) in [("weight", 2), ("bias", 1)] {
                let kinds = state.iter().filter(|(key, _)| key.starts_with(name)).count();
                proptest::prop_assert!(kinds == 0 || kinds == own.moments(axes).len() + 1);
            }
        }
        set_gradients(&all, 1, 1.0);
        optimizer.step(0.1).unwrap();
    }
}

#[test]
fn memory_that_lies_otherwise_is_not_mixed_up() {
    for (algorithm, _) in states() {
        let leaf = |tensor: Tensor| tensor.detach().set_requires_grad(true);
        let values = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([2, 3, 2, 2]);
        let stepped = |weight: &Tensor| {
            let all = vec![("weight".to_owned(), weight.shallow_clone())];
            let mut optimizer = Optimizer::new(ParameterGroup::all(all, 0.1), algorithm)?;
            for _ in 0..3 {
                (weight * &values).sum(Kind::Float).backward();
                optimizer.step(0.01)?;
            }
            Result::Ok(weight.detach().contiguous())
        };
        let expected = stepped(&leaf(values.copy())).unwrap();

        // A gradient that came before the weights changed their order.
        let moved = leaf(values.copy());
        (&moved * 0.0).sum(Kind::Float).backward();
        crate::set_memory_format(&[moved.shallow_clone()], crate::MemoryFormat::ChannelsLast).unwrap();
        assert!(stepped(&moved).unwrap().equal(&expected), "{algorithm:?}");

        // Memory with gaps, and one number for all: a kernel would write past the end.
        let wide = Tensor::zeros([2, 3, 2, 4], (Kind::Float, Device::Cpu));
        for weight in [
            leaf(wide.narrow(3, 0, 2)),
            leaf(Tensor::ones([1], (Kind::Float, Device::Cpu)).expand([2, 3, 2, 2], false)),
        ] {
            let refused = stepped(&weight).unwrap_err();
            assert!(refused.to_string().contains("parameter 0 of [2, 3, 2, 2] has gaps or overlaps"), "{refused}");
        }

        // Moments whose parameter changed its order.
        let weight = leaf(values.copy());
        let all = vec![("weight".to_owned(), weight.shallow_clone())];
        let mut optimizer = Optimizer::new(ParameterGroup::all(all, 0.1), algorithm).unwrap();
        (&weight * &values).sum(Kind::Float).backward();
        optimizer.step(0.01).unwrap();
        crate::set_memory_format(&[weight.shallow_clone()], crate::MemoryFormat::ChannelsLast).unwrap();
        match optimizer.step(0.01) {
            // Rows and columns have no order in memory.
            Ok(()) => assert!(algorithm.moments(4).is_empty() || algorithm == Algorithm::Adafactor),
            Err(refused) => assert!(refused.to_string().contains("changed after the first step"), "{refused}"),
        }
    }
}

trait ConcatNames {
    fn concat_names(self) -> Vec<(String, Tensor)>;
}

impl ConcatNames for [Vec<(String, Tensor)>; 2] {
    fn concat_names(self) -> Vec<(String, Tensor)> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn a_parameter_without_a_gradient_stays() {
    for algorithm in all_algorithms() {
        let all = parameters();
        let mut optimizer = Optimizer::new(ParameterGroup::all(parameters_of(&all), 0.1), algorithm).unwrap();
        let before = values(&all[1].1);
        set_gradients(&all[..1], 0, 1.0);
        optimizer.step(0.1).unwrap();
        assert_eq!(values(&all[1].1), before);
        // Its first step is a first step, whenever it comes.
        set_gradients(&all, 1, 1.0);
        optimizer.step(0.1).unwrap();
        assert_ne!(values(&all[1].1), before);
    }
}

fn parameters_of(all: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    all.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

#[test]
fn momentum_can_change_between_steps() {
    let all = parameters();
    let sgd = Algorithm::Sgd { momentum: 0.9, nesterov: false };
    let mut optimizer = Optimizer::new(ParameterGroup::all(parameters_of(&all), 0.0), sgd).unwrap();
    let weight = all[0].1.detach();
    for (momentum, expected) in [(0.9, -1.0), (0.5, -1.5), (0.0, -1.0)] {
        optimizer.set_momentum(momentum);
        let before = weight.copy();
        for (_, parameter) in &all {
            let mut grad = parameter.grad();
            if grad.defined() {
                let _ = grad.zero_();
            }
            (parameter * 1.0).sum(Kind::Float).backward();
        }
        optimizer.step(1.0).unwrap();
        let moved = (&weight - before).double_value(&[0, 0]);
        assert!((moved - expected).abs() < 1e-5, "momentum {momentum}: {moved}");
    }
}

#[test]
fn the_scaler_skips_and_adapts_as_pytorchs() {
    let text = include_str!("../../tests/references/optimizers.json");
    let reference = &serde_json::from_str::<Value>(text).unwrap()["scaler"];
    let group = ProcessGroup::host(Box::new(OnlyRank)).unwrap();
    let all = parameters();
    let sgd = Algorithm::Sgd { momentum: 0.9, nesterov: false };
    let mut optimizer = Optimizer::new(ParameterGroup::all(parameters_of(&all), 0.0), sgd).unwrap();
    let config = GradScalerConfig { scale: 1024.0, growth_interval: 4, ..GradScalerConfig::default() };
    let mut scaler = GradScaler::new(config, Device::Cpu);
    let expected: Vec<f64> =
        reference["scales"].as_array().unwrap().iter().map(|scale| scale.as_f64().unwrap()).collect();
    for (step, expected) in expected.iter().enumerate() {
        let is_bad = step % 7 == 3;
        set_gradients(&all, step as i64, if is_bad { f64::INFINITY } else { scaler.state().0 });
        let skipped = scaler.step(&mut optimizer, 0.05, None, &group).unwrap();
        assert_eq!(skipped.double_value(&[0]) == 1.0, is_bad);
        assert_eq!(scaler.state().0, *expected, "step {step}");
    }
    assert_close(&all, &reference["parameters"], "scaler");
}

/// Whatever the gradients hold, a step that is to be skipped leaves every bit of parameters and state; one that is not is the
/// plain step.
#[test]
fn a_step_is_made_or_nothing_changes() {
    let state = |optimizer: &Optimizer, all: &[(String, Tensor)]| -> Vec<Tensor> {
        let kept = optimizer.state().unwrap().into_iter().map(|(_, tensor)| tensor);
        kept.chain(all.iter().map(|(_, tensor)| tensor.detach())).map(|tensor| tensor.copy()).collect()
    };
    let equal = |one: &[Tensor], other: &[Tensor]| {
        one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.equal(other))
    };
    for algorithm in all_algorithms() {
        let [plain, chosen] = [parameters(), parameters()];
        let [mut one, mut other] = [&plain, &chosen].map(|all| {
            Optimizer::new(ParameterGroup::without_decay_on_vectors(parameters_of(all), 0.01), algorithm).unwrap()
        });
        for step in 0..6 {
            // The first of all is skipped, too.
            set_gradients(&chosen, step, f64::NAN);
            let before = state(&other, &chosen);
            other.step_unless(0.1, Some(&Tensor::from_slice(&[1.0f32]))).unwrap();
            let after = state(&other, &chosen);
            assert!(step == 0 || equal(&before, &after), "{algorithm:?}, step {step}");
            set_gradients(&plain, step, 1.0);
            set_gradients(&chosen, step, 1.0);
            one.step(0.1).unwrap();
            other.step_unless(0.1, Some(&Tensor::from_slice(&[0.0f32]))).unwrap();
            assert!(equal(&state(&one, &plain), &state(&other, &chosen)), "{algorithm:?}, step {step}");
        }
    }
}

/// A step that is left out for another reason than its gradients tells nothing about the scale.
#[test]
fn the_scale_stays_where_a_step_is_left_out() {
    let group = ProcessGroup::host(Box::new(OnlyRank)).unwrap();
    let all = parameters();
    let mut optimizer = Optimizer::new(ParameterGroup::all(parameters_of(&all), 0.0), Algorithm::ADAM).unwrap();
    let mut scaler = GradScaler::new(GradScalerConfig::default(), Device::Cpu);
    scaler.load_state((512.0, 7));
    for (skip, gradient, expected) in
        [(1.0f32, f64::NAN, (512.0, 7)), (0.0, 512.0, (512.0, 8)), (0.0, f64::INFINITY, (256.0, 0))]
    {
        set_gradients(&all, 1, gradient);
        let _skipped = scaler.step(&mut optimizer, 0.1, Some(&Tensor::from_slice(&[skip])), &group).unwrap();
        assert_eq!(scaler.state(), expected, "{skip} {gradient}");
    }
}

#[test]
fn a_rate_on_the_device_goes_as_far() {
    for algorithm in all_algorithms() {
        let after = |on_device: bool| {
            let parameters = parameters();
            let all: Vec<_> = parameters.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
            let groups = ParameterGroup::without_decay_on_vectors(parameters, 0.01);
            let groups = groups.into_iter().map(|group| ParameterGroup { lr_scale: 0.5, ..group }).collect();
            let mut optimizer = Optimizer::new(groups, algorithm).unwrap();
            for step in 0..5 {
                let loss = all.iter().map(|tensor| (tensor * 3.0).sin().sum(Kind::Float)).reduce(|a, b| a + b).unwrap();
                all.iter().for_each(|tensor| tensor.shallow_clone().zero_grad());
                loss.backward();
                let lr = 0.1 / f64::from(1 + step);
                let rate = Tensor::from_slice(&[lr as f32]);
                let lr = if on_device { LearningRate::OnDevice(&rate) } else { lr.into() };
                optimizer.step_unless(lr, Some(&Tensor::from_slice(&[0.0f32]))).unwrap();
            }
            all
        };
        for (number, on_device) in after(false).iter().zip(after(true)) {
            let difference = (number.detach() - on_device.detach()).abs().max().double_value(&[]);
            assert!(difference < 1e-6, "{algorithm:?}: {difference}");
        }
    }
}
