//! Logits and gradients of a small network of each family, compared with torchvision's, and with timm's where that alone has it.
//!
//! Weights and images come from a formula that both sides can compute; `scripts/parity --record` wrote `logits.tsv`, `auxiliary.tsv` and
//! `logits_of_timm.tsv` with it, and `scripts/parity` compares all networks, with random weights.

use architectures::{Architecture, architecture};
use backbones::Backbone;
use tch::{Device, Kind, Reduction, Tensor};

const RECORDED: &str = include_str!("logits.tsv");
const RECORDED_OF_AUXILIARY: &str = include_str!("auxiliary.tsv");
const RECORDED_OF_TIMM: &str = include_str!("logits_of_timm.tsv");

/// `count` numbers in -1 to 1, as `noise` of `scripts/parity.d/hashing.py`.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;
    let one = |index: u64| {
        let index = index.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mixed = (index ^ (index >> 31)).wrapping_mul(FACTOR);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(FACTOR);
        ((mixed >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32
    };
    (0..count as u64).map(one).collect()
}

/// Every tensor by the formula, as `formula_weights` there; integers stay as they are.
fn fill(state: &[(String, Tensor)]) {
    for (number, (key, tensor)) in state.iter().enumerate() {
        if tensor.kind() != Kind::Float {
            continue;
        }
        let shape = tensor.size();
        let values = Tensor::from_slice(&noise(number as u64 + 1, tensor.numel())).view(&shape[..]);
        let fan_in = tensor.numel() as i64 / shape[0];
        let values = if key.ends_with("running_var") {
            values / 2 + 1
        } else if shape.len() >= 2 && fan_in > 1 {
            values * (7.0 / fan_in as f64).sqrt()
        } else if key.ends_with("weight") {
            values / 10 + 1
        } else {
            values / 10
        };
        tch::no_grad(|| tensor.shallow_clone().copy_(&values));
    }
}

#[test]
fn logits_and_gradients_are_torchvisions() {
    compare(RECORDED, |_, state| state);
}

#[test]
fn logits_and_gradients_are_timms() {
    compare(RECORDED_OF_TIMM, |known, state| {
        let timms = |(key, tensor): (String, Tensor)| (known.timm_weight(&key, &[]).unwrap().name, tensor);
        let mut state: Vec<_> = state.into_iter().map(timms).collect();
        state.sort_by(|(one, _), (other, _)| one.cmp(other));
        state
    });
}

#[test]
fn auxiliary_heads_are_torchvisions() {
    for row in RECORDED_OF_AUXILIARY.lines().filter(|line| !line.starts_with('#')) {
        let [name, side, numbers] = row.split('\t').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let (side, numbers) = (side.parse().unwrap(), numbers.split(' ').map(|number| number.parse::<f64>().unwrap()));
        let numbers: Vec<_> = numbers.collect();
        let (logits, gradients) = numbers.split_at(numbers.len() - 2);
        let network = architecture(name).unwrap().network_with_auxiliary(5).unwrap();
        let weights: Vec<_> = network.auxiliary().iter().map(|head| head.weight).collect();
        let backbone = Backbone::new(network, Device::Cpu);
        let state = backbone.state();
        fill(&state);
        let images = Tensor::from_slice(&noise(0, (2 * 3 * side * side) as usize)).view([2, 3, side, side]);
        let outputs = backbone.forward_all(&images, false);
        let of_pixel = |output: &Tensor| match output.dim() {
            4 => output.select(2, side / 2).select(2, side / 3),
            _ => output.shallow_clone(),
        };
        let shown = Tensor::cat(&outputs.iter().map(of_pixel).collect::<Vec<_>>(), 1).tr();
        let scale = logits.iter().fold(1.0_f64, |largest, logit| largest.max(logit.abs()));
        let got = Vec::<f32>::try_from(shown.contiguous().view(-1)).unwrap();
        assert_eq!(got.len(), logits.len(), "{name}");
        for (got, expected) in got.iter().zip(logits) {
            assert!((f64::from(*got) - expected).abs() < 1e-4 * scale, "{name}: {got}, not {expected}");
        }
        // The network alone gives the same, and what is folded has left the heads out.
        let folded = backbone.folded();
        assert!(folded.network().auxiliary().is_empty());
        let alone = folded.forward(&images, false);
        assert!((alone - &outputs[0]).abs().max().double_value(&[]) < 1e-4 * scale, "{name}");
        let losses = outputs.iter().zip([1.0].into_iter().chain(weights));
        losses.map(|(output, weight)| loss(output, side) * weight).reduce(|one, other| one + other).unwrap().backward();
        assert_gradients(name, &state, gradients);
    }
}

/// The cross-entropy of two images of the classes 0 and 1.
fn loss(output: &Tensor, side: i64) -> Tensor {
    let labels = Tensor::from_slice(&[0_i64, 1]);
    let labels = if output.dim() == 4 { labels.view([2, 1, 1]).expand([2, side, side], false) } else { labels };
    output.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, -100, 0.0)
}

/// Of the first and of the last parameter.
fn assert_gradients(name: &str, state: &State, gradients: &[f64]) {
    let trained: Vec<_> = state.iter().filter(|(_, tensor)| tensor.requires_grad()).collect();
    for ((key, tensor), expected) in [trained[0], trained[trained.len() - 1]].into_iter().zip(gradients) {
        if expected.is_nan() {
            assert_eq!(name, "maxvit_t"); // the one that single precision does not tell: see record.py
            continue;
        }
        let norm = tensor.grad().norm().double_value(&[]);
        assert!((norm - expected).abs() <= 1e-3 * expected, "gradient of {key} in {name}: {norm}, not {expected}");
    }
}

type State = Vec<(String, Tensor)>;

/// Compares the networks of `recorded`; `original` gives the state of one by the names and in the order that its numbers follow there.
fn compare(recorded: &str, original: fn(&Architecture, State) -> State) {
    for row in recorded.lines().filter(|line| !line.starts_with('#')) {
        let [name, side, numbers] = row.split('\t').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let (side, numbers): (i64, Vec<f64>) =
            (side.parse().unwrap(), numbers.split(' ').map(|number| number.parse().unwrap()).collect());
        let (logits, gradients) = numbers.split_at(10);
        let known = architecture(name).unwrap();
        let backbone = Backbone::new(known.network(5).with_image_side(side as usize), Device::Cpu);
        let state = original(&known, backbone.state());
        fill(&state);
        let images = Tensor::from_slice(&noise(0, (2 * 3 * side * side) as usize)).view([2, 3, side, side]);
        let output = backbone.forward(&images, false);
        let scale = logits.iter().fold(1.0_f64, |largest, logit| largest.max(logit.abs()));
        let is_mask = output.dim() == 4;
        // Of one pixel, not in the middle.
        let pixel = if is_mask { output.select(2, side / 2).select(2, side / 3) } else { output.shallow_clone() };
        let got = Vec::<f32>::try_from(pixel.contiguous().view(-1)).unwrap();
        for (got, expected) in got.iter().zip(logits) {
            assert!((f64::from(*got) - expected).abs() < 1e-4 * scale, "{name}: {got}, not {expected}");
        }
        loss(&output, side).backward();
        assert_gradients(name, &state, gradients);
    }
}
