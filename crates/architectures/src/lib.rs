//! Networks as data: layers, shapes, names, parameters.
