//! The verb `fetch`: files from elsewhere, on every node of the job.

use fetch::{Request, Store};
use flags::FetchArgs;
use world::World;

use crate::config::weights::{request, store, version};
use crate::distributed::hub::fetch_weights;
use crate::errors::{agree, usage};

/// Brings files to every node of the job. Collective.
pub(crate) fn run(args: &FetchArgs, world: &World) -> anyhow::Result<()> {
    let plan = || -> anyhow::Result<(Vec<Request>, Store)> {
        if args.sha256.is_some() && args.sources.len() > 1 {
            return Err(usage("--sha256: names one file, and several are to be fetched"));
        }
        // torchvision's names of its weights mean their addresses.
        let requests = args.sources.iter().map(|source| match version("fetch", Some(source), None)? {
            Some(version) => request(&version.published.url(), args.sha256.as_deref()),
            None => request(source, args.sha256.as_deref()),
        });
        Ok((requests.collect::<Result<_, _>>()?, store(&args.store)?))
    };
    let (requests, store) = agree(world, plan())?;
    for request in &requests {
        let path = fetch_weights(world, &store, request)?;
        if world.local_rank() == 0 {
            log::info!("{} is at {}", request.source, path.display());
        }
    }
    Ok(())
}
