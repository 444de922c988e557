//! Every architecture by name.

use crate::network::Network;
use crate::{cifar_resnet, lenet, resnet};

/// An architecture: a name and how to write its network down.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// The name on the command line.
    pub name: &'static str,
    /// The side of the pictures it was made for, in pixels.
    pub image_size: usize,
    network: fn(classes: usize) -> Network,
}

impl Architecture {
    /// The network with a head for `classes` classes.
    pub fn network(&self, classes: usize) -> Network {
        (self.network)(classes)
    }
}

/// All architectures, in the order of a listing.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture { name: "resnet18", image_size: 224, network: resnet::resnet18 },
    Architecture { name: "resnet34", image_size: 224, network: resnet::resnet34 },
    Architecture { name: "resnet50", image_size: 224, network: resnet::resnet50 },
    Architecture { name: "cifar_resnet20", image_size: 32, network: cifar_resnet::cifar_resnet20 },
    Architecture { name: "lenet", image_size: 32, network: lenet::lenet },
];

/// A name that no architecture has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no model is called '{name}'; there are: {}", ARCHITECTURES.iter().map(|known| known.name).collect::<Vec<_>>().join(", "))]
pub struct UnknownArchitecture {
    name: String,
}

/// The architecture called `name`.
///
/// # Errors
/// The names that exist, where this one does not.
pub fn architecture(name: &str) -> Result<Architecture, UnknownArchitecture> {
    let found = ARCHITECTURES.iter().find(|known| known.name == name);
    found.copied().ok_or_else(|| UnknownArchitecture { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    /// Published figures: torchvision's documentation for the ResNets (parameters, and GMACs that it calls GFLOPS),
    /// the paper and akamaster's table for ResNet-20.
    #[test]
    fn parameters_and_operations_are_the_published_ones() {
        let cases = [
            ("resnet18", 1000, 11_689_512, 1.814e9),
            ("resnet34", 1000, 21_797_672, 3.664e9),
            ("resnet50", 1000, 25_557_032, 4.089e9),
            ("cifar_resnet20", 10, 269_722, 4.055e7),
        ];
        for (name, classes, parameters, macs) in cases {
            let known = architecture(name).unwrap();
            let cost = known.network(classes).cost(known.image_size, known.image_size).unwrap();
            assert_eq!(cost.parameters, parameters, "{name}");
            let ratio = cost.macs as f64 / macs;
            assert!((0.999..1.001).contains(&ratio), "{name}: {} MACs", cost.macs);
        }
    }

    #[test]
    fn every_network_ends_in_its_classes() {
        for known in ARCHITECTURES {
            let shapes = known.network(7).shapes(known.image_size, known.image_size).unwrap();
            assert_eq!(shapes.last(), Some(&Shape::Features(7)), "{}", known.name);
        }
    }

    #[test]
    fn names_are_torchvisions() {
        let parameters = architecture("resnet50").unwrap().network(1000).parameters();
        let names: Vec<_> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        assert_eq!(names.len(), 320);
        assert_eq!(names[..3], ["conv1.weight", "bn1.weight", "bn1.bias"]);
        assert!(names.contains(&"layer1.0.downsample.1.num_batches_tracked"));
        assert_eq!(names[318..], ["fc.weight", "fc.bias"]);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let error = architecture("lenet").unwrap().network(10).shapes(2, 2).unwrap_err();
        assert!(error.to_string().starts_with("lenet cannot take pictures of 2×2 pixels"), "{error}");
        let error = architecture("resnet19").unwrap_err();
        assert!(error.to_string().contains("'resnet19'; there are: resnet18"), "{error}");
    }
}
