//! `doctor`: what this machine has of what the program needs, and what of it does not fit.

use std::process::ExitCode;

use flags::DoctorArgs;
use installation::{Diagnosis, LIBTORCH_RELEASE};
use layout::DeviceRequest;
use mpi::Choice;
use torch_ext::cuda;
use world::{Launcher, World, WorldConfig};

use crate::observe::stdout::print;

/// Looks, and prints what there is, once for all ranks. Starts MPI last, and only where a launcher has started this process: what
/// comes before is said whatever becomes of it.
pub(crate) fn run(args: &DoctorArgs, choice: Option<Choice>) -> ExitCode {
    let mut diagnosis = Diagnosis::of_machine(choice.as_ref());
    diagnosis.add("libtorch", libtorch());
    diagnosis.add("CUDA", devices(&args.device));
    diagnosis.add("HDF5", Ok(hdf5()));
    let launcher = Launcher::detect();
    let mut world = None;
    if launcher.is_some() && diagnosis.problems() == 0 {
        match World::init(WorldConfig { mpi: choice, ..WorldConfig::default() }) {
            Ok(together) => {
                diagnosis
                    .add("ranks", Ok(format!("{} on {} nodes talk to each other", together.size(), together.nodes())));
                world = Some(together);
            }
            Err(error) => diagnosis.add("ranks", Err(error.to_string())),
        }
    }
    let speaks = world.as_ref().map_or_else(Launcher::speaks, |world| world.rank() == 0);
    if speaks {
        let _ = print(&diagnosis.to_string()); // where stdout is closed there is nobody to tell
    }
    let status = if diagnosis.problems() == 0 { 0 } else { 2 };
    world.map_or_else(|| ExitCode::from(status), |world| world.finalize(status))
}

fn hdf5() -> String {
    let version = dataset::hdf5_version();
    if !cfg!(feature = "static-hdf5") {
        return format!("{version}, the machine's");
    }
    let paths = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let has_one = |folder: &&str| {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("libhdf5"))
    };
    let other = paths.split(':').find(has_one);
    let other = other.map(|folder| format!("; the one in {folder} (LD_LIBRARY_PATH) is not used")).unwrap_or_default();
    format!("{version}, linked in{other}")
}

fn libtorch() -> Result<String, String> {
    let version = torch_ext::version();
    let folder = cuda::libtorch_folder().map(|folder| format!(" ({})", folder.display())).unwrap_or_default();
    if version.split('+').next() != Some(LIBTORCH_RELEASE) {
        return Err(format!("{version}{folder} does not do, {LIBTORCH_RELEASE} is needed"));
    }
    Ok(format!("{version}{folder}"))
}

fn devices(wanted: &str) -> Result<String, String> {
    let request = wanted.parse::<DeviceRequest>().map_err(|error| format!("--device {wanted}: {error}"))?;
    let count = tch::Cuda::device_count();
    match (cuda::open(), request) {
        (Ok(()), _) if count > 0 => Ok(format!("{count} devices")),
        (Err(why), DeviceRequest::Auto | DeviceRequest::Cpu) => Ok(format!("not used: {why}")),
        (Ok(()), DeviceRequest::Auto | DeviceRequest::Cpu) => Ok("libtorch sees no device".to_owned()),
        (opened, _) => Err(format!("--device {wanted}: {}", opened.err().unwrap_or("libtorch sees no device"))),
    }
}
