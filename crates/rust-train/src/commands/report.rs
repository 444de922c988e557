//! The verb `report`: draws the pages of runs anew; of several, one that compares them, too. Calls neither MPI nor libtorch.

use flags::ReportArgs;
use report::Run;

use crate::errors::usage;
use crate::files::{refuse_unwritable, write_whole};
use crate::observe::stdout::print;
use crate::run::results;

/// Draws the pages.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<()> {
    if args.runs.len() > 1 {
        refuse_unwritable("--output", &args.output)?;
    }
    args.runs.iter().try_for_each(|run| results::render_again(run))?;
    if args.runs.len() > 1 {
        let read = |folder| Run::read(folder).map_err(|error| usage(error.to_string()));
        let runs = args.runs.iter().map(|folder| read(folder)).collect::<anyhow::Result<Vec<_>>>()?;
        write_whole(&args.output, |file| Ok(std::fs::write(file, report::comparison(&runs))?))?;
        print(&format!("the comparison is in {}\n", args.output.display()))?;
    }
    Ok(())
}
