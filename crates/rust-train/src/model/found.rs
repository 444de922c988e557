//! The weights in a file: which of its tensors are a network's.

use std::path::Path;

use architectures::Architecture;
use weights::{StateDict, Wanted};

use crate::errors::usage;

/// What the flags say of where in a file the weights are.
pub(crate) fn wanted(key: Option<&str>, prefix: Option<&str>) -> Wanted {
    Wanted { key: key.map(str::to_owned), prefix: prefix.map(str::to_owned) }
}

/// Reads the tensors that are `wanted` of the file `path`.
pub(crate) fn read(path: &Path, wanted: &Wanted) -> anyhow::Result<StateDict> {
    weights::read_wanted(path, wanted).map_err(|error| usage(format!("--weights: {error}")))
}

/// The weights of `architecture` among those that were `found` in the file `path`, and a line about what stood before their names, if
/// something did.
pub(crate) fn rooted(
    architecture: &Architecture,
    found: StateDict,
    path: &Path,
) -> anyhow::Result<(StateDict, Option<String>)> {
    let (count, shown) = (found.entries().len(), path.display());
    let (rooted, naming) =
        backbones::rooted(architecture, found).map_err(|reason| usage(format!("--weights: {shown}: {reason}")))?;
    let beside = match count - rooted.entries().len() {
        0 => String::new(),
        left => format!("; {left} tensors of other names are left out"),
    };
    let said = match (naming.prefix, naming.is_timm) {
        (None, false) => None,
        (None, true) => Some(format!("{shown}: the weights have timm's names")),
        (Some(prefix), is_timm) => {
            let whose = if is_timm { "timm's names of the weights" } else { "the names of the weights" };
            Some(format!("{shown}: {whose} begin with '{prefix}', which is taken away{beside}"))
        }
    };
    Ok((rooted, said))
}
