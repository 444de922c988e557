//! S: the program's libraries, MPI and Slurm, driver and CUDA.

use super::need::need;
use crate::check::{Check, Outcome, Tier};
use crate::facts::ProgramFacts;
use crate::finding::{Finding, Severity};
use crate::subject::Subject;

const NO_PROGRAM: &str = "the script starts no executable that is found here";

fn program<'s>(subject: &'s Subject<'_>) -> Result<&'s ProgramFacts, Outcome> {
    let Some(login) = subject.login() else { return Err(Outcome::skip(Tier::Login.how())) };
    login.program.as_ref().ok_or_else(|| Outcome::skip(NO_PROGRAM))
}

/// The libraries whose names start so.
fn libraries<'p>(program: &'p ProgramFacts, start: &'static str) -> impl Iterator<Item = &'p str> {
    program.libraries.keys().map(String::as_str).filter(move |name| name.starts_with(start))
}

pub(crate) const S01: Check = Check {
    id: "S01",
    title: "a library of the program is not found",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "The loader must find every library of the program, libtorch's above all. What is missing on the login node \
                  is usually missing on compute nodes: load the modules in the script that were loaded for the build.",
    source: "ldd(1), ld.so(8)",
    run: |subject| {
        let program = need!(program(subject));
        let missing = &program.missing_libraries;
        if missing.is_empty() {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!("{} lacks {}", program.path, missing.join(", ")))
            .help("load its module before, or set LD_LIBRARY_PATH; ldd shows what is found")])
    },
};

pub(crate) const S02: Check = Check {
    id: "S02",
    title: "another libtorch than the program was built for",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "libtorch has no stable C++ interface between minor releases: a program loads or crashes by chance with \
                  another one.",
    source: "tch, torch-sys/build.rs",
    run: |subject| {
        let program = need!(program(subject));
        let expected = need!(program.libtorch_expected.as_deref(), "the program names no release of libtorch");
        let Some(found) = program.libtorch_version.as_deref() else {
            return Outcome::unknown("libtorch's folder has no build-version");
        };
        let minor = |version: &str| version.split(['.', '+']).take(2).map(str::to_owned).collect::<Vec<_>>();
        if minor(found) == minor(expected) {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!("the program was built for libtorch {expected}, and would load {found}"))])
    },
};

pub(crate) const S03: Check = Check {
    id: "S03",
    title: "libtorch without CUDA, and GPUs are asked for",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "A libtorch for the CPU sees no GPUs. A linker that drops libtorch_cuda because nothing refers to it has the \
                  same effect.",
    source: "LaurentMazare/tch-rs#329",
    run: |subject| {
        let program = need!(program(subject));
        if !subject.asks_for_gpus() {
            return Outcome::skip("no GPUs are asked for");
        }
        if libraries(program, "libtorch").next().is_none() {
            return Outcome::skip("the program uses no libtorch");
        }
        if ["libtorch_cuda", "libtorch_hip"].iter().any(|half| libraries(program, half).next().is_some()) {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!(
            "{} loads libtorch without CUDA, and the job asks for GPUs",
            program.path
        ))
        .at(subject.job().gpu_request().and_then(crate::origin::Sourced::span), "")
        .help("build against a libtorch with CUDA, or ask for no GPUs and use --device cpu")])
    },
};

pub(crate) const S04: Check = Check {
    id: "S04",
    title: "libtorch has no code for this GPU",
    severity: Severity::Error,
    tier: Tier::Allocation,
    explanation: "libtorch carries code for a list of compute capabilities. A GPU that is older than all of them fails with \
                  \"no kernel image is available\".",
    source: "PyTorch, torch.cuda.get_arch_list",
    run: |subject| {
        let facts = need!(subject.allocation(), Tier::Allocation.how());
        if facts.libtorch_architectures.is_empty() {
            return Outcome::unknown("libtorch's architectures are not known");
        }
        let Some(devices) = &facts.devices else { return Outcome::unknown(super::devices::nvml_error(facts)) };
        let number = |text: &str| {
            text.trim_start_matches("sm_").trim_end_matches(char::is_alphabetic).replace('.', "").parse::<u32>().ok()
        };
        let built: Vec<_> = facts.libtorch_architectures.iter().filter_map(|name| number(name)).collect();
        Outcome::of(devices.iter().filter_map(|device| {
            let has = number(device.compute_capability.as_deref()?)?;
            // Code for x.y runs on x.z with z ≥ y.
            let runs = built.iter().any(|&code| code / 10 == has / 10 && code <= has);
            (!runs).then(|| {
                Finding::error(format!(
                    "device {} ({}) is sm_{has}, and libtorch has code for {}",
                    device.index,
                    device.name,
                    facts.libtorch_architectures.join(", ")
                ))
            })
        }))
    },
};

/// The oldest driver for a major release of CUDA.
const OLDEST_DRIVER: &[(u32, u32)] = &[(11, 450), (12, 525), (13, 580)];

pub(crate) const S05: Check = Check {
    id: "S05",
    title: "the NVIDIA driver is too old",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "CUDA 11 wants a driver of at least 450, CUDA 12 of 525, CUDA 13 of 580. The driver is known inside the \
                  allocation, or from the site file (driver = \"550.54\" of a partition).",
    source: "NVIDIA, CUDA Compatibility",
    run: |subject| {
        let of_node = subject.allocation().and_then(|facts| facts.driver_version.clone());
        let of_site = || subject.node_kinds(subject.job())?.into_iter().find_map(|kind| kind.driver);
        let driver = of_node.or_else(of_site);
        let cuda = subject.login().and_then(|login| login.program.as_ref()).and_then(|program| {
            libraries(program, "libcudart.so.")
                .find_map(|name| name["libcudart.so.".len()..].split('.').next()?.parse::<u32>().ok())
        });
        let cuda = need!(cuda, "the program uses no CUDA that is known");
        let Some(driver) = driver else { return Outcome::unknown("the driver's version is not known") };
        let Some(major) = driver.split('.').next().and_then(|major| major.parse::<u32>().ok()) else {
            return Outcome::unknown(format!("the driver's version '{driver}' is not a number"));
        };
        let Some(&(_, oldest)) = OLDEST_DRIVER.iter().find(|(of, _)| *of == cuda) else { return Outcome::Pass };
        if major >= oldest {
            return Outcome::Pass;
        }
        Outcome::of([Finding::error(format!(
            "CUDA {cuda} wants a driver of at least {oldest}, and the nodes have {driver}"
        ))])
    },
};

/// Which MPI a program is linked with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mpi {
    OpenMpi,
    /// MPICH and what has its interface: Intel MPI, MVAPICH, Cray MPICH.
    Mpich,
}

fn mpi(program: &ProgramFacts) -> Option<Mpi> {
    if libraries(program, "libmpi.so.40").next().is_some() {
        return Some(Mpi::OpenMpi);
    }
    let mpich = ["libmpi.so.12", "libmpich.so", "libmpi_gnu", "libmpi_cray"];
    mpich.iter().any(|start| libraries(program, start).next().is_some()).then_some(Mpi::Mpich)
}

pub(crate) const S06: Check = Check {
    id: "S06",
    title: "srun does not speak the program's MPI",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "Open MPI under srun wants --mpi=pmix, MPICH and Intel MPI --mpi=pmi2. With another one, or one that this \
                  Slurm lacks, every task is alone: rank 0 of 1.",
    source: "Slurm, MPI guide; open-mpi/ompi#13523",
    run: |subject| {
        let program = need!(program(subject));
        let plugins = subject.login().and_then(|login| login.mpi_plugins.as_ref());
        if program.opens_mpi {
            return Outcome::of(no_process_manager(subject, plugins));
        }
        let mpi = need!(mpi(program), "the program uses no MPI that is known");
        let wanted = if mpi == Mpi::OpenMpi { "pmix" } else { "pmi2" };
        let steps = subject.launches().iter().filter_map(|launch| launch.srun());
        let mut findings: Vec<_> = steps
            .filter_map(|srun| {
                let value = srun.option(&["mpi"])?;
                let text = value.known()?;
                let fits = text.starts_with(wanted)
                    || (mpi == Mpi::Mpich && (text.starts_with("pmix") || text == "cray_shasta"));
                let name = if mpi == Mpi::OpenMpi { "Open MPI" } else { "MPICH's interface" };
                (!fits).then(|| {
                    Finding::error(format!("the program is linked with {name}, which does not speak {text}"))
                        .at(value.span, "")
                        .help(format!("srun --mpi={wanted}"))
                })
            })
            .collect();
        if let Some(plugins) = plugins
            && !plugins
                .iter()
                .any(|plugin| plugin.starts_with(wanted) || (mpi == Mpi::Mpich && plugin.starts_with("pmix")))
        {
            findings.push(
                Finding::error(format!("this Slurm has no {wanted}: {}", plugins.join(", ")))
                    .help("start the ranks with mpirun"),
            );
        }
        Outcome::of(findings)
    },
};

/// What is wrong with `--mpi` for a program that takes whichever MPI srun speaks with.
fn no_process_manager(subject: &Subject<'_>, plugins: Option<&Vec<String>>) -> Vec<Finding> {
    let is_one = |name: &str| ["pmi", "cray", "openmpi"].iter().any(|known| name.starts_with(known));
    let steps = subject.launches().iter().filter_map(|launch| launch.srun());
    let mut findings: Vec<_> = steps
        .filter_map(|srun| {
            let value = srun.option(&["mpi"])?;
            let text = value.known()?;
            (!is_one(text)).then(|| {
                Finding::error(format!("with --mpi={text} srun gives the ranks no way to find each other"))
                    .at(value.span, "")
                    .help("srun --mpi=pmix for Open MPI, --mpi=pmi2 for MPICH")
            })
        })
        .collect();
    if let Some(plugins) = plugins
        && !plugins.iter().any(|plugin| is_one(plugin))
    {
        let error = Finding::error(format!("this Slurm has neither pmix nor pmi2: {}", plugins.join(", ")));
        findings.push(error.help("start the ranks with mpirun"));
    }
    findings
}

pub(crate) const S07: Check = Check {
    id: "S07",
    title: "Intel MPI under srun without its PMI library",
    severity: Severity::Warning,
    tier: Tier::Login,
    explanation: "Intel MPI under srun needs I_MPI_PMI_LIBRARY to name Slurm's libpmi2.so; otherwise each task is alone.",
    source: "Intel MPI Library Developer Guide, Job Schedulers Support",
    run: |subject| {
        let program = need!(program(subject));
        let intel = program
            .libraries
            .values()
            .any(|path| path.contains("/intel") || path.contains("/oneapi") || path.contains("impi"));
        if !intel || mpi(program) != Some(Mpi::Mpich) {
            return Outcome::skip("the program does not use Intel MPI");
        }
        let by_srun = subject.launches().iter().find_map(|launch| launch.srun());
        let srun = need!(by_srun, "srun starts nothing");
        if subject.exports("I_MPI_PMI_LIBRARY").is_some() {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning("Intel MPI under srun needs I_MPI_PMI_LIBRARY")
            .at(srun.span, "")
            .help("export I_MPI_PMI_LIBRARY=/path/of/slurm/libpmi2.so, or start with mpirun")])
    },
};

pub(crate) const S08: Check = Check {
    id: "S08",
    title: "a PMIx that this Slurm does not have",
    severity: Severity::Warning,
    tier: Tier::Login,
    explanation: "srun --mpi=pmix_vN wants Slurm's plugin for that release of PMIx; srun --mpi=list shows which there are. \
                  Plain pmix takes the newest.",
    source: "Slurm, MPI guide",
    run: |subject| {
        let login = need!(subject.login(), Tier::Login.how());
        let Some(plugins) = &login.mpi_plugins else { return Outcome::unknown("srun --mpi=list does not answer") };
        let steps = subject.launches().iter().filter_map(|launch| launch.srun());
        Outcome::of(steps.filter_map(|srun| {
            let value = srun.option(&["mpi"])?;
            let text = value.known()?;
            let lacks = text.starts_with("pmix_v") && !plugins.iter().any(|plugin| plugin == text);
            lacks.then(|| {
                Finding::warning(format!("this Slurm has no {text}: {}", plugins.join(", ")))
                    .at(value.span, "")
                    .help("srun --mpi=pmix")
            })
        }))
    },
};

pub(crate) const S09: Check = Check {
    id: "S09",
    title: "two MPIs at once",
    severity: Severity::Error,
    tier: Tier::Login,
    explanation: "A program that loads two MPI libraries (its own, and that of HDF5 or another library), or is started by the \
                  mpirun of another MPI, sees a world of one rank, or crashes.",
    source: "ldd(1); open-mpi/ompi#13523",
    run: |subject| {
        let program = need!(program(subject));
        let names: Vec<_> = libraries(program, "libmpi.so").chain(libraries(program, "libmpich.so")).collect();
        if names.len() > 1 {
            return Outcome::of([Finding::error(format!(
                "{} loads two MPI libraries: {}",
                program.path,
                names.join(", ")
            ))]);
        }
        if program.opens_mpi {
            return Outcome::Pass; // it takes that of its launcher
        }
        let starts_mpirun = subject.launches().iter().find_map(|launch| launch.step("mpirun"));
        let (Some(mpirun), Some(mpi)) = (starts_mpirun, mpi(program)) else { return Outcome::Pass };
        let path = subject.login().and_then(|login| login.mpi_commands.get("mpirun"));
        let Some(path) = path else { return Outcome::unknown("there is no mpirun on the PATH here") };
        let of_open_mpi = path.contains("openmpi") || path.ends_with("orterun") || path.ends_with("prterun");
        let of_mpich =
            path.contains("mpich") || path.contains("hydra") || path.contains("impi") || path.contains("intel");
        let other = (mpi == Mpi::OpenMpi && of_mpich) || (mpi == Mpi::Mpich && of_open_mpi);
        if !other {
            return Outcome::Pass;
        }
        Outcome::of(
            [Finding::error(format!("mpirun is {path}, of another MPI than the program's")).at(mpirun.span, "")],
        )
    },
};

pub(crate) const S10: Check = Check {
    id: "S10",
    title: "MPI does not know CUDA, and is told to use it",
    severity: Severity::Error,
    tier: Tier::Allocation,
    explanation: "MPI that is built without CUDA reads device pointers as host memory and crashes. rust-train needs no \
                  CUDA-aware MPI; a script that sets MPICH_GPU_SUPPORT_ENABLED=1, or UCX_TLS with cuda, does.",
    source: "Open MPI, FAQ on CUDA; Cray MPICH, MPICH_GPU_SUPPORT_ENABLED",
    run: |subject| {
        let facts = need!(subject.allocation(), Tier::Allocation.how());
        let cray = subject.exports("MPICH_GPU_SUPPORT_ENABLED").filter(|set| set.value.known() == Some("1"));
        let ucx = subject.exports("UCX_TLS").filter(|set| set.value.known().is_some_and(|text| text.contains("cuda")));
        let asked = need!(cray.or(ucx), "no CUDA-aware MPI is asked for");
        match facts.mpi_cuda {
            Some(true) => Outcome::Pass,
            Some(false) => {
                Outcome::of([Finding::error("MPI is built without CUDA").at(asked.value.span, "asks for CUDA in MPI")])
            }
            None => Outcome::unknown("whether MPI is built with CUDA is not known"),
        }
    },
};

pub(crate) const S12: Check = Check {
    id: "S12",
    title: "the program is built for another CPU",
    severity: Severity::Warning,
    tier: Tier::Login,
    explanation: "A program built with -march=native or target-cpu=native on the login node dies on nodes with an older CPU: \
                  illegal instruction. The site file knows the nodes' instruction sets (cpu_flags).",
    source: "gcc(1), -march; rustc, -C target-cpu",
    run: |subject| {
        let program = need!(program(subject));
        if program.cpu_flags.is_empty() {
            return Outcome::unknown("the instruction sets that the program needs are not known");
        }
        let kinds = subject.node_kinds(subject.job()).unwrap_or_default();
        let known = kinds.iter().find(|kind| !kind.cpu_flags.is_empty());
        let Some(node) = known else { return Outcome::unknown("the nodes' instruction sets are not known") };
        let missing: Vec<_> =
            program.cpu_flags.iter().filter(|flag| !node.cpu_flags.contains(flag)).map(String::as_str).collect();
        if missing.is_empty() {
            return Outcome::Pass;
        }
        Outcome::of([Finding::warning(format!(
            "{} uses {}, which the nodes of '{}' lack",
            program.path,
            missing.join(", "),
            node.name
        ))
        .help("build on such a node, or with target-cpu=x86-64-v2")])
    },
};
