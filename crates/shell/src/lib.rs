//! A shell script, followed without being run: which commands it would start, with which words, under which
//! conditions; and what cannot be known of that, with the reason.
//!
//! ```text
//! lexer.rs, syntax.rs   text -> a tree: commands, conditions, loops, functions
//! variables.rs          what a variable holds: a text, words, or something unknown and why
//! expand.rs             a word of the tree -> the words that a command gets
//! arithmetic.rs         $((…))
//! prints.rs             $(…), where what it prints is known
//! condition.rs          [ … ], [[ … ]], (( … )): true, false, or unknown
//! run.rs                the walk: branches that cannot be decided are both walked, and what they start is in doubt
//! ```
//!
//! The rules are POSIX's and bash's, as far as scripts of jobs use them. What goes beyond is unknown, and said; nothing is
//! guessed. Nothing here does I/O, and any text is read in bounded time.
//!
//! ```
//! use shell::{Executed, Shell, Status, Watcher};
//!
//! #[derive(Default)]
//! struct Commands(Vec<String>);
//! impl Watcher for Commands {
//!     fn command(&mut self, command: &Executed, _: &mut Shell<'_>) -> Status {
//!         if command.words.is_empty() {
//!             return Status::Success; // assignments alone
//!         }
//!         let words = command.words.iter().map(|word| word.known().unwrap_or("?"));
//!         self.0.push(words.collect::<Vec<_>>().join(" "));
//!         Status::Unknown
//!     }
//! }
//!
//! let script = shell::parse("N=4\nif [ $N -gt 2 ]; then srun -n $N ./a; else ./b; fi\nsrun -n $(cat n) ./c\n");
//! let mut commands = Commands::default();
//! Shell::new(&|_| None).run(&script, &mut commands);
//! assert_eq!(commands.0, ["srun -n 4 ./a", "cat n", "srun -n ? ./c"]);
//! ```

mod arithmetic;
mod condition;
mod expand;
mod lexer;
mod nodes;
mod prints;
mod run;
mod syntax;
mod variables;
mod word;

pub use expand::Argument;
pub use prints::Lines;
pub use run::{Assignment, Executed, Shell, Status, Watcher};
pub use syntax::{Script, parse};
pub use variables::{Reason, Value};
