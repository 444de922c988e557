//! Parts of a batch that are computed side by side: each thread has a twin of the model, on the same parameters.

use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Context;
use tch::Tensor;
use torch_ext::copy_each;
use world::catch_panic;

use super::part::{Changed, Part, Row};
use crate::machine::workers::Workers;
use crate::model::numerics::Numerics;
use crate::model::{Model, Twin};

/// Threads with a twin of the model each.
#[derive(Debug)]
pub(crate) struct Twins {
    workers: Workers<Job>,
    /// Where the model's parameters are in memory: those of the twins are there, too.
    addresses: Vec<usize>,
}

#[derive(Debug)]
struct Job {
    part: Part,
    tell: Sender<Told>,
}

/// What a thread tells.
enum Told {
    /// The outputs for the part at this place, of which it wants the loss.
    Outputs(usize, Vec<Tensor>, Sender<Tensor>),
    /// What came of a part.
    Done(anyhow::Result<Row>),
}

impl Twins {
    /// So many of `model`; `None` where it has none.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub(crate) fn new(model: &dyn Model, numerics: Numerics, count: usize) -> anyhow::Result<Option<Self>> {
        let twins: Option<Vec<_>> = (0..count).map(|_| model.twin()).collect();
        let Some(twins) = twins else { return Ok(None) };
        let begin = |twin: Twin| {
            let originals = Changed::of(model).buffers();
            move || {
                let twin = twin();
                let changed = Changed::of(&*twin);
                let buffers = changed.buffers();
                move |Job { part, tell }| {
                    let work = || -> anyhow::Result<Row> {
                        copy_each(&buffers, &originals)?;
                        let loss = |outputs| {
                            let (answer, answered) = channel();
                            let _ = tell.send(Told::Outputs(part.place, outputs, answer)); // who left does not answer
                            answered.recv().context("there is no loss of a part")
                        };
                        // Which part is the last shows when it is over, and the others' threads have the cores.
                        changed.compute(&*twin, numerics, &part, loss, None)
                    };
                    // tch panics where libtorch throws.
                    let done = catch_panic(work).map_err(anyhow::Error::msg).flatten();
                    let _ = tell.send(Told::Done(done)); // whoever wanted it may have given up
                }
            }
        };
        let workers = Workers::start("part", twins.into_iter().map(begin))?;
        Ok(Some(Self { workers, addresses: addresses(model) }))
    }

    /// Whether they still are on the parameters of `model`.
    pub(crate) fn are_of(&self, model: &dyn Model) -> bool {
        self.addresses == addresses(model)
    }

    /// Computes `parts`, and gives `take` what came of each, in whatever order they are ready. `loss` makes one of the outputs of the
    /// part at a place, on this thread.
    ///
    /// # Errors
    /// The first thing that went wrong, when no thread is at one of these parts any more.
    pub(super) fn compute(
        &self,
        parts: Vec<Part>,
        loss: impl Fn(usize, Vec<Tensor>) -> anyhow::Result<Tensor>,
        mut take: impl FnMut(Row) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (tell, told): (_, Receiver<Told>) = channel();
        let mut left = parts.len();
        for part in parts {
            self.workers.give(Job { part, tell: tell.clone() })?;
        }
        drop(tell);
        let mut outcome = Ok(());
        for told in told {
            let went_well = match told {
                Told::Done(row) => {
                    left -= 1;
                    row.and_then(&mut take)
                }
                Told::Outputs(place, outputs, answer) => {
                    let loss = catch_panic(|| loss(place, outputs)).map_err(anyhow::Error::msg).flatten();
                    loss.map(|loss| drop(answer.send(loss))) // who does not wait any more tells why
                }
            };
            outcome = outcome.and(went_well);
        }
        outcome
            .and_then(|()| if left == 0 { Ok(()) } else { anyhow::bail!("a thread has ended in the middle of a part") })
    }
}

fn addresses(model: &dyn Model) -> Vec<usize> {
    model.parameters().iter().map(|(_, parameter)| parameter.data_ptr() as usize).collect()
}
