//! Images of one's own, something to do at the points of a run, and a loop of one's own: `mpirun -n 2 own_loop --epochs 50`.

use std::path::Path;
use std::process::ExitCode;

use rust_train::{EpochLine, Flow, Hooks, OwnImages, Program, Scores};

const SIZE: usize = 8;

/// Images of stripes that lie or stand, from `seed` on, and which of both they do.
fn stripes(count: usize, seed: usize) -> impl Iterator<Item = (Vec<u8>, usize)> {
    (seed..seed + count).map(|number| {
        let (class, shift) = (number % 2, number / 2 % 4);
        let is_light = |x: usize, y: usize| (([y, x][class] + shift) / 2).is_multiple_of(2);
        let pixel = |place: usize| if is_light(place % SIZE, place / SIZE) { 200 + number % 50 } else { number % 90 };
        ((0..SIZE * SIZE).flat_map(|place| [pixel(place) as u8; 3]).collect(), class)
    })
}

/// Ends the run once it has been good enough for a while.
struct EarlyStop {
    enough: f64,
    epochs: usize,
}

impl Hooks for EarlyStop {
    fn evaluation(&mut self, _: usize, _: f64, scores: &Scores, _: bool) -> anyhow::Result<()> {
        self.epochs = if scores.get("top1") >= self.enough { self.epochs + 1 } else { 0 };
        Ok(())
    }

    fn epoch_end(&mut self, _: &EpochLine) -> anyhow::Result<Flow> {
        Ok(if self.epochs >= 2 { Flow::End } else { Flow::Continue })
    }

    fn checkpoint(&mut self, run: &Path, steps: usize) -> anyhow::Result<()> {
        // A copy elsewhere, a message to a service… every rank comes by here.
        let _ = (run, steps);
        Ok(())
    }
}

fn main() -> ExitCode {
    Program::new()
        .images("stripes", || OwnImages::new(SIZE, ["lying", "standing"]).train(stripes(512, 0))?.val(stripes(64, 512)))
        .hooks(EarlyStop { enough: 0.99, epochs: 0 })
        .epochs(|epochs| {
            while let Some(epoch) = epochs.next_epoch()? {
                if epochs.is_rank_zero() {
                    println!("epoch {}: {:.1} % right", epoch.epoch, epoch.scores.get("top1") * 100.0);
                }
            }
            Ok(())
        })
        .run()
}
