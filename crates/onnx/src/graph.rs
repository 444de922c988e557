//! A graph in the making: nodes that give a name to their output, and constants.

use crate::proto::{
    AttributeProto, Dimension, FLOAT, GraphProto, INT, INTS, NodeProto, STRING, TENSOR_FLOAT, TENSOR_INT64,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// An attribute of an operator.
pub(crate) enum Attribute {
    Float(f64),
    Int(usize),
    Ints(Vec<usize>),
    Text(&'static str),
}

/// A graph in the making. Values are known by their names.
#[derive(Debug, Default)]
pub(crate) struct Graph(GraphProto);

impl Graph {
    /// A node with one output, whose name is given back.
    pub(crate) fn node(&mut self, op_type: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let output = format!("{}_{}", op_type.to_lowercase(), self.0.node.len());
        self.node_called(&output, op_type, inputs, attributes)
    }

    /// The same with a name for the output.
    pub(crate) fn node_called(
        &mut self,
        output: &str,
        op_type: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) -> String {
        self.0.node.push(NodeProto {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op_type.to_owned(),
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
        });
        output.to_owned()
    }

    /// A constant of single-precision values, little-endian.
    pub(crate) fn floats(&mut self, name: &str, shape: &[usize], raw_data: Vec<u8>) -> String {
        self.initializer(name, shape, TENSOR_FLOAT, raw_data)
    }

    /// A constant of one value.
    pub(crate) fn number(&mut self, value: f64) -> String {
        let name = format!("number_{}", self.0.initializer.len());
        self.floats(&name, &[], (value as f32).to_le_bytes().to_vec())
    }

    /// A constant of integers.
    pub(crate) fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("integers_{}", self.0.initializer.len());
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(&name, &[values.len()], TENSOR_INT64, bytes)
    }

    fn initializer(&mut self, name: &str, shape: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let dims = shape.iter().map(|&side| side as i64).collect();
        self.0.initializer.push(TensorProto { dims, data_type, name: name.to_owned(), raw_data });
        name.to_owned()
    }

    /// `x` in another shape; the batch before it stays.
    pub(crate) fn reshape(&mut self, x: &str, sides: &[usize]) -> String {
        let sides: Vec<_> = std::iter::once(0).chain(sides.iter().map(|&side| side as i64)).collect();
        let shape = self.integers(&sides); // zero: the side that is there
        self.node("Reshape", &[x, &shape], &[])
    }

    /// `x` with its axes in another order.
    pub(crate) fn transpose(&mut self, x: &str, order: &[usize]) -> String {
        self.node("Transpose", &[x], &[("perm", Attribute::Ints(order.to_vec()))])
    }

    /// Every `step`-th value from `start` to before `end` along one axis.
    pub(crate) fn slice(&mut self, x: &str, axis: usize, start: usize, end: usize, step: usize) -> String {
        let [start, end, axis, step] = [start, end, axis, step].map(|number| self.integers(&[number as i64]));
        self.node("Slice", &[x, &start, &end, &axis, &step], &[])
    }

    /// Values one after the other along one axis.
    pub(crate) fn concat(&mut self, parts: &[&str], axis: usize) -> String {
        self.node("Concat", parts, &[("axis", Attribute::Int(axis))])
    }

    /// Zeros before and after each axis.
    pub(crate) fn pad(&mut self, x: &str, before: &[usize], after: &[usize]) -> String {
        let pads: Vec<_> = before.iter().chain(after).map(|&side| side as i64).collect();
        let pads = self.integers(&pads);
        self.node("Pad", &[x, &pads], &[])
    }

    /// The graph from the value `input` N×`input_shape` to the value `output` N×`output_shape`.
    pub(crate) fn finish(
        self,
        name: &str,
        (input, input_shape): (&str, &[usize]),
        (output, output_shape): (&str, &[usize]),
    ) -> GraphProto {
        GraphProto {
            name: name.to_owned(),
            input: vec![value_info(input, input_shape)],
            output: vec![value_info(output, output_shape)],
            ..self.0
        }
    }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let named = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
    match value {
        Attribute::Float(f) => AttributeProto { f: *f as f32, r#type: FLOAT, ..named },
        Attribute::Int(i) => AttributeProto { i: *i as i64, r#type: INT, ..named },
        Attribute::Text(text) => AttributeProto { s: text.as_bytes().to_vec(), r#type: STRING, ..named },
        Attribute::Ints(ints) => {
            AttributeProto { ints: ints.iter().map(|&int| int as i64).collect(), r#type: INTS, ..named }
        }
    }
}

fn value_info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let batch = Dimension { dim_param: Some("batch".to_owned()), ..Dimension::default() };
    let sides = shape.iter().map(|&side| Dimension { dim_value: Some(side as i64), ..Dimension::default() });
    let shape = TensorShapeProto { dim: std::iter::once(batch).chain(sides).collect() };
    let tensor_type = TensorTypeProto { elem_type: TENSOR_FLOAT, shape: Some(shape) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
