//! The verb `models`: the networks of the catalogue in a table. Calls neither MPI nor libtorch.

use std::cmp::Reverse;

use architectures::{ARCHITECTURES, Architecture, Tells};
use flags::{ModelColumn, ModelsArgs};
use serde::Serialize;

use crate::errors::usage;
use crate::observe::stdout::print;

/// Classes of ImageNet, which the published weights tell apart.
const CLASSES: usize = 1000;

/// One network.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    /// Height and width of the images that it is made for, in pixels.
    image_size: usize,
    /// Trained values, with a head of 1000 classes.
    parameters: usize,
    /// Multiply-accumulate operations of a forward pass of one such image.
    macs: usize,
    /// Of the published weights, on ImageNet's validation images, in percent.
    top1: Option<f64>,
    /// Of those that tell the class of each pixel, on COCO's, in percent.
    miou: Option<f64>,
    /// Whether it tells the class of each pixel.
    tells_masks: bool,
    /// What timm calls it, if it has it.
    timm: Option<&'static str>,
    /// The file of the published weights.
    weights: Option<&'static str>,
}

/// Prints the networks that the flags ask for.
pub(crate) fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let rows = rows(args)?;
    let text = if args.json { serde_json::to_string_pretty(&rows)? + "\n" } else { table(&rows) };
    print(&text)?;
    Ok(())
}

fn rows(args: &ModelsArgs) -> anyhow::Result<Vec<Row>> {
    let names: Vec<_> = args.names.iter().map(|name| name.to_lowercase()).collect();
    let is_named =
        |known: &&Architecture| names.is_empty() || names.iter().any(|name| known.name.contains(name.as_str()));
    let most = args.max_parameters.unwrap_or(f64::INFINITY) * 1e6;
    let mut rows: Vec<_> = ARCHITECTURES
        .iter()
        .filter(is_named)
        .filter(|known| known.published.is_some() || !args.pretrained)
        .map(row)
        .collect::<anyhow::Result<_>>()?;
    rows.retain(|row| row.parameters as f64 <= most);
    if rows.is_empty() {
        let names = ARCHITECTURES.iter().map(|known| known.name);
        let meant = args.names.first().map_or_else(String::new, |name| suggest::did_you_mean(name, names));
        return Err(usage(format!("models: no network is like that{meant}")));
    }
    match args.sort {
        ModelColumn::Name => {}
        ModelColumn::Parameters => rows.sort_by_key(|row| row.parameters),
        ModelColumn::Macs => rows.sort_by_key(|row| row.macs),
        ModelColumn::Accuracy => rows.sort_by_key(|row| Reverse(row.top1.map(|top1| (top1 * 1000.0) as u64))),
    }
    Ok(rows)
}

fn row(known: &Architecture) -> anyhow::Result<Row> {
    let cost = known.network(CLASSES).cost(known.image_size, known.image_size)?;
    let (score, tells_masks) = (known.published.map(|published| published.score), known.tells == Tells::Masks);
    Ok(Row {
        name: known.name,
        image_size: known.image_size,
        parameters: cost.parameters,
        macs: cost.macs,
        top1: score.filter(|_| !tells_masks),
        miou: score.filter(|_| tells_masks),
        tells_masks,
        timm: known.timm_name(),
        weights: known.published.map(|published| published.file),
    })
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  pixels  parameters   GMACs  top-1\n", "network");
    for row in rows {
        let top1 = row.top1.or(row.miou).map_or_else(|| "-".to_owned(), |score| format!("{score:.2}"));
        let (millions, giga) = (row.parameters as f64 / 1e6, row.macs as f64 / 1e9);
        text += &format!("{:width$}  {:6}  {millions:8.2} M  {giga:6.3}  {top1:>5}\n", row.name, row.image_size);
    }
    if rows.iter().any(|row| row.tells_masks) {
        text += "\nfcn, deeplabv3, lraspp and unet tell the class of each pixel (--task segment): theirs is the mIoU on COCO's images\n";
    }
    text += "\nwith a head of 1000 classes; top-1: of torchvision's published weights (--pretrained) on ImageNet, in percent\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(names: &[&str]) -> ModelsArgs {
        ModelsArgs {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            pretrained: false,
            max_parameters: None,
            sort: ModelColumn::Name,
            json: false,
        }
    }

    #[test]
    fn a_table_has_what_people_choose_by() {
        insta::assert_snapshot!(table(&rows(&args(&["resnet18", "cifar_resnet20"])).unwrap()), @r"
        network         pixels  parameters   GMACs  top-1
        resnet18           224     11.69 M   1.814  69.76
        resnet18d          224     11.71 M   2.054      -
        cifar_resnet20      32      0.33 M   0.041      -

        with a head of 1000 classes; top-1: of torchvision's published weights (--pretrained) on ImageNet, in percent
        ");
        let best = rows(&ModelsArgs { sort: ModelColumn::Accuracy, max_parameters: Some(10.0), ..args(&[]) }).unwrap();
        assert!(best.iter().all(|row| row.parameters <= 10_000_000));
        assert!(best.is_sorted_by(|one, other| one.top1.unwrap_or(0.0) >= other.top1.unwrap_or(0.0)));
        assert_eq!(rows(&ModelsArgs { pretrained: true, ..args(&["cifar", "vgg11"]) }).unwrap().len(), 2);
        let error = rows(&args(&["resnt"])).unwrap_err().to_string();
        assert!(error.starts_with("models: no network is like that; did you mean "), "{error}");
    }
}
