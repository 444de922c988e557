//! Which weights the flags ask for.

use std::time::Duration;

use architectures::{Architecture, PublishedVersion};
use fetch::{Checksum, Limits, Request, Source, Store};
use flags::StoreArgs;

use crate::errors::usage;

/// What the flags name by torchvision's name, `ResNet50_Weights.IMAGENET1K_V2`, if they do: one of the files that are published for a network.
pub(crate) fn version(
    flag: &str,
    source: Option<&str>,
    network: Option<&Architecture>,
) -> anyhow::Result<Option<PublishedVersion>> {
    let named = source.and_then(|source| Some((source, PublishedVersion::named(source, network)?)));
    named.map(|(source, named)| named.map_err(|reason| usage(format!("{flag} {source}: {reason}")))).transpose()
}

/// The file that the flags name, and the store that it is kept in; the network is called `model` on the command line.
pub(crate) fn of_flags(
    model: Option<&str>,
    architecture: Option<&Architecture>,
    weights: Option<&str>,
    sha256: Option<&str>,
    pretrained: bool,
    kept: &StoreArgs,
) -> anyhow::Result<Option<(Request, Store)>> {
    let source = match (weights, pretrained) {
        (Some(source), _) => match version("--weights", Some(source), architecture)? {
            Some(version) => version.published.url(),
            None => source.to_owned(),
        },
        (None, true) => published(model, architecture)?,
        (None, false) => return Ok(None),
    };
    let request = request(&source, sha256).map_err(|error| usage(format!("--weights: {error:#}")))?;
    Ok(Some((request, store(kept)?)))
}

fn published(model: Option<&str>, architecture: Option<&Architecture>) -> anyhow::Result<String> {
    let architecture = architecture
        .ok_or_else(|| usage("--pretrained: needs --model: there are no published weights of a model of your own"))?;
    if let Some(model) = model.filter(|model| *model != architecture.name) {
        let name = architecture.name;
        return Err(usage(format!(
            "--pretrained: takes torchvision's weights, and {model} is timm's name; write --model {name}, or name timm's file with --weights"
        )));
    }
    let published = architecture.published.ok_or_else(|| {
        let name = architecture.name;
        usage(format!("--pretrained: no published weights of {name} are known; use --weights"))
    })?;
    Ok(published.url())
}

/// What `source` and `sha256` on the command line ask for.
pub(crate) fn request(source: &str, sha256: Option<&str>) -> anyhow::Result<Request> {
    let mut request = Request::new(source.parse::<Source>().map_err(usage)?);
    if let Some(text) = sha256 {
        request.checksum = Some(text.parse::<Checksum>().map_err(usage)?);
    }
    Ok(request)
}

/// The store that the flags describe.
pub(crate) fn store(args: &StoreArgs) -> anyhow::Result<Store> {
    let stall = args.stall_timeout;
    let stall_timeout = Duration::try_from_secs_f64(stall).ok().filter(|time| time.as_secs_f64() >= 0.1);
    let stall_timeout =
        stall_timeout.ok_or_else(|| usage(format!("--stall-timeout {stall}: must be a number of at least 0.1")))?;
    if args.attempts == 0 {
        return Err(usage("--attempts: must be at least 1"));
    }
    let limits = Limits {
        attempts: args.attempts,
        stall_timeout,
        connect_timeout: stall_timeout.min(Limits::default().connect_timeout),
        ..Limits::default()
    };
    Store::open(args.store.as_deref(), args.offline, limits)
        .map_err(|error| usage(format!("RUST_TRAIN_MIRROR: {error}")))
}
