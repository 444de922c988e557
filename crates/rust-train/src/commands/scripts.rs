//! `scripts`: the Slurm scripts that come along with the program.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};

use flags::ScriptsArgs;

use crate::errors::usage;
use crate::observe::stdout::print;

/// The scripts, by name.
const SCRIPTS: [(&str, &str); 7] = [
    ("preflight.sbatch", include_str!("../../../../slurm/preflight.sbatch")),
    ("sweep.sbatch", include_str!("../../../../slurm/sweep.sbatch")),
    ("train-cpu.sbatch", include_str!("../../../../slurm/train-cpu.sbatch")),
    ("train-elastic.sbatch", include_str!("../../../../slurm/train-elastic.sbatch")),
    ("train-multinode.sbatch", include_str!("../../../../slurm/train-multinode.sbatch")),
    ("train-requeue.sbatch", include_str!("../../../../slurm/train-requeue.sbatch")),
    ("train.sbatch", include_str!("../../../../slurm/train.sbatch")),
];

/// Where the scripts look for the programs in the repository.
const IN_REPOSITORY: &str = "${BIN:-target/release}";

/// Writes them, with the folder of this program as the one that they start it from.
pub(crate) fn run(args: &ScriptsArgs) -> anyhow::Result<()> {
    let refused = |error: std::io::Error| usage(format!("{}: {error}", args.folder.display()));
    fs::create_dir_all(&args.folder).map_err(refused)?;
    let program = std::env::var_os("RUST_TRAIN_LAUNCHER").map(Into::into).or_else(|| std::env::current_exe().ok());
    let folder = program.as_deref().and_then(std::path::Path::parent).map(|folder| folder.display().to_string());
    for (name, text) in SCRIPTS {
        let path = args.folder.join(name);
        let text = match &folder {
            Some(folder) => text.replace(IN_REPOSITORY, &format!("${{BIN:-{folder}}}")),
            None => text.to_owned(),
        };
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => file.write_all(text.as_bytes()).map_err(refused)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                print(&format!("{} is there already, and stays as it is\n", path.display()))?;
                continue;
            }
            Err(error) => return Err(refused(error)),
        }
        print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_comes_along_and_says_where_programs_lie() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../slurm");
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, SCRIPTS.map(|(name, _)| name));
        for (name, text) in SCRIPTS {
            assert!(text.contains(IN_REPOSITORY), "{name}");
        }
    }
}
