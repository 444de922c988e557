//! Which weights the flags ask for.

use architectures::Architecture;

use crate::cli::ModelArgs;
use crate::failure::usage;
use crate::{cli, download};

/// The file that the flags name, and the store that it is kept in.
pub(crate) fn request(
    architecture: &Architecture,
    args: &ModelArgs,
) -> anyhow::Result<Option<(fetch::Request, fetch::Store)>> {
    of_flags(Some(architecture), args.weights.as_deref(), args.weights_sha256.as_deref(), args.pretrained, &args.store)
}

/// The same, from flags one by one.
pub(crate) fn of_flags(
    architecture: Option<&Architecture>,
    weights: Option<&str>,
    sha256: Option<&str>,
    pretrained: bool,
    store: &cli::StoreArgs,
) -> anyhow::Result<Option<(fetch::Request, fetch::Store)>> {
    let source = match (weights, pretrained) {
        (Some(source), _) => source.to_owned(),
        (None, true) => published(architecture)?,
        (None, false) => return Ok(None),
    };
    let request = download::request(&source, sha256).map_err(|error| usage(format!("--weights: {error:#}")))?;
    Ok(Some((request, download::store(store)?)))
}

fn published(architecture: Option<&Architecture>) -> anyhow::Result<String> {
    let architecture = architecture.ok_or_else(|| usage("--pretrained: nobody publishes weights of your own model"))?;
    let published = architecture.published.ok_or_else(|| {
        let name = architecture.name;
        usage(format!("--pretrained: nobody publishes weights of {name} at a known address; use --weights"))
    })?;
    Ok(published.url())
}
