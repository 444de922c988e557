//! The minimum of a smooth convex function: limited-memory BFGS (Nocedal, 1980), with a step that is halved until it goes down far enough.
//!
//! Of our own, since the function is computed by all ranks together: every rank takes the same way, and none may ask more often than another.

use std::collections::VecDeque;

use tch::Tensor;

/// Pairs of steps and changes of the gradient that are kept.
const PAIRS: usize = 10;

/// How much of the decrease that the slope promises a step must bring.
const SUFFICIENT: f64 = 1e-4;

/// The most that a step is halved.
const HALVINGS: usize = 40;

/// Where a function is least, as far as was looked.
#[derive(Debug)]
pub(super) struct Minimum {
    pub at: Tensor,
    pub iterations: usize,
    /// Whether it is as near as was asked for.
    pub is_reached: bool,
}

/// From `start`, a row of numbers of double precision, to where the gradient is at most `tolerance` of what it is at zero, in at most so
/// many iterations. `function` gives value and gradient; where it gives none, nor does this. `dot` must give the same bits on all ranks: sums of
/// many numbers depend on the threads of a rank, and which way is taken on them.
pub(super) fn minimize(
    start: &Tensor,
    tolerance: f64,
    most_iterations: usize,
    function: &mut dyn FnMut(&Tensor) -> anyhow::Result<Option<(f64, Tensor)>>,
    dot: &dyn Fn(&Tensor, &Tensor) -> anyhow::Result<f64>,
) -> anyhow::Result<Option<Minimum>> {
    let length = |vector: &Tensor| anyhow::Ok(dot(vector, vector)?.sqrt());
    let Some((_, at_zero)) = function(&start.zeros_like())? else { return Ok(None) };
    let enough = tolerance * length(&at_zero)?;
    let mut at = start.copy();
    let Some((mut value, mut gradient)) = function(&at)? else { return Ok(None) };
    let mut pairs: VecDeque<(Tensor, Tensor, f64)> = VecDeque::new();
    for iterations in 0..most_iterations {
        if length(&gradient)? <= enough {
            return Ok(Some(Minimum { at, iterations, is_reached: true }));
        }
        let mut direction = -&gradient;
        let mut shares = Vec::new();
        for (step, change, curvature) in pairs.iter().rev() {
            let share = dot(step, &direction)? / curvature;
            direction -= change * share;
            shares.push(share);
        }
        if let Some((_, change, curvature)) = pairs.back() {
            direction *= curvature / dot(change, change)?;
        }
        for ((step, change, curvature), share) in pairs.iter().zip(shares.into_iter().rev()) {
            direction += step * (share - dot(change, &direction)? / curvature);
        }
        let slope = dot(&direction, &gradient)?;
        let mut far = if pairs.is_empty() { (1.0 / length(&gradient)?).min(1.0) } else { 1.0 };
        let mut found = None;
        for _ in 0..HALVINGS {
            let next = &at + &direction * far;
            let Some((its_value, its_gradient)) = function(&next)? else { return Ok(None) };
            if its_value <= value + SUFFICIENT * far * slope {
                found = Some((next, its_value, its_gradient));
                break;
            }
            far /= 2.0;
        }
        // Rounding hides what is left.
        let Some((next, its_value, its_gradient)) = found else {
            return Ok(Some(Minimum { at, iterations, is_reached: false }));
        };
        let (step, change) = (&next - &at, &its_gradient - &gradient);
        let curvature = dot(&step, &change)?;
        if curvature > 0.0 {
            pairs.push_back((step, change, curvature));
        }
        if pairs.len() > PAIRS {
            pairs.pop_front();
        }
        (at, value, gradient) = (next, its_value, its_gradient);
    }
    Ok(Some(Minimum { at, iterations: most_iterations, is_reached: false }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn the_minimum_of_a_steep_valley_is_found() {
        // Σ cᵢ·(xᵢ − i)² with c from 1 to 10⁵, and a part that is no parabola.
        let double = (Kind::Double, Device::Cpu);
        let (middle, steep) = (Tensor::arange(6, double), Tensor::logspace(0.0, 5.0, 6, 10.0, double));
        let mut asked = 0;
        let mut function = |x: &Tensor| {
            asked += 1;
            let off = x - &middle;
            let value = (&steep * off.square()).sum(Kind::Double) + off.cosh().sum(Kind::Double);
            Ok(Some((value.double_value(&[]), &steep * &off * 2.0 + off.sinh())))
        };
        let dot = |one: &Tensor, other: &Tensor| Ok((one * other).sum(Kind::Double).double_value(&[]));
        let found = minimize(&Tensor::ones([6], double), 1e-12, 500, &mut function, &dot).unwrap().unwrap();
        assert!((found.at - &middle).abs().max().double_value(&[]) < 1e-6);
        assert!(found.is_reached && found.iterations < 200, "{}", found.iterations);
        assert!(asked < 400, "asked {asked} times");
    }
}
