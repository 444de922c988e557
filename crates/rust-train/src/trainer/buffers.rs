//! BatchNorm's running statistics, which each rank gathers from the images that it sees.

use flags::DistributeBn;
use torch_ext::ProcessGroup;

use crate::model::Model;

/// Makes the running statistics of BatchNorm the same on all ranks, so that every rank evaluates, and rank 0 saves, the
/// same model. Collective.
pub(crate) fn distribute_buffers(model: &dyn Model, group: &ProcessGroup, how: DistributeBn) -> torch_ext::Result<()> {
    let buffers: Vec<_> = model.buffers().into_iter().map(|(_, tensor)| tensor).collect();
    match how {
        DistributeBn::Average => group.average(&buffers),
        DistributeBn::Broadcast => group.broadcast(&buffers, 0),
    }
}
