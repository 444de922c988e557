//! The verb `profile`: what a network costs, layer by layer. Calls neither MPI nor libtorch, so it is for a login node.

use architectures::{Cost, Memory, Network, Shape, TrainingMemory, Workload, architecture};
use flags::{DEFAULT_MOMENTUM, ProfileArgs, Recompute};
use serde::Serialize;

use crate::errors::usage;
use crate::observe::stdout::print;

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct Profile {
    model: &'static str,
    image_size: usize,
    classes: usize,
    batch: usize,
    /// Trained values.
    parameters: usize,
    /// Multiply-accumulate operations of a forward pass of one image.
    macs: usize,
    /// Two for each MAC.
    flops: usize,
    /// Bytes of activations of one image.
    activation_bytes_training: usize,
    activation_bytes_inference: usize,
    /// Bytes for the whole batch.
    training: MemoryLine,
    inference: MemoryLine,
    layers: Vec<Layer>,
}

/// An estimate of memory, in bytes.
#[derive(Debug, Serialize)]
struct MemoryLine {
    parameters: usize,
    gradients: usize,
    optimizer: usize,
    average: usize,
    /// Of the weights, which autocast makes.
    half_copies: usize,
    activations: usize,
    transient: usize,
    total: usize,
}

/// One operation.
#[derive(Debug, Serialize)]
struct Layer {
    name: String,
    operation: &'static str,
    output: Vec<usize>,
    parameters: usize,
    macs: usize,
}

/// Prints the profile that the flags ask for.
pub(crate) fn run(args: &ProfileArgs) -> anyhow::Result<()> {
    let profile = profile(args)?;
    let text = if args.json { serde_json::to_string_pretty(&profile)? + "\n" } else { table(&profile) };
    print(&text)?;
    Ok(())
}

fn profile(args: &ProfileArgs) -> anyhow::Result<Profile> {
    let known = architecture(&args.model).map_err(|error| usage(format!("--model: {error}")))?;
    if args.batch == 0 || args.classes == Some(0) {
        return Err(usage("--batch and --classes: must be at least 1"));
    }
    let side = args.image_size.unwrap_or(known.image_size);
    let classes = args.classes.unwrap_or(known.usual_classes());
    let network = known.network(classes).with_image_side(side);
    if args.recompute == Recompute::Blocks && network.blocks().is_empty() {
        return Err(usage(format!("--recompute blocks: {} has none", known.name)));
    }
    let bad_size = |error| usage(format!("--image-size: {error}"));
    let cost = network.cost(side, side).map_err(bad_size)?;
    let value_bytes = args.precision.value_bytes();
    let recompute = args.recompute == Recompute::Blocks;
    let average = args.optimizer.evaluates_average();
    let optimizer =
        TrainingMemory { recompute, average, ..TrainingMemory::of(args.optimizer.memory(DEFAULT_MOMENTUM)) };
    let workload = |training| Workload { batch: args.batch, activation_bytes: value_bytes, training };
    let [training_bytes, inference_bytes] = network.activation_bytes(side, side, value_bytes).map_err(bad_size)?;
    Ok(Profile {
        model: known.name,
        image_size: side,
        classes,
        batch: args.batch,
        parameters: cost.parameters,
        macs: cost.macs,
        flops: cost.flops(),
        activation_bytes_training: training_bytes,
        activation_bytes_inference: inference_bytes,
        training: network.memory(side, side, workload(Some(optimizer))).map_err(bad_size)?.into(),
        inference: network.memory(side, side, workload(None)).map_err(bad_size)?.into(),
        layers: layers(&network, side).map_err(bad_size)?,
    })
}

impl From<Memory> for MemoryLine {
    fn from(memory: Memory) -> Self {
        let total = memory.total();
        let Memory { parameters, gradients, optimizer, half_copies, activations, transient, average } = memory;
        Self { parameters, gradients, optimizer, average, half_copies, activations, transient, total }
    }
}

fn layers(network: &Network, side: usize) -> Result<Vec<Layer>, architectures::ShapeError> {
    let shapes = network.shapes(side, side)?;
    let costs = network.layer_costs(side, side)?;
    let rows = network.nodes().iter().zip(shapes.iter().zip(costs));
    let layer = |(node, (shape, Cost { parameters, macs })): (&architectures::Node, (&Shape, Cost))| Layer {
        name: node.name.trim_end_matches('_').to_owned(),
        operation: node.op.word(),
        output: shape.sides().to_vec(),
        parameters,
        macs,
    };
    Ok(rows.map(layer).collect())
}

fn table(profile: &Profile) -> String {
    let heading = ["layer", "operation", "output", "parameters", "MACs"].map(str::to_owned);
    let layers = profile.layers.iter().map(|layer| {
        let output: Vec<_> = layer.output.iter().map(usize::to_string).collect();
        [
            layer.name.clone(),
            layer.operation.to_owned(),
            output.join("×"),
            grouped(layer.parameters),
            grouped(layer.macs),
        ]
    });
    let rows: Vec<_> = std::iter::once(heading).chain(layers).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for [name, operation, output, parameters, macs] in &rows {
        let [a, b, c, d, e] = widths;
        text += &format!("{name:a$}  {operation:b$}  {output:>c$}  {parameters:>d$}  {macs:>e$}\n");
    }
    let megabytes = |bytes: usize| format!("{:.1} MB", bytes as f64 / 1e6);
    let memory = |what: &str, line: &MemoryLine| {
        let parts = [
            ("parameters", line.parameters),
            ("gradients", line.gradients),
            ("optimizer", line.optimizer),
            ("average of the weights", line.average),
            ("half-precision copies", line.half_copies),
            ("activations", line.activations),
            ("temporary peak", line.transient),
        ];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(name, bytes)| format!("{name} {}", megabytes(*bytes)))
            .collect();
        format!("memory in {what}, a batch of {}: {} ({})\n", profile.batch, megabytes(line.total), parts.join(", "))
    };
    let Profile { model, image_size, classes, .. } = profile;
    text += &format!("\n{model}, {image_size}×{image_size} pixels, {classes} classes; for one image:\n");
    text += &format!("parameters: {}\n", grouped(profile.parameters));
    text += &format!("MACs: {} ({:.3} G), two FLOPs each\n", grouped(profile.macs), profile.macs as f64 / 1e9);
    text += &format!(
        "activations: {} kept in training, {} at once in inference\n",
        megabytes(profile.activation_bytes_training),
        megabytes(profile.activation_bytes_inference)
    );
    text += &memory("training", &profile.training);
    text += &memory("inference", &profile.inference);
    text
}

/// 1234567 as 1,234,567.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use flags::{Cli, Command};

    fn args(flags: &str) -> ProfileArgs {
        let arguments = ["rust-train", "profile"].into_iter().chain(flags.split_whitespace());
        match Cli::try_parse_from(arguments).unwrap().command {
            Some(Command::Profile(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_operation_and_the_totals() {
        insta::assert_snapshot!(table(&profile(&args("--model lenet --batch 4 --classes 10")).unwrap()));
    }

    #[test]
    fn the_totals_are_the_sums_of_the_layers() {
        let profile = profile(&args("--model resnet50 --image-size 224 --batch 64")).unwrap();
        assert_eq!(profile.layers.iter().map(|layer| layer.macs).sum::<usize>(), profile.macs);
        assert_eq!(profile.layers.iter().map(|layer| layer.parameters).sum::<usize>(), 25_557_032);
        assert_eq!(profile.flops, 2 * profile.macs);
    }

    #[test]
    fn what_cannot_be_profiled_is_refused() {
        for (flags, words) in [
            ("--model resnet19", "--model: no model is called 'resnet19'"),
            ("--model unet --recompute blocks", "--recompute blocks: unet has none"),
            ("--model vit_b_16 --image-size 100", "--image-size: vit_b_16 cannot take images of 100×100 pixels"),
            ("--batch 0", "--batch and --classes"),
        ] {
            let error = profile(&args(flags)).unwrap_err();
            assert!(error.is::<crate::errors::Usage>() && error.to_string().starts_with(words), "{error}");
        }
    }
}
