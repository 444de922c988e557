//! The binary as a user sees it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use assert_cmd::Command;

/// Runs the program in an empty folder of its own, with `script` in it as `job.sbatch` if there is one.
fn in_folder(flags: &str, script: Option<&str>) -> (i32, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    if let Some(script) = script {
        fs::write(folder.path().join("job.sbatch"), script).unwrap();
    }
    let output = Command::new(assert_cmd::cargo::cargo_bin!("check-devices"))
        .args(flags.split_whitespace())
        .current_dir(folder.path())
        .env_clear()
        .env("HOME", folder.path())
        .output()
        .expect("the binary starts");
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().expect("an exit status"), text, folder)
}

fn check_devices(flags: &str) -> (i32, String) {
    let (status, text, _) = in_folder(flags, None);
    (status, text)
}

#[test]
fn what_fits_and_what_does_not() {
    let fits = check_devices("--batch 4096 --nodes 8 --gpus-per-node 4");
    insta::assert_snapshot!(fits.1);
    assert_eq!(fits.0, 0);
    let uneven = check_devices("--batch 100 --nodes 8 --gpus-per-node 4");
    insta::assert_snapshot!(uneven.1);
    assert_eq!(uneven.0, 1);
    let unknown = check_devices("--batch 64 --device gpu");
    insta::assert_snapshot!(
        unknown.1,
        @"error: --device: invalid device 'gpu' in 'gpu': use '', cpu, cuda, 0, 0,1 or cuda:0"
    );
    assert_eq!(unknown.0, 2);
}

#[test]
fn the_help_teaches_with_examples() {
    let (status, text) = check_devices("--help");
    assert_eq!(status, 0);
    assert!(text.contains("check-devices --batch 64 --device 0,1"), "{text}");
}

const SCRIPT: &str = "\
#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --mem=1.5T --time=2d
srun rust-train --batch 64 # check-devices: allow(L22)
";

#[test]
fn a_script_for_people_for_programs_and_for_github() {
    let (status, text, _) = in_folder("job.sbatch", Some(SCRIPT));
    insta::assert_snapshot!(text);
    assert_eq!(status, 1);
    let (status, text, _) = in_folder("job.sbatch --format json --only P15,L14", Some(SCRIPT));
    insta::assert_snapshot!(text);
    assert_eq!(status, 1);
    let (status, text, _) = in_folder("job.sbatch --format github --only P15", Some(SCRIPT));
    insta::assert_snapshot!(text);
    assert_eq!(status, 1);
}

#[test]
fn what_is_safe_is_mended_in_place() {
    let (status, text, folder) = in_folder("job.sbatch --fix", Some(SCRIPT));
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("job.sbatch: 2 changes"), "{text}");
    let mended = fs::read_to_string(folder.path().join("job.sbatch")).unwrap();
    assert_eq!(mended, SCRIPT.replace("1.5T", "1536G").replace("2d", "2-00:00:00"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn line_breaks_slips_and_late_directives_are_mended() {
    let script = "#!/bin/bash\r\n#SBATCH --nodes = 2\r\n#SBATCH --exclusive=yes\r\nmodule load x\r\n#SBATCH --time=10\r\n\
                  # a comment\r\n#SBATCH --mem=4G\r\nsrun ./a.out\r\n";
    let (status, text, folder) = in_folder("job.sbatch --fix", Some(script));
    let mended = fs::read_to_string(folder.path().join("job.sbatch")).unwrap();
    assert_eq!(
        mended,
        "#!/bin/bash\n#SBATCH --nodes=2\n#SBATCH --exclusive\n#SBATCH --time=10\n#SBATCH --mem=4G\nmodule load x\n\
         # a comment\nsrun ./a.out\n",
        "{text}"
    );
    assert_eq!(status, 0, "{text}");
}

#[test]
fn a_slip_in_an_option_is_answered_with_what_is_meant() {
    let script = "#!/bin/bash\n#SBATCH --jobname=a\nsrun --ntask-per-node=2 a\n";
    let (status, text, _) = in_folder("job.sbatch", Some(script));
    assert_eq!(status, 1);
    assert!(text.contains("--job-name") && text.contains("--ntasks-per-node"), "{text}");
    let (status, text, _) = in_folder("job.sbatch -- --nodez=2", Some(script));
    assert_eq!(
        (status, text.trim()),
        (2, "error: sbatch options behind --: sbatch has no option '--nodez'; did you mean nodes?")
    );
}

#[test]
fn the_layout_is_explained_value_by_value() {
    let script = "#!/bin/bash\n#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=1 --gpus-per-node=4\nN=$(cat n)\nsrun hostname\n\
                  srun torchrun --nnodes=2 --nproc_per_node=4 train.py\nif [ -f x ]; then srun python eval.py; fi\n\
                  torchrun --nproc_per_node=$N small.py\n";
    let (status, text, _) = in_folder("job.sbatch --explain-layout", Some(script));
    insta::assert_snapshot!(text);
    assert_eq!(status, 0);
    let (status, text, _) = in_folder("job.sbatch --explain-layout --format json", Some(script));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, report["starts"].as_array().unwrap().len()), (0, 3));
}

#[test]
fn exit_status_follows_what_is_denied_skipped_and_allowed() {
    let warned = "#!/bin/bash\n#SBATCH --mem=4G\nsrun -n 1 hostname\n";
    let cases = [
        ("job.sbatch", warned.to_owned(), 0),
        ("job.sbatch --deny warnings", warned.to_owned(), 1),
        ("job.sbatch --deny warnings --skip L16", warned.to_owned(), 0),
        ("job.sbatch --deny warnings", format!("{warned}# check-devices: allow(L16)\n"), 0),
        ("job.sbatch --deny warnings", format!("{warned}# check-devices: allow(L14)\n"), 1),
        ("job.sbatch", SCRIPT.to_owned(), 1),
        ("job.sbatch --only L16", SCRIPT.to_owned(), 0),
        ("job.sbatch --only X1", SCRIPT.to_owned(), 2),
        ("none.sbatch", SCRIPT.to_owned(), 2),
        ("", SCRIPT.to_owned(), 2),
        ("job.sbatch --site none.toml", SCRIPT.to_owned(), 2),
        ("job.sbatch -- --nodez=2", SCRIPT.to_owned(), 2),
        ("job.sbatch --batch 8", format!("{warned}bash none.sh\n"), 0),
        ("job.sbatch --batch 8 --deny unknown", format!("{warned}bash none.sh\n"), 1),
        ("job.sbatch --deny unknown", format!("{warned}bash none.sh\n"), 0),
    ];
    for (flags, script, expected) in cases {
        let (status, text, _) = in_folder(flags, Some(&script));
        assert_eq!(status, expected, "{flags}: {text}");
    }
}

#[test]
fn an_allowed_check_is_silent_on_its_line_only() {
    let script = "#!/bin/bash\n#SBATCH --time=24:00 # check-devices: allow(P16)\n#SBATCH --mem=64\nhostname\n";
    let (_, text, _) = in_folder("job.sbatch --only P16", Some(script));
    assert!(text.contains("--mem=64 is 64 MiB") && !text.contains("24 minutes"), "{text}");
    assert!(text.contains("1 allowed by the script"), "{text}");
}

#[test]
fn checks_are_listed_and_explained() {
    let (status, text) = check_devices("--list-checks");
    assert_eq!((status, text.lines().count() > 100), (0, true));
    let (status, text) = check_devices("--explain l03");
    insta::assert_snapshot!(text);
    assert_eq!(status, 0);
    let (status, text) = check_devices("--explain X1");
    assert_eq!(
        (status, text.as_str()),
        (2, "error: --explain: no check is called 'X1'; check-devices --list-checks names them\n")
    );
}

#[test]
fn a_plan() {
    let (status, text) =
        check_devices("plan --batch 4096 --gpus 8..512 --model resnet50 --gpu a100-40 --amp bf16 --rows 8");
    insta::assert_snapshot!(text);
    assert_eq!(status, 0);
    let (status, text) = check_devices("plan --batch 7 --gpus 8..16");
    assert_eq!(status, 1, "{text}");
    let (status, text) = check_devices("plan --batch 64 --gpus many");
    assert_eq!((status, text.as_str()), (2, "error: --gpus: 'many' is not a number: use 64, 8..512 or 8,16,64\n"));
}

#[test]
fn the_scripts_to_copy_pass_without_a_warning() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../slurm");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let script = fs::read_to_string(&path).unwrap();
        let (status, text, _) = in_folder("job.sbatch --deny warnings", Some(&script));
        assert_eq!(status, 0, "{}: {text}", path.display());
        assert!(script.contains("check-devices"), "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0);
}

/// The program must start on a login node that has none of these.
#[test]
fn neither_mpi_nor_cuda_nor_libtorch_is_linked() {
    let binary = assert_cmd::cargo::cargo_bin!("check-devices");
    let Ok(output) = std::process::Command::new("ldd").arg(binary).output() else {
        eprintln!("SKIPPED: there is no ldd here");
        return;
    };
    let libraries = String::from_utf8(output.stdout).unwrap();
    assert!(libraries.contains("libc"), "{libraries}");
    for heavy in ["torch", "cuda", "mpi", "nvidia"] {
        assert!(!libraries.contains(heavy), "{libraries}");
    }
}

/// What the login node's own programs say of queues, where the scheduler is another.
#[test]
fn queues_of_pbs_and_lsf_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write(
        "qstat",
        "#!/bin/sh\ncase $1 in\n-Bf) printf 'Server: pbs\\n    default_queue = workq\\n' ;;\n\
         -Qf) printf 'Queue: workq\\n    queue_type = Execution\\n    resources_max.walltime = 12:00:00\\n    enabled = True\\n' ;;\nesac\n",
    );
    let judged = |script: &str| {
        fs::write(folder.path().join("job.sh"), script).unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("check-devices"));
        command.args(["job.sh", "--login"]).current_dir(folder.path()).env("PATH", folder.path());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, said) = judged("#!/bin/bash\n#PBS -l select=1:ncpus=4 -l walltime=24:00:00\nmpirun a\n");
    assert!(status == Some(1) && said.contains("is above the queue's, 12:00:00"), "{said}");
    let (status, said) = judged("#!/bin/bash\n#PBS -l select=1:ncpus=4 -l walltime=2:00:00\n#PBS -q gpu\nmpirun a\n");
    assert!(status == Some(1) && said.contains("there is no queue 'gpu'") && said.contains("workq"), "{said}");
    let (status, said) = judged("#!/bin/bash\n#PBS -l select=1:ncpus=4 -l walltime=2:00:00\nmpirun a\n");
    assert!(status == Some(0), "{said}");

    write(
        "bqueues",
        "#!/bin/sh\nprintf '\\nQUEUE: night\\n\\nPRIO NICE STATUS          MAX\\n 40    0  Closed:Inact     -\\n\\nMAXIMUM LIMITS:\\n RUNLIMIT\\n 240.0 min\\n'\n",
    );
    let (status, said) = judged("#!/bin/bash\n#BSUB -n 4\n#BSUB -W 5:00\n#BSUB -q night\nmpirun a\n");
    assert!(status == Some(1) && said.contains("takes no jobs now") && said.contains("04:00:00"), "{said}");

    let mut site_init = Command::new(assert_cmd::cargo::cargo_bin!("check-devices"));
    let output = site_init.arg("site-init").env("PATH", folder.path()).output().unwrap();
    let written = String::from_utf8(output.stdout).unwrap();
    assert!(written.contains("name = \"workq\"\ndefault = true\ntime_limit = \"12:00:00\""), "{written}");
}
