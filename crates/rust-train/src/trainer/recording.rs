//! Steps that are given to a GPU as one: the operations of a step are recorded once, and replayed from then on with other
//! images, labels and rates in the same places. What a small network costs on a GPU is mostly the giving.

use flags::{CudaGraph, Recompute};
use tch::{Device, Kind, Tensor};
use torch_ext::ProcessGroup;
use torch_ext::cuda::Graph;
use torch_ext::optim::LearningRate;

use super::step::{Given, Made, StepInput};
use crate::config::plan::Plan;
use crate::observe::timeline::Timeline;
use crate::task::Targets;

/// Steps that are made one operation at a time before one is recorded: libtorch chooses its algorithms in them, moments and
/// buckets of gradients get their places, and c10d asks for eleven.
const STEPS_BEFORE: usize = 11;

/// How the next step is given to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// One operation at a time.
    OneByOne,
    /// It is recorded, and replayed if that can be.
    Record,
    /// As the one that was recorded.
    Replay,
}

/// What two steps must have in common to be the same operations on memory of the same size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    images: Vec<i64>,
    targets: Vec<(Vec<i64>, Kind)>,
    micro_batches: usize,
}

impl Shape {
    pub(super) fn of(input: &StepInput, micro_batches: usize) -> Self {
        let targets = input.targets.tensors.iter().map(|tensor| (tensor.size(), tensor.kind())).collect();
        Self { images: input.images.size(), targets, micro_batches }
    }
}

/// Which steps are recorded.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The last step's, and how many of the same were made one by one.
    last: Option<(Shape, usize)>,
    recorded: Option<Shape>,
    /// Whether none is recorded any more.
    refused: bool,
}

impl Choice {
    fn next(&mut self, shape: Shape) -> Next {
        if self.recorded.as_ref() == Some(&shape) {
            return Next::Replay;
        }
        let before = self.last.take().filter(|(last, _)| *last == shape).map_or(0, |(_, count)| count);
        let is_due = before >= STEPS_BEFORE && !self.refused;
        self.last = Some((shape, before + 1));
        if is_due { Next::Record } else { Next::OneByOne }
    }
}

/// The steps of one model, optimizer and set of what is trained.
pub(crate) struct Recording {
    choice: Choice,
    recorded: Option<Recorded>,
    /// Where every step finds its learning rate, recorded or not: the same arithmetic, the same bits.
    rate: Tensor,
}

/// A step that was recorded.
pub(super) struct Recorded {
    graph: Graph,
    places: Places,
    made: Made,
}

impl Recording {
    /// Where steps are recorded, if they are to be and can be; else one line says why not.
    pub(super) fn of_run(plan: &Plan, device: Device, group: &ProcessGroup, timeline: &Timeline) -> Option<Self> {
        if plan.flags.cuda_graph == CudaGraph::Off {
            return None;
        }
        let why = why_not_recorded(plan, device, timeline);
        if let (Some(why), 0) = (why, group.rank()) {
            log::info!("--cuda-graph: steps are not recorded: {why}");
        }
        why.is_none().then(|| Self::new(device))
    }

    /// Of steps on `device`.
    fn new(device: Device) -> Self {
        Self { choice: Choice::default(), recorded: None, rate: Tensor::zeros([1], (Kind::Float, device)) }
    }

    /// Puts a learning rate where the next step finds it.
    pub(super) fn set_rate(&mut self, lr: f64) {
        let _ = self.rate.fill_(lr);
    }

    /// The place.
    pub(super) fn rate(&self) -> LearningRate<'_> {
        LearningRate::OnDevice(&self.rate)
    }

    /// How a step of `input` is to be given to the device. One whose loss has a number of its own, the share of mixed images, is
    /// never the same again.
    pub(super) fn next(&mut self, input: &StepInput, micro_batches: usize) -> Next {
        if input.targets.share != 1.0 || input.rate.momentum.is_some() {
            return Next::OneByOne;
        }
        // In other parts because the memory did not suffice, or another shape's turn: it holds memory of its own.
        let parts_differ = self.choice.recorded.as_ref().is_some_and(|shape| shape.micro_batches != micro_batches);
        let next = self.choice.next(Shape::of(input, micro_batches));
        if parts_differ || next == Next::Record {
            (self.recorded, self.choice.recorded) = (None, None);
        }
        next
    }

    /// Records `step` with the places of `input`.
    pub(super) fn record(
        &mut self,
        input: &StepInput,
        step: impl FnOnce(&Given<'_>) -> anyhow::Result<Made>,
    ) -> anyhow::Result<Recorded> {
        let places = Places::like(input)?;
        let given = places.given(self.rate());
        let record = || Graph::record(|| step(&given).map_err(Failed));
        let (graph, made) = world::catch_panic(record).map_err(anyhow::Error::msg)?.map_err(|Failed(error)| error)?;
        if made.is_out_of_memory {
            anyhow::bail!("the memory does not suffice");
        }
        drop(given);
        Ok(Recorded { graph, places, made })
    }

    /// From here on steps like this one are replayed.
    pub(super) fn take(&mut self, recorded: Recorded, input: &StepInput, micro_batches: usize) {
        self.choice.recorded = Some(Shape::of(input, micro_batches));
        self.recorded = Some(recorded);
    }

    /// None is recorded from here on.
    pub(super) fn refuse(&mut self) {
        self.choice.refused = true;
    }

    /// Gives the device the recorded step with another input.
    pub(super) fn replay(&mut self, input: &StepInput, wish: u8, before: Option<&Tensor>) -> anyhow::Result<Made> {
        let recorded = self.recorded.as_mut().expect("it is replayed after it was recorded");
        recorded.places.fill(input, wish, before)?;
        recorded.graph.replay()?;
        let Made { flags, loss, is_out_of_memory } = &recorded.made;
        // The next one is left in the same place.
        Ok(Made { flags: flags.copy(), loss: loss.copy(), is_out_of_memory: *is_out_of_memory })
    }
}

/// Why no step can be the same operations on the same memory as the one before.
fn why_not_recorded(plan: &Plan, device: Device, timeline: &Timeline) -> Option<&'static str> {
    let mix = &plan.augmentation.mix;
    [
        (!device.is_cuda(), "the run is on no GPU"),
        (plan.flags.zero, "with --zero each rank makes steps of its own"),
        (
            plan.flags.virtual_ranks.is_some(),
            "--virtual-ranks: whether a step counts is decided between its passes and its update",
        ),
        (plan.flags.recompute != Recompute::None, "--recompute: what has been drawn is drawn again on the way back"),
        (plan.flags.ranks_per_device > 1, "what ranks of one device exchange travels through host memory"),
        (mix.mixup > 0.0 || mix.cutmix > 0.0, "each batch is mixed by a share of its own"),
        (plan.flags.optimization.min_momentum.is_some(), "momentum is another in each step"),
        (plan.training.learning_rate.decay_at_end.is_some(), "weight decay is another in each step"),
        (timeline.waits(), "what is traced or measured by the piece waits for the GPU"),
    ]
    .into_iter()
    .find_map(|(is_so, why)| is_so.then_some(why))
}

/// An error of the step, for what gives errors of torch-ext, too.
struct Failed(anyhow::Error);

impl From<torch_ext::Error> for Failed {
    fn from(error: torch_ext::Error) -> Self {
        Self(error.into())
    }
}

/// Where a recorded step finds what is another's in each.
struct Places {
    images: Tensor,
    targets: Targets,
    wish: Tensor,
    before: Tensor,
}

impl Places {
    fn like(input: &StepInput) -> torch_ext::Result<Self> {
        let images = input.images.f_empty_like()?;
        let tensors = input.targets.tensors.iter().map(Tensor::f_empty_like).collect::<Result<_, _>>()?;
        let float = (Kind::Float, images.device());
        let (wish, before) = (Tensor::f_zeros([], float)?, Tensor::f_zeros([2], float)?);
        Ok(Self { targets: Targets { tensors, share: 1.0 }, images, wish, before })
    }

    fn given<'p>(&'p self, lr: LearningRate<'p>) -> Given<'p> {
        let wish = Box::new(|| self.wish.shallow_clone());
        // What is recorded does not know its number: no seed of its own.
        Given { images: &self.images, targets: &self.targets, number: 0, lr, wish, before: Some(&self.before) }
    }

    fn fill(&mut self, input: &StepInput, wish: u8, before: Option<&Tensor>) -> torch_ext::Result<()> {
        self.images.f_copy_(&input.images)?;
        for (place, target) in self.targets.tensors.iter_mut().zip(&input.targets.tensors) {
            place.f_copy_(target)?;
        }
        let _ = self.wish.f_fill_(f64::from(wish))?;
        match before {
            Some(before) => self.before.f_copy_(before)?,
            None => drop(self.before.f_zero_()?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::schedule::Rate;

    fn input(images: i64, side: i64) -> StepInput {
        let float = (Kind::Float, Device::Cpu);
        let labels = Tensor::arange(images, (Kind::Int64, Device::Cpu));
        StepInput {
            images: Tensor::ones([images, 3, side, side], float) * side,
            targets: Targets::of(vec![labels]),
            number: 0,
            rate: Rate { lr: 0.1, momentum: None, decay: None },
        }
    }

    #[test]
    fn a_step_is_recorded_after_as_many_of_its_shape_and_again_for_another() {
        let mut choice = Choice::default();
        let [small, large] = [4, 8].map(|side| Shape::of(&input(2, side), 1));
        let run = |choice: &mut Choice, shape: &Shape, steps: usize| -> Vec<Next> {
            (0..steps).map(|_| choice.next(shape.clone())).collect()
        };
        assert!(run(&mut choice, &small, 5).iter().all(|next| *next == Next::OneByOne));
        assert!(run(&mut choice, &large, 11).iter().all(|next| *next == Next::OneByOne), "another shape begins anew");
        assert_eq!(run(&mut choice, &large, 1), [Next::Record]);
        choice.recorded = Some(large.clone());
        assert_eq!(run(&mut choice, &large, 2), [Next::Replay; 2]);
        assert_eq!(run(&mut choice, &small, 11), [Next::OneByOne; 11]);
        assert_eq!(run(&mut choice, &small, 1), [Next::Record]);
        choice.refused = true;
        assert_eq!(run(&mut choice, &small, 20), [Next::OneByOne; 20]);
    }

    #[test]
    fn what_differs_from_step_to_step_is_not_recorded() {
        let mut recording = Recording::new(Device::Cpu);
        let mut mixed = input(2, 4);
        mixed.targets.share = 0.3;
        let mut cycle = input(2, 4);
        cycle.rate.momentum = Some(0.9);
        for other in [mixed, cycle] {
            assert!((0..30).all(|_| recording.next(&other, 1) == Next::OneByOne));
        }
        let same = input(2, 4);
        let records = (0..12).filter(|_| recording.next(&same, 1) == Next::Record).count();
        assert_eq!(records, 1);
        assert_eq!(recording.next(&same, 2), Next::OneByOne, "in other parts");
    }

    #[test]
    fn places_hold_what_the_next_step_is_given() {
        let mut places = Places::like(&input(2, 4)).unwrap();
        let next = input(2, 4);
        places.fill(&next, 2, Some(&Tensor::from_slice(&[1.0f32, 0.0]))).unwrap();
        let rate = Tensor::from_slice(&[0.1f32]);
        {
            let given = places.given(LearningRate::OnDevice(&rate));
            assert!(given.images.equal(&next.images) && given.targets.tensors[0].equal(&next.targets.tensors[0]));
            assert_eq!((given.wish)().double_value(&[]), 2.0);
            assert_eq!(given.before.unwrap().double_value(&[0]), 1.0);
        }
        places.fill(&next, 0, None).unwrap();
        assert_eq!(places.before.sum(Kind::Float).double_value(&[]), 0.0);
    }

    #[test]
    fn without_cuda_a_recording_has_a_reason() {
        let mut recording = Recording::new(Device::Cpu);
        let made = |_: &Given<'_>| anyhow::bail!("it is never made");
        let Err(refused) = recording.record(&input(2, 4), made) else { panic!("nothing to record with") };
        if torch_ext::cuda::open().is_err() {
            assert!(refused.to_string().starts_with("recording: "), "{refused}");
        }
    }
}
