//! What can be trained: the networks of `backbones`, or a module of somebody's own.

pub(crate) mod build;
pub(crate) mod card;
pub(crate) mod found;
pub(crate) mod numerics;
pub(crate) mod objective;
pub(crate) mod side_by_side;
pub(crate) mod teacher;
pub(crate) mod tensors;

use backbones::Backbone;
use tch::nn::{ModuleT, VarStore};
use tch::{Device, Tensor};
use torch_ext::ProcessGroup;

use crate::config::plan::OwnNetwork;

/// A model that the trainer can train. All methods are called on every rank, in the same order.
pub trait Model {
    /// What the task compares with its targets, each with a row for each image, of images N×channels×H×W in single precision,
    /// normalized; in training (`train`) or evaluation. To tell classes apart: one tensor of logits, N×classes.
    fn forward(&self, images: &Tensor, train: bool) -> Vec<Tensor>;

    /// The outputs for images in evaluation, with the parameters and buffers as they are now: as of
    /// [`forward`](Self::forward), but for rounding, and perhaps faster. Made anew for each evaluation.
    fn evaluator(&self) -> Box<dyn Fn(&Tensor) -> Vec<Tensor> + '_> {
        Box::new(|images| self.forward(images, false))
    }

    /// All parameters that are ever trained, by name; those that are frozen at present require no gradient.
    fn parameters(&self) -> Vec<(String, Tensor)>;

    /// What changes in training but not by gradients, by name: BatchNorm's running statistics.
    fn buffers(&self) -> Vec<(String, Tensor)>;

    /// Makes the same model for another thread, to be trained there beside this one: on the same parameters, in the same order, whose
    /// gradients are its own there, and with buffers of its own, frozen where this one is. What is random in it must be drawn by
    /// [`torch_ext::rng`]. `None` where there is no such thing: then parts of a batch are computed one after the other.
    fn twin(&self) -> Option<Twin> {
        None
    }

    /// Everything that is saved, by name: parameters and buffers, unless there is more.
    fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = self.parameters();
        state.extend(self.buffers());
        state
    }

    /// The model without its head, in evaluation, with the parameters and buffers as they are now. `None` where it does not know what its
    /// head is.
    fn without_head(&self) -> Option<Headless<'_>> {
        None
    }

    /// The names of the head's parameters; none where the model does not know what its head is.
    fn head(&self) -> Vec<String> {
        Vec::new()
    }

    /// How deep the layer of each parameter lies, by name; none where the model does not know its layers.
    fn depths(&self) -> Vec<(String, usize)> {
        Vec::new()
    }

    /// The names of the parameters whose steps Muon makes orthogonal: those of two or four axes that are not the head's, unless the
    /// model knows better.
    fn matrices(&self) -> Vec<String> {
        let head = self.head();
        let is_one = |(name, tensor): &(String, Tensor)| matches!(tensor.dim(), 2 | 4) && !head.contains(name);
        self.parameters().into_iter().filter(is_one).map(|(name, _)| name).collect()
    }

    /// Freezes all but the head, or trains everything again. Gives whether the model knows what its head is.
    fn set_backbone_frozen(&self, frozen: bool) -> bool {
        let _ = frozen;
        false
    }

    /// Makes training forget the inside of each block after the forward pass and compute it once more on the way back, with the same
    /// gradients. Gives whether the model can do that.
    fn recompute_blocks(&mut self) -> bool {
        false
    }

    /// Makes BatchNorm use the statistics of all ranks of `group`. Gives whether the model can do that.
    fn synchronize_batch_norm(&mut self, group: &ProcessGroup) -> bool {
        let _ = group;
        false
    }

    /// Makes BatchNorm use this rank's statistics alone for a while, `paused`, or those of all ranks again: for a pass that
    /// other ranks may not come through. Models that [synchronize](Self::synchronize_batch_norm) must do that, too.
    fn pause_batch_norm_synchronization(&self, paused: bool) {
        let _ = paused;
    }
}

/// A model without its head.
pub struct Headless<'m> {
    /// Gives the features of images N×C×height×width, a row of them for each, N×F.
    pub features: Box<dyn Fn(&Tensor) -> Tensor + 'm>,
    /// Weight, outputs×F, and bias of the head, where it is a linear layer of those.
    pub head: Option<(Tensor, Tensor)>,
}

impl std::fmt::Debug for Headless<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Headless").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Model for Backbone {
    fn forward(&self, images: &Tensor, train: bool) -> Vec<Tensor> {
        self.forward_all(images, train)
    }

    fn evaluator(&self) -> Box<dyn Fn(&Tensor) -> Vec<Tensor> + '_> {
        let folded = self.folded();
        Box::new(move |images| vec![folded.forward(images, false)])
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.trainable()
    }

    fn buffers(&self) -> Vec<(String, Tensor)> {
        Self::buffers(self)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        Self::state(self)
    }

    fn twin(&self) -> Option<Twin> {
        let twin = Self::twin(self);
        Some(Box::new(move || Box::new(twin.arrive())))
    }

    fn without_head(&self) -> Option<Headless<'_>> {
        let headless = Self::without_head(self).folded();
        Some(Headless { features: Box::new(move |images| headless.forward(images, false)), head: self.linear_head() })
    }

    fn head(&self) -> Vec<String> {
        Self::head(self)
    }

    fn depths(&self) -> Vec<(String, usize)> {
        let names = self.network().parameters().into_iter().map(|parameter| parameter.name);
        names.zip(self.network().depths()).collect()
    }

    fn matrices(&self) -> Vec<String> {
        self.network().hidden_matrices()
    }

    fn set_backbone_frozen(&self, frozen: bool) -> bool {
        if frozen {
            self.freeze_all_but_head();
        } else {
            self.unfreeze();
        }
        true
    }

    fn recompute_blocks(&mut self) -> bool {
        Self::recompute_blocks(self)
    }

    fn synchronize_batch_norm(&mut self, group: &ProcessGroup) -> bool {
        Self::synchronize_batch_norm(self, group);
        true
    }

    fn pause_batch_norm_synchronization(&self, paused: bool) {
        Self::pause_batch_norm_synchronization(self, paused);
    }
}

/// Makes a [twin](Model::twin) of a model, in the thread that it is for.
pub type Twin = Box<dyn FnOnce() -> Box<dyn Model> + Send>;

/// What a model is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildContext {
    /// Numbers that the task wants for each image: of a classification a logit for each class.
    pub outputs: usize,
    /// Channels of the images: 3 are red, green and blue.
    pub channels: usize,
    /// Height and width of the images, in pixels.
    pub image_size: usize,
    /// Where its parameters must be.
    pub device: Device,
}

/// Builds a model. libtorch's generator has been seeded: what is drawn from it is the same on every rank and in every
/// run of the same seed.
pub type Build = dyn Fn(&BuildContext) -> anyhow::Result<Box<dyn Model>>;

/// A model of the caller's own.
pub(crate) struct OwnModel {
    pub(crate) network: OwnNetwork,
    pub(crate) build: Box<Build>,
}

impl OwnModel {
    /// A model called `name`, made for images of `image_size` × `image_size` pixels, which `build` builds.
    pub(crate) fn new(
        name: &str,
        image_size: usize,
        build: impl Fn(&BuildContext) -> anyhow::Result<Box<dyn Model>> + 'static,
    ) -> Self {
        Self { network: OwnNetwork { name: name.to_owned(), image_size }, build: Box::new(build) }
    }
}

impl std::fmt::Debug for OwnModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnModel({})", self.network.name)
    }
}

/// A model of the variables in `store`, which `forward` uses to make outputs of images, in training or evaluation: what
/// [`Model::forward`] gives.
pub fn from_fn(store: VarStore, forward: impl Fn(&Tensor, bool) -> Vec<Tensor> + 'static) -> Box<dyn Model> {
    Box::new(Module::of_forward(store, forward))
}

/// A module of tch with the store of its variables.
///
/// ```
/// use rust_train::{Model, Module};
/// use tch::{Device, nn};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let linear = nn::linear(vs.root() / "linear", 12, 10, Default::default());
/// let module = nn::seq_t().add_fn(|images| images.flatten(1, -1)).add(linear);
/// let model = Module::new(vs, module);
/// assert_eq!(model.parameters().len(), 2);
/// ```
pub struct Module {
    forward: Box<dyn Fn(&Tensor, bool) -> Vec<Tensor>>,
    parameters: Vec<(String, Tensor)>,
    buffers: Vec<(String, Tensor)>,
    _store: VarStore,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.parameters.iter().map(|(name, _)| name).collect();
        f.debug_struct("Module").field("parameters", &names).finish_non_exhaustive()
    }
}

impl Module {
    /// `module`, whose variables are those of `store`.
    pub fn new(store: VarStore, module: impl ModuleT + 'static) -> Self {
        Self::of_forward(store, move |images, train| vec![module.forward_t(images, train)])
    }

    fn of_forward(store: VarStore, forward: impl Fn(&Tensor, bool) -> Vec<Tensor> + 'static) -> Self {
        // A store has no order, and all ranks must agree on one.
        let mut variables: Vec<_> = store.variables().into_iter().collect();
        variables.sort_by(|(left, _), (right, _)| left.cmp(right));
        let (parameters, buffers) = variables.into_iter().partition(|(_, tensor)| tensor.requires_grad());
        Self { forward: Box::new(forward), parameters, buffers, _store: store }
    }
}

fn shallow(tensors: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

impl Model for Module {
    fn forward(&self, images: &Tensor, train: bool) -> Vec<Tensor> {
        (self.forward)(images, train)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        shallow(&self.parameters)
    }

    fn buffers(&self) -> Vec<(String, Tensor)> {
        shallow(&self.buffers)
    }
}

/// The parameters of `model` that are trained at present.
pub(crate) fn trained(model: &dyn Model) -> Vec<(String, Tensor)> {
    model.parameters().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect()
}
