//! What computes, where, and with which versions.

use std::path::{Path, PathBuf};

use report::{Rank, Session};
use tch::Device;
use world::World;

use crate::machine::fingerprint;

/// This start of a run, after `first_step` steps, with a global batch of `batch`. Collective.
pub(crate) fn session(
    world: &World,
    device: Device,
    threads: usize,
    batch: usize,
    first_step: usize,
) -> anyhow::Result<Session> {
    let own = Rank {
        host: world.host().to_owned(),
        node: world.node(),
        local_rank: world.local_rank(),
        device: describe(device),
        threads,
    };
    let ranks = world.control().all_gather_text(&serde_json::to_string(&own)?)?;
    let ranks = ranks.iter().map(|rank| serde_json::from_str(rank)).collect::<Result<_, _>>()?;
    let directory = std::env::current_dir().unwrap_or_default();
    Ok(Session {
        started: now(),
        first_step,
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        commit: if world.rank() == 0 { commit(&directory) } else { None },
        directory: directory.display().to_string(),
        versions: if world.rank() == 0 { versions() } else { Vec::new() },
        slurm_job: std::env::var("SLURM_JOB_ID").ok(),
        ranks,
        batch,
        end: None,
    })
}

/// The time, as RFC 3339 to the second.
pub(super) fn now() -> String {
    let second = jiff::Timestamp::now().round(jiff::Unit::Second);
    second.map_or_else(|_| String::new(), |time| time.to_string())
}

fn describe(device: Device) -> String {
    match device {
        Device::Cpu => "CPU".to_owned(),
        Device::Cuda(index) => format!("CUDA device {index}"),
        other => format!("{other:?}"),
    }
}

/// Names and versions of what the program stands on.
pub(crate) fn versions() -> Vec<(String, String)> {
    let system = rustix::system::uname();
    let kernel = format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy());
    let known = [
        ("rust-train", env!("CARGO_PKG_VERSION").to_owned()),
        ("libtorch", torch_ext::version()),
        ("MPI", world::mpi_library()),
        ("processor", processor()),
        ("system", kernel),
    ];
    known
        .into_iter()
        .filter(|(_, version)| !version.is_empty())
        .map(|(name, version)| (name.to_owned(), version))
        .collect()
}

/// The processor's name with the number of cores that can be seen.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = text.lines().filter(|line| line.starts_with("processor")).count();
    fingerprint::processor().map_or_else(String::new, |name| format!("{cores} × {name}"))
}

/// The commit that is checked out in the Git repository around `folder`, if there is one.
fn commit(folder: &Path) -> Option<String> {
    let (git, common) = folder.ancestors().find_map(git_folders)?;
    let head = std::fs::read_to_string(git.join("HEAD")).ok()?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return Some(head.trim().to_owned()) };
    if let Ok(hash) = std::fs::read_to_string(common.join(name)) {
        return Some(hash.trim().to_owned());
    }
    let packed = std::fs::read_to_string(common.join("packed-refs")).ok()?;
    let line = packed.lines().find(|line| line.split_once(' ').is_some_and(|(_, packed)| packed == name))?;
    Some(line.split_once(' ')?.0.to_owned())
}

/// Where Git keeps what belongs to the working tree at `folder`, and what belongs to all of a repository's.
fn git_folders(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let git = folder.join(".git");
    if git.is_dir() {
        return Some((git.clone(), git));
    }
    // A further working tree has a file that says where.
    let link = std::fs::read_to_string(&git).ok()?;
    let git = folder.join(link.trim().strip_prefix("gitdir: ")?);
    let common = std::fs::read_to_string(git.join("commondir")).map(|path| git.join(path.trim()));
    Some((git.clone(), common.unwrap_or(git)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_found_wherever_git_keeps_it() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        std::fs::create_dir_all(root.path().join("src/deep")).unwrap();
        write(".git/HEAD", "ref: refs/heads/main\n");
        assert_eq!(commit(root.path()), None, "before the first commit");
        write(".git/packed-refs", "# pack-refs\naaaa refs/heads/other\nbbbb refs/heads/main\n");
        assert_eq!(commit(&root.path().join("src/deep")).as_deref(), Some("bbbb"));
        write(".git/refs/heads/main", "cccc\n");
        assert_eq!(commit(root.path()).as_deref(), Some("cccc"));
        write(".git/worktrees/tree/HEAD", "ref: refs/heads/other\n");
        write(".git/worktrees/tree/commondir", "../..\n");
        write("tree/.git", &format!("gitdir: {}\n", root.path().join(".git/worktrees/tree").display()));
        assert_eq!(commit(&root.path().join("tree")).as_deref(), Some("aaaa"));
        write(".git/HEAD", "dddd\n");
        assert_eq!(commit(root.path()).as_deref(), Some("dddd"));
    }
}
