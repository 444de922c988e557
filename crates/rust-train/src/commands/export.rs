//! The verb `export`: a model for other programs.

use std::path::Path;

use anyhow::Context;
use architectures::architecture;
use backbones::Backbone;
use flags::{ExportArgs, Format};
use tch::Device;
use world::World;

use crate::commands::inference;
use crate::config::weights::of_model;
use crate::distributed::download::fetch_once;
use crate::errors::usage;
use crate::files::write_whole;

/// Exports as the flags say. A run of one rank.
pub(crate) fn run(args: &ExportArgs, world: &World) -> anyhow::Result<()> {
    inference::one_rank(world, "export")?;
    let architecture = architecture(&args.model.model).map_err(|error| usage(format!("--model: {error}")))?;
    let format = format(args)?;
    let side = args.model.image_size.unwrap_or(architecture.image_size);
    architecture.network(1).shapes(side, side).map_err(|error| usage(format!("--image-size: {error}")))?;
    let (request, store) = of_model(&architecture, &args.model)?
        .ok_or_else(|| usage("--weights or --pretrained: names the weights to export"))?;
    let path = fetch_once(world, &store, &request)?;
    let backbone = inference::load(&architecture, &path, Device::Cpu)?;
    write_whole(&args.output, |file| write(&backbone, format, side, file))
        .with_context(|| format!("writing {format:?}"))?;
    let classes = backbone.network().classes();
    log::info!("{} with {classes} classes is in {}", architecture.name, args.output.display());
    Ok(())
}

fn write(backbone: &Backbone, format: Format, side: usize, file: &Path) -> anyhow::Result<()> {
    match format {
        Format::Safetensors => backbone.save(file)?,
        Format::Pth => weights::write_pth(file, &backbone.export())?,
        Format::TorchScript => backbone.trace(side)?.save(file)?,
        Format::Onnx => std::fs::write(file, onnx::model(backbone.network(), &backbone.export(), side)?)?,
    }
    Ok(())
}

fn format(args: &ExportArgs) -> anyhow::Result<Format> {
    if let Some(format) = args.format {
        return Ok(format);
    }
    let extension = args.output.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        "safetensors" => Ok(Format::Safetensors),
        "pth" => Ok(Format::Pth),
        "pt" | "ts" | "torchscript" => Ok(Format::TorchScript),
        "onnx" => Ok(Format::Onnx),
        _ => Err(usage("--format: the ending of --output does not say which; name it")),
    }
}
