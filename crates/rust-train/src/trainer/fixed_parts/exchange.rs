//! How the sum of a rank's parts meets those of the other ranks: in segments of the row, so that what is whole travels while backward
//! computes the rest of the rank's last part.
//!
//! ```text
//! row       │ parameters 0 … 17 │ 18 … 39 │ 40 … 52 │ statistics, shares, loss │
//! begun         third              second    first      last, by `finish`
//! ```
//!
//! Segments are added up element by element, so that nothing depends on where they are cut, or on how many of them travel early.

use std::ops::Range;

use tch::{Tensor, no_grad};
use torch_ext::{Begins, Pending, ProcessGroup, ReduceOp, elements};

use super::part::Changed;
use super::tree::Tree;

/// The first segment is small, so that the first message leaves early: as in DistributedDataParallel.
const FIRST_BYTES: usize = 1 << 20;

/// Some parameters that follow each other, and their gradients' place in the row.
#[derive(Clone, Debug, PartialEq)]
struct Segment {
    parameters: Range<usize>,
    elements: Range<usize>,
}

impl Segment {
    /// Its part of a `row`.
    fn of(&self, row: &Tensor) -> Tensor {
        row.narrow(0, self.elements.start as i64, self.elements.len() as i64)
    }
}

/// Cuts parameters of so many elements from the last to the first, in the order in which backward reaches them.
fn segments(lengths: &[usize], bytes: usize) -> Vec<Segment> {
    let (mut segments, mut limit) = (Vec::new(), FIRST_BYTES.min(bytes));
    let (mut end, mut end_of_elements) = (lengths.len(), lengths.iter().sum::<usize>());
    let mut begin_of_elements = end_of_elements;
    for begin in (0..lengths.len()).rev() {
        begin_of_elements -= lengths[begin];
        if (end_of_elements - begin_of_elements) * size_of::<f32>() >= limit || begin == 0 {
            segments.push(Segment { parameters: begin..end, elements: begin_of_elements..end_of_elements });
            (end, end_of_elements, limit) = (begin, begin_of_elements, bytes);
        }
    }
    segments
}

/// The exchange of one step's row.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    begins: Begins<'a>,
    segments: Vec<Segment>,
    length: usize,
    /// One for each segment that has left.
    begun: Vec<Pending>,
}

impl<'a> Exchange<'a> {
    /// Of the row of what a model has `changed`, in segments of so many `bytes`; `None` where there is nobody to meet.
    pub(super) fn new(group: &'a ProcessGroup, changed: &Changed, bytes: usize) -> Option<Self> {
        let lengths: Vec<_> = changed.parameters.iter().map(Tensor::numel).collect();
        let begin = || Self {
            begins: group.begins(),
            segments: segments(&lengths, bytes),
            length: changed.length(),
            begun: Vec::new(),
        };
        (group.size() > 1).then(begin)
    }

    /// Replaces `row`, of which the segments that have left are those of the sum, by that of all ranks. Collective.
    pub(super) fn finish(mut self, row: &Tensor) -> torch_ext::Result<()> {
        for segment in &self.segments[self.begun.len()..] {
            self.begun.push(self.begins.all_reduce(&segment.of(row), ReduceOp::Sum)?);
        }
        let numbers = self.segments.first().map_or(0, |segment| segment.elements.end);
        let rest = row.narrow(0, numbers as i64, (self.length - numbers) as i64);
        self.begun.push(self.begins.all_reduce(&rest, ReduceOp::Sum)?);
        self.begun.into_iter().try_for_each(Pending::wait)
    }
}

/// The last of a rank's parts, whose gradients are added to the sums of the others as they come, and leave.
#[derive(Debug)]
pub(super) struct LastPart<'a, 'b> {
    exchange: &'b mut Exchange<'a>,
    /// What the part is added to, one after the other.
    sums: Vec<Tensor>,
    /// What it all becomes: the last of them, or where there is none a row of its own.
    sum: Tensor,
    parameters: Vec<Tensor>,
    /// Of each segment, how many gradients have not come.
    missing: Vec<usize>,
    failed: Option<torch_ext::Error>,
}

impl<'a, 'b> LastPart<'a, 'b> {
    /// Of a rank that has all others of its parts in `tree`.
    pub(super) fn new(exchange: &'b mut Exchange<'a>, tree: Tree, changed: &Changed) -> anyhow::Result<Self> {
        let sums = tree.before_the_last().ok_or_else(|| anyhow::anyhow!("a rank's parts are no power of two"))?;
        let sum = match sums.last() {
            Some(last) => last.shallow_clone(),
            None => Tensor::f_empty([exchange.length as i64], (changed.kind(), changed.device()))?,
        };
        let missing = exchange.segments.iter().map(|segment| segment.parameters.len()).collect();
        let parameters = changed.parameters.iter().map(Tensor::shallow_clone).collect();
        Ok(Self { exchange, sums, sum, parameters, missing, failed: None })
    }

    /// The gradient of the parameter at `place` is there.
    pub(super) fn came(&mut self, place: usize) {
        // The segments lie from the last parameter to the first.
        let segment = self.exchange.segments.partition_point(|segment| segment.parameters.start > place);
        self.missing[segment] -= 1;
        // In one order on all ranks, whatever order gradients come in.
        while self.failed.is_none() && self.missing.get(self.exchange.begun.len()) == Some(&0) {
            self.failed = self.send().err();
        }
    }

    /// Adds the next segment, whose gradients are all there, and lets it go.
    fn send(&mut self) -> torch_ext::Result<()> {
        let segment = self.exchange.segments[self.exchange.begun.len()].clone();
        let gradients: Vec<_> = self.parameters[segment.parameters.clone()].iter().map(Tensor::grad).collect();
        let sum = self.add(&segment, elements(&gradients)?)?;
        self.exchange.begun.push(self.exchange.begins.all_reduce(&sum, ReduceOp::Sum)?);
        Ok(())
    }

    /// Adds the part's `numbers` to the sums in the tree's order.
    fn add(&self, segment: &Segment, mut numbers: Tensor) -> torch_ext::Result<Tensor> {
        for sum in &self.sums {
            let mut sum = segment.of(sum);
            no_grad(|| sum.f_add_(&numbers).map(drop))?;
            numbers = sum;
        }
        if self.sums.is_empty() {
            // Not added to zeros, which would take the sign of a zero away.
            let mut sum = segment.of(&self.sum);
            no_grad(|| sum.f_copy_(&numbers))?;
            numbers = sum;
        }
        Ok(numbers)
    }

    /// The sum of all parts, where `numbers` are those of this one: what has not left is added.
    ///
    /// # Errors
    /// Whatever went wrong while gradients came.
    pub(super) fn finish(mut self, numbers: &Tensor) -> torch_ext::Result<Tensor> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let left = self.exchange.segments[..self.exchange.begun.len()].last();
        let first = left.map(|segment| segment.elements.start);
        let all = self.exchange.segments.first().map_or(0, |segment| segment.elements.end);
        // What has not left lies before, and behind all segments.
        for elements in [0..first.unwrap_or(all), all..self.exchange.length] {
            let segment = Segment { parameters: 0..0, elements };
            let _ = self.add(&segment, segment.of(numbers))?;
        }
        Ok(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tch::{Device, Kind};
    use torch_ext::{HostCollectives, HostElements, drop_gradients, watch_gradients};

    /// A rank whose neighbour always has the same, and notes how many bytes it is asked for.
    struct Twice(Arc<Mutex<Vec<usize>>>);

    impl HostCollectives for Twice {
        fn rank(&self) -> usize {
            0
        }
        fn size(&self) -> usize {
            2
        }
        fn all_reduce(&mut self, elements: HostElements<'_>, _: ReduceOp) -> Result<(), String> {
            self.0.lock().unwrap().push(elements.bytes());
            let HostElements::F32(elements) = elements else { return Err("only f32".to_owned()) };
            elements.iter_mut().for_each(|number| *number *= 2.0);
            Ok(())
        }
        fn broadcast(&mut self, _: &mut [u8], _: usize) -> Result<(), String> {
            Err("not asked for".to_owned())
        }
        fn all_gather(&mut self, _: &[u8], _: &mut [u8]) -> Result<(), String> {
            Err("not asked for".to_owned())
        }
        fn barrier(&mut self) -> Result<(), String> {
            Ok(())
        }
    }

    /// Three parameters, of which each is a segment. The loss has squares, so that the gradients are twice the parameters' share.
    #[test]
    fn what_is_whole_leaves_while_the_last_part_is_computed() {
        let lengths = [3, 300_000, 300_000];
        let parameter = |length| Tensor::randn([length], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let changed = Changed::of_parameters(lengths.map(parameter).into());
        let loss = |of: &[usize]| {
            let squares = of.iter().map(|&place| changed.parameters[place].square().sum(Kind::Float));
            squares.reduce(|one, other| one + other).unwrap()
        };
        let row = |of: &[usize]| {
            drop_gradients(&changed.parameters).unwrap();
            let loss = loss(of);
            loss.backward();
            changed.row(&loss, 0.25).unwrap()
        };
        // The second parameter without a gradient holds back the first, which comes later in the order.
        for (parts, of, leave) in
            [(1, &[0, 1, 2][..], 3), (2, &[0, 1, 2], 3), (4, &[0, 1, 2], 3), (2, &[0, 2], 1), (2, &[0, 1], 0)]
        {
            let sizes = Arc::default();
            let group = ProcessGroup::host(Box::new(Twice(Arc::clone(&sizes)))).unwrap();
            let (mut tree, mut expected) = (Tree::default(), Tree::default());
            for place in 0..parts - 1 {
                tree.put(place, row(&[0, 1, 2])).unwrap();
                expected.put(place, row(&[0, 1, 2])).unwrap();
            }
            expected.put(parts - 1, row(of)).unwrap();
            let expected = expected.root().unwrap() * 2.0;

            let mut exchange = Exchange::new(&group, &changed, 1 << 20).unwrap();
            let mut last = LastPart::new(&mut exchange, tree, &changed).unwrap();
            drop_gradients(&changed.parameters).unwrap();
            let loss = loss(of);
            watch_gradients(&changed.parameters, &mut |place| last.came(place), || loss.backward()).unwrap();
            assert_eq!(last.exchange.begun.len(), leave, "{parts} parts, {of:?}");
            let sum = last.finish(&changed.row(&loss, 0.25).unwrap()).unwrap();
            exchange.finish(&sum).unwrap();
            assert!(sum.equal(&expected), "{parts} parts, {of:?}");
            assert_eq!(*sizes.lock().unwrap(), [1_200_000, 1_200_000, 12, 16], "{parts} parts, {of:?}");
        }
    }

    #[test]
    fn segments_are_the_parameters_from_the_last_to_the_first() {
        for (lengths, bytes, expected) in [
            (vec![], 100, vec![]),
            (vec![3], 100, vec![(0, 1)]),
            (vec![5, 10, 10, 20, 5, 1], 80, vec![(3, 6), (1, 3), (0, 1)]),
            (vec![1 << 18, 1, 1 << 17, 1 << 17, 2], 4 << 20, vec![(2, 5), (0, 2)]), // the first is of a MiB
        ] {
            let segments = segments(&lengths, bytes);
            assert_eq!(
                segments.iter().map(|segment| (segment.parameters.start, segment.parameters.end)).collect::<Vec<_>>(),
                expected
            );
            let mut end = lengths.iter().sum();
            for segment in segments {
                assert_eq!(segment.elements.end, end);
                end = segment.elements.start;
                assert_eq!(segment.elements.len(), lengths[segment.parameters].iter().sum::<usize>());
            }
            assert_eq!(end, 0);
        }
    }
}
