//! Networks and their weights as ONNX models: the description of `architectures`, operation by operation, in ONNX's
//! operators (opset 17), with the weights as constants. Batches may have any size.
//!
//! ```text
//! Network (what to compute) ─┐
//! weights::Tensor (by name) ─┴─> operators ──> graph ──> proto (bytes)
//! ```
//!
//! Nothing here knows torch.

mod graph;
mod operators;
mod proto;

use std::collections::BTreeMap;

use architectures::{Network, ShapeError};
use prost::Message;
use weights::Tensor;

use operators::Translation;
use proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto};

/// The version of ONNX's operators that is written: the first with LayerNormalization.
const OPSET: i64 = 17;
/// The version of the file format that goes with it.
const IR_VERSION: i64 = 8;

/// Why a network cannot be written as an ONNX model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The network cannot take images of this size.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A tensor of the network is not among the weights, or has another shape.
    #[error("the weights have no {name} of shape {shape:?}")]
    Weight {
        /// Its key.
        name: String,
        /// The shape that it should have.
        shape: Vec<usize>,
    },
    /// ONNX has no operator for what the network computes at this size.
    #[error("{network} at {side}×{side} pixels: {reason}")]
    Operator {
        /// The network's name.
        network: String,
        /// The side of the images, in pixels.
        side: usize,
        /// Why not.
        reason: String,
    },
}

/// The bytes of an ONNX model of `network` with `weights`, for images of `side`×`side` pixels: the input `images`
/// N×3×side×side to the output `logits` N×classes, or N×classes×side×side. The model says `metadata` of itself.
///
/// # Errors
/// A size that the network cannot take, weights that are not its own, or a size for which ONNX has no operator.
pub fn model(
    network: &Network,
    weights: &[(String, Tensor)],
    side: usize,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Error> {
    let graph = Translation::new(network, weights, side)?.graph()?;
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "rust-train".to_owned(),
        graph: Some(graph),
        metadata_props: metadata
            .iter()
            .map(|(key, value)| StringStringEntryProto { key: key.clone(), value: value.clone() })
            .collect(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
    };
    Ok(model.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use architectures::ARCHITECTURES;
    use weights::Dtype;

    fn zeros(network: &Network) -> Vec<(String, Tensor)> {
        let tensor = |shape: &[usize], dtype: Dtype| {
            Tensor::from_bytes(dtype, shape, vec![0; shape.iter().product::<usize>() * dtype.size()])
        };
        let parameters = network.parameters().into_iter();
        let dtype = |is_integer| if is_integer { Dtype::I64 } else { Dtype::F32 };
        parameters
            .map(|parameter| (parameter.name, tensor(&parameter.shape, dtype(parameter.role.is_integer()))))
            .collect()
    }

    #[test]
    fn every_family_has_its_operators_and_takes_any_batch() {
        for known in ARCHITECTURES.iter().filter(|known| {
            ["resnet18", "cifar_resnet20", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "squeezenet1_1"]
                .into_iter()
                .chain([
                    "shufflenet_v2_x0_5",
                    "densenet121",
                    "convnext_tiny",
                    "convnextv2_atto",
                    "mobilenetv4_conv_small",
                    "mobilenetv4_hybrid_medium",
                    "eva02_tiny_patch14_336",
                    "vit_b_32",
                    "swin_t",
                    "swin_v2_t",
                    "maxvit_t",
                    "lenet",
                    "unet_small",
                ])
                .any(|name| name == known.name)
        }) {
            let network = known.network(10);
            let metadata = BTreeMap::from([("key".to_owned(), "value".to_owned())]);
            let bytes = model(&network, &zeros(&network), known.image_size, &metadata).unwrap();
            let model = ModelProto::decode(&bytes[..]).unwrap();
            assert_eq!(model.metadata_props[0].value, "value");
            let graph = model.graph.unwrap();
            // Every value is made before it is used, and once.
            let mut made: Vec<_> = graph.initializer.iter().map(|constant| constant.name.as_str()).collect();
            made.push("images");
            for node in &graph.node {
                for input in node.input.iter().filter(|input| !input.is_empty()) {
                    assert!(made.contains(&input.as_str()), "{}: {input} of {}", known.name, node.name);
                }
                assert!(!made.contains(&node.output[0].as_str()), "{}: {} twice", known.name, node.output[0]);
                made.push(&node.output[0]);
            }
            assert_eq!(graph.node.last().unwrap().output, ["logits"], "{}", known.name);
            let batch = &graph.input[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
            assert_eq!(batch.shape.as_ref().unwrap().dim[0].dim_param.as_deref(), Some("batch"));
        }
    }

    #[test]
    fn what_cannot_be_written_has_a_reason() {
        let network = architectures::architecture("lenet").unwrap().network(10);
        let mut weights = zeros(&network);
        assert!(matches!(model(&network, &weights, 2, &BTreeMap::new()), Err(Error::Shape(_))));
        let error = model(&network, &weights, 28, &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("7×7 pixels cannot be averaged into 2×2 equal parts"), "{error}");
        weights.pop();
        let error = model(&network, &weights, 32, &BTreeMap::new()).unwrap_err().to_string();
        assert_eq!(error, "the weights have no fc3.bias of shape [10]");
    }
}
