//! `rust-train` with parts of somebody's own: model, task, images, hooks, loop. What is left out is `rust-train`'s.

use std::cell::RefCell;
use std::process::ExitCode;

use dataset::{Dataset, ImageSet};

use crate::config::plan::{Own, OwnTask};
use crate::model::{BuildContext, Model, OwnModel};
use crate::task::Task;
use crate::trainer::epochs::{self, Epochs};
use crate::trainer::hooks::Hooks;

type Read = dyn Fn() -> anyhow::Result<OwnImages>;
type Drive = dyn Fn(&mut Epochs<'_, '_>) -> anyhow::Result<()>;

/// A program with all of `rust-train`'s flags and verbs, and parts of its own.
///
/// ```no_run
/// use rust_train::{Module, Program};
/// use tch::nn;
///
/// # let _ =
/// Program::new()
///     .model("perceptron", 8, |context| {
///         let vs = nn::VarStore::new(context.device);
///         let (pixels, outputs) = (3 * context.image_size * context.image_size, context.outputs);
///         let layer = nn::linear(vs.root() / "layer", pixels as i64, outputs as i64, Default::default());
///         let module = nn::seq_t().add_fn(|images| images.flatten(1, -1)).add(layer);
///         Ok(Box::new(Module::new(vs, module)))
///     })
///     .run(); // from main: mpirun -n 2 PROGRAM --epochs 10
/// ```
pub struct Program {
    pub(crate) model: Option<OwnModel>,
    pub(crate) task: Option<Box<dyn Task>>,
    pub(crate) images: Option<(String, Box<Read>)>,
    pub(crate) hooks: RefCell<Box<dyn Hooks>>,
    pub(crate) drive: Box<Drive>,
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("model", &self.model).finish_non_exhaustive()
    }
}

impl Program {
    /// `rust-train` itself.
    pub fn new() -> Self {
        Self { model: None, task: None, images: None, hooks: RefCell::new(Box::new(())), drive: Box::new(epochs::all) }
    }

    /// With a model called `name` in the place of `--model`, made for images of `image_size` × `image_size` pixels, which
    /// `build` builds.
    #[must_use]
    pub fn model(
        mut self,
        name: &str,
        image_size: usize,
        build: impl Fn(&BuildContext) -> anyhow::Result<Box<dyn Model>> + 'static,
    ) -> Self {
        self.model = Some(OwnModel::new(name, image_size, build));
        self
    }

    /// With another task than to tell classes apart.
    #[must_use]
    pub fn task(mut self, task: impl Task + 'static) -> Self {
        self.task = Some(Box::new(task));
        self
    }

    /// With images in the place of `--data`, which are called `name` and which `read` gives, on every rank the same.
    #[must_use]
    pub fn images(mut self, name: &str, read: impl Fn() -> anyhow::Result<OwnImages> + 'static) -> Self {
        self.images = Some((name.to_owned(), Box::new(read)));
        self
    }

    /// With something to do at certain points of a run.
    #[must_use]
    pub fn hooks(self, hooks: impl Hooks + 'static) -> Self {
        Self { hooks: RefCell::new(Box::new(hooks)), ..self }
    }

    /// With a loop over the epochs; every rank must ask for as many. Where it ends before the last one the run is not over:
    /// `--resume` goes on with it. [`Flow::End`](crate::Flow::End) ends a run for good.
    #[must_use]
    pub fn epochs(mut self, drive: impl Fn(&mut Epochs<'_, '_>) -> anyhow::Result<()> + 'static) -> Self {
        self.drive = Box::new(drive);
        self
    }

    /// Runs the program: from its arguments to its exit status (0 done, 1 failed, 2 wrong usage, 75 stopped with a
    /// checkpoint saved).
    pub fn run(self) -> ExitCode {
        crate::run(&self)
    }

    /// What plans must know of it.
    pub(crate) fn own(&self) -> Own<'_> {
        Own {
            network: self.model.as_ref().map(|model| &model.network),
            data: self.images.as_ref().map(|(name, _)| name.as_str()),
            task: self.task.as_ref().map(|task| OwnTask { takes_mixed_images: task.takes_mixed_images() }),
        }
    }

    /// The numbers that a model gives for each image, where the data have so many classes.
    pub(crate) fn outputs(&self, classes: usize) -> usize {
        self.task.as_ref().and_then(|task| task.outputs()).unwrap_or(classes)
    }
}

/// Images of a program's own, in memory.
#[derive(Debug)]
pub struct OwnImages {
    size: usize,
    classes: Vec<String>,
    splits: [(Vec<u8>, Vec<i64>); 2],
}

impl OwnImages {
    /// None as yet; all will have `size` × `size` pixels, and labels that are numbers of `classes`.
    pub fn new(size: usize, classes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { size, classes: classes.into_iter().map(Into::into).collect(), splits: Default::default() }
    }

    /// Adds images to train on: of each its bytes, size × size × 3 in red, green and blue, and its label.
    ///
    /// # Errors
    /// An image of another size, or a label that is no class.
    pub fn train(self, images: impl IntoIterator<Item = (Vec<u8>, usize)>) -> anyhow::Result<Self> {
        self.add(0, images)
    }

    /// Adds images to validate on.
    ///
    /// # Errors
    /// As of [`train`](Self::train).
    pub fn val(self, images: impl IntoIterator<Item = (Vec<u8>, usize)>) -> anyhow::Result<Self> {
        self.add(1, images)
    }

    fn add(mut self, split: usize, images: impl IntoIterator<Item = (Vec<u8>, usize)>) -> anyhow::Result<Self> {
        let bytes = self.size * self.size * 3;
        let (pixels, labels) = &mut self.splits[split];
        for (image, label) in images {
            let number = labels.len();
            anyhow::ensure!(
                image.len() == bytes,
                "image {number} has {} bytes, and {size} × {size} pixels are {bytes}",
                image.len(),
                size = self.size
            );
            anyhow::ensure!(
                label < self.classes.len(),
                "image {number} has the label {label}, and there are {} classes",
                self.classes.len()
            );
            pixels.extend(image);
            labels.push(label as i64);
        }
        Ok(self)
    }

    pub(crate) fn into_dataset(self) -> Dataset {
        let [train, val] = self.splits.map(|(pixels, labels)| ImageSet::from_memory(pixels, labels, self.size));
        Dataset { classes: self.classes, train, val, test: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_cannot_be_are_refused() {
        let images = || OwnImages::new(2, ["ant", "bee"]);
        let dataset = images().train([(vec![7; 12], 1)]).unwrap().val([]).unwrap().into_dataset();
        assert_eq!((dataset.train.len(), dataset.val.len(), dataset.classes.len()), (1, 0, 2));
        let error = images().train([(vec![7; 11], 1)]).unwrap_err().to_string();
        assert_eq!(error, "image 0 has 11 bytes, and 2 × 2 pixels are 12");
        let error = images().val([(vec![7; 12], 0), (vec![7; 12], 2)]).unwrap_err().to_string();
        assert_eq!(error, "image 1 has the label 2, and there are 2 classes");
    }
}
