//! The verb `export`: a model for other programs.

use std::path::Path;

use anyhow::Context;
use architectures::architecture;
use backbones::Backbone;
use flags::{ExportArgs, Format, WeightNames};
use model_card::{KEY, ModelCard};
use tch::Device;
use torch_ext::{MemoryFormat, set_memory_format};
use weights::Tensor;
use world::World;

use crate::commands::inference::{self, Loaded};
use crate::errors::usage;
use crate::files::{refuse_unwritable, write_whole};
use crate::model::card::beside;

/// Exports as the flags say. A run of one rank.
pub(crate) fn run(args: &ExportArgs, world: &World) -> anyhow::Result<()> {
    inference::one_rank(world, "export")?;
    let format = format(args)?;
    if args.names == WeightNames::Timm && !matches!(format, Format::Safetensors | Format::Pth) {
        return Err(usage("--names timm: is for weights alone; use --format safetensors or pth"));
    }
    refuse_unwritable("--output", &args.output)?;
    let Loaded { backbone, card, classes, preprocessing, .. } =
        Loaded::new(world, args.run.as_deref(), &args.model, Device::Cpu)?;
    set_memory_format(
        &backbone.state().into_iter().map(|(_, tensor)| tensor).collect::<Vec<_>>(),
        MemoryFormat::Contiguous,
    )?;
    let weights = named(&backbone, args.names)?;
    write_whole(&args.output, |file| write(&backbone, weights, &card, format, preprocessing.size, file))
        .with_context(|| format!("writing {format:?}"))?;
    if format == Format::Pth {
        // The format has no room for a card.
        let beside = beside(&args.output);
        write_whole(&beside, |file| Ok(std::fs::write(file, card.to_json() + "\n")?))?;
    }
    log::info!("{} with {} classes is in {}", card.network, classes.len(), args.output.display());
    Ok(())
}

fn write(
    backbone: &Backbone,
    weights: Vec<(String, Tensor)>,
    card: &ModelCard,
    format: Format,
    side: usize,
    file: &Path,
) -> anyhow::Result<()> {
    match format {
        Format::Safetensors => weights::write_safetensors(file, &weights, &card.metadata())?,
        Format::Pth => {
            let version = architecture(&card.network).map_or(1, |known| known.class_version());
            weights::write_pth(file, &weights, version)?;
        }
        Format::TorchScript => {
            // libtorch writes the file's name into it: a temporary one would make another file each time.
            let folder = tempfile::tempdir_in(file.parent().unwrap_or(Path::new(".")))?;
            let program = folder.path().join("model.pt");
            backbone.trace(side)?.save(&program)?;
            weights::add_extra_file(&program, &format!("{KEY}.json"), card.to_json().as_bytes())?;
            std::fs::rename(&program, file)?;
        }
        Format::Onnx => {
            let model = onnx::model(backbone.network(), &weights, side, &card.metadata())?;
            std::fs::write(file, model)?;
        }
    }
    Ok(())
}

/// The weights, with the names and shapes that are asked for.
fn named(backbone: &Backbone, names: WeightNames) -> anyhow::Result<Vec<(String, Tensor)>> {
    let weights = backbone.export();
    if names == WeightNames::Torchvision {
        return Ok(weights);
    }
    let name = backbone.network().name();
    let known = architecture(name).ok().filter(|known| known.timm_name().is_some());
    let known =
        known.ok_or_else(|| usage(format!("--names timm: timm has no {name}, or has it with other arithmetic")))?;
    let renamed = weights.into_iter().filter_map(|(name, tensor)| {
        let weight = known.timm_weight(&name, tensor.shape())?;
        Some((weight.name, tensor.reshaped(weight.shape)))
    });
    log::info!("the weights have the names of timm.create_model({:?})", known.timm_name().unwrap_or_default());
    Ok(renamed.collect())
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
