//! The body of a batch script, read as far as a tokenizer can: simple commands, their words, and what the words come to
//! where every variable in them is known. Nothing is ever run.

mod arithmetic;
mod lexer;
mod variables;

pub(crate) use lexer::read;
pub(crate) use variables::{Argument, Assignment, Executed, execute};
