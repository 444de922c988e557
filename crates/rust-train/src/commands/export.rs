//! The verb `export`: a model for other programs.

use std::path::Path;

use anyhow::Context;
use backbones::Backbone;
use flags::{ExportArgs, Format};
use model_card::{KEY, ModelCard};
use tch::Device;
use torch_ext::{MemoryFormat, set_memory_format};
use world::World;

use crate::commands::inference::{self, Loaded};
use crate::errors::usage;
use crate::files::{refuse_unwritable, write_whole};
use crate::model::card::beside;

/// Exports as the flags say. A run of one rank.
pub(crate) fn run(args: &ExportArgs, world: &World) -> anyhow::Result<()> {
    inference::one_rank(world, "export")?;
    let format = format(args)?;
    refuse_unwritable("--output", &args.output)?;
    let Loaded { backbone, card, classes, preprocessing, .. } =
        Loaded::new(world, args.run.as_deref(), &args.model, Device::Cpu)?;
    set_memory_format(
        &backbone.state().into_iter().map(|(_, tensor)| tensor).collect::<Vec<_>>(),
        MemoryFormat::Contiguous,
    )?;
    write_whole(&args.output, |file| write(&backbone, &card, format, preprocessing.size, file))
        .with_context(|| format!("writing {format:?}"))?;
    if format == Format::Pth {
        // The format has no room for a card.
        let beside = beside(&args.output);
        write_whole(&beside, |file| Ok(std::fs::write(file, card.to_json() + "\n")?))?;
    }
    log::info!("{} with {} classes is in {}", card.network, classes.len(), args.output.display());
    Ok(())
}

fn write(backbone: &Backbone, card: &ModelCard, format: Format, side: usize, file: &Path) -> anyhow::Result<()> {
    match format {
        Format::Safetensors => weights::write_safetensors(file, &backbone.export(), &card.metadata())?,
        Format::Pth => weights::write_pth(file, &backbone.export())?,
        Format::TorchScript => {
            // libtorch writes the file's name into it: a temporary one would make another file each time.
            let folder = tempfile::tempdir_in(file.parent().unwrap_or(Path::new(".")))?;
            let program = folder.path().join("model.pt");
            backbone.trace(side)?.save(&program)?;
            weights::add_extra_file(&program, &format!("{KEY}.json"), card.to_json().as_bytes())?;
            std::fs::rename(&program, file)?;
        }
        Format::Onnx => {
            let model = onnx::model(backbone.network(), &backbone.export(), side, &card.metadata())?;
            std::fs::write(file, model)?;
        }
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
