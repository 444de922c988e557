//! A Slurm batch script as data, with the line and column of every directive.
//!
//! A script is read the way `sbatch` reads it: which lines are directives and where reading stops ([`Script::parse`]),
//! how a line is cut into words, how words become options (unique prefixes, bundled letters, optional arguments), which
//! of script, `SBATCH_*` variables and command line wins ([`Script::request`]), and what a value means ([`value`]).
//! What `sbatch` would refuse is a [`Problem`], and reading goes on behind it to find the next one.
//!
//! The rules are those of Slurm's sources (`src/sbatch/opt.c`, `src/common/slurm_opt.c`, `proc_args.c`,
//! `parse_time.c`). Nothing here does I/O: a script is text, an environment is a function, and both are values.
//!
//! ```
//! use sbatch::{Script, value::NodeCount};
//!
//! let script = Script::parse("#!/bin/bash\n#SBATCH -N2 --ntasks-per-node 4 # eight ranks\nsrun hostname\n");
//! assert!(script.problems().is_empty());
//! let request = script.request(0, |_| None, &[]);
//! let nodes: NodeCount = request.get("nodes").unwrap().parse()?;
//! assert_eq!((nodes.min, nodes.max), (2, 2));
//! # Ok::<(), sbatch::value::ValueError>(())
//! ```

mod conflict;
mod getopt;
mod options;
mod problem;
mod request;
mod script;
mod token;
mod translate;
pub mod value;

pub use conflict::{Conflict, Version};
pub use getopt::{Directive, read_command_line};
pub use options::{Argument, Lifetime, OPTIONS, OptionSpec, option};
pub use problem::{Problem, ProblemKind};
pub use request::{ENVIRONMENT, Origin, Request, Setting};
pub use script::{Line, LineKind, Script};
pub use source_text::{Position, Span};
pub use token::Token;
