//! The dataset cache of a job, and what can befall it: nothing half-built is ever used, nobody hangs.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use multi_rank_tests::{Mpirun, Outcome, announced_pid, binary, can_make_nodes};
use rustix::process::{Signal, geteuid, kill_process};

const CACHE: &str = "images/.rust-train/pixels-16-bilinear-as-stored.h5";
const FLAGS: &str = "--data images --image-size 16";
const TRAIN: &str = "--data images --image-size 16 --batch 12 --epochs 1 --output out";

fn run(ranks: usize, folder: &Path, arguments: &str) -> Outcome {
    launcher(ranks, folder).run(&binary("rust-train"), arguments.split_whitespace())
}

fn launcher(ranks: usize, folder: &Path) -> Mpirun {
    Mpirun::new(ranks).directory(folder).timeout(Duration::from_secs(60))
}

/// Two classes, with so many training images of `side`×`side` pixels each, and two to validate on.
fn images(side: u32, count: usize) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (class, colour) in [("ant", 20), ("bee", 200)] {
        let image = root.path().join(format!("{class}.png"));
        image::RgbImage::from_pixel(side, side, image::Rgb([colour, 90, 30])).save(&image).unwrap();
        for (split, count) in [("train", count), ("val", 2)] {
            let folder = root.path().join("images").join(split).join(class);
            fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                fs::copy(&image, folder.join(format!("{number:03}.png"))).unwrap();
            }
        }
    }
    root
}

/// Large images, which take seconds to decode.
fn slow_images() -> tempfile::TempDir {
    images(4000, 10)
}

fn parts_left(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("images/.rust-train")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "part")).collect()
}

fn assert_whole(folder: &Path, images: usize) {
    let outcome = run(1, folder, &format!("cache --verify {FLAGS}"));
    outcome.expect_success();
    assert!(outcome.stdout.contains(&format!("{images} images, all as they were written")), "{outcome:?}");
    assert!(run(1, folder, &format!("cache --explain {FLAGS}")).expect_success().stdout.contains(": current"));
}

#[test]
fn ranks_build_it_together() {
    let root = images(40, 30);
    let outcome = run(3, root.path(), &format!("cache {FLAGS}"));
    outcome.expect_success();
    assert!(outcome.stderr.contains("with 3 ranks"), "{outcome:?}");
    assert!(outcome.stderr.contains("holds 60 training and 4 validation images of 2 classes"), "{outcome:?}");
    assert_whole(root.path(), 64);
    assert!(parts_left(root.path()).is_empty());
    let summary = run(2, root.path(), &format!("cache --summary {FLAGS}"));
    let rows: Vec<Vec<&str>> = summary.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["ant", "30", "2", "1.000"]), "{summary:?}");
    // And other jobs, of any size, use it.
    assert!(run(2, root.path(), TRAIN).expect_success().stderr.contains("reusing the dataset cache"));
}

#[test]
fn a_killed_build_leaves_nothing_that_is_trusted() {
    let root = slow_images();
    let mut job = launcher(2, root.path()).start(&binary("rust-train"), TRAIN.split(' '));
    let stderr = job.wait_until(|stderr| stderr.contains("building the dataset cache"));
    for rank in [0, 1] {
        kill_process(announced_pid(rank, &stderr).unwrap(), Signal::KILL).unwrap();
    }
    assert_ne!(job.wait().status, Some(0));
    assert!(!root.path().join(CACHE).exists());
    assert_eq!(parts_left(root.path()).len(), 1);

    run(2, root.path(), &format!("cache {FLAGS}")).expect_success();
    assert_whole(root.path(), 24);
}

/// Nothing of a build is left, and the next one works.
fn assert_stopped_clean(outcome: &Outcome, folder: &Path, words: &str, images: usize) {
    assert_eq!(outcome.status, Some(75), "{outcome:?}");
    let lines: Vec<_> = outcome.stderr.lines().filter(|line| line.contains("stopped by a signal while")).collect();
    assert!(lines.len() == 1 && lines[0].contains(words), "{outcome:?}");
    assert!(outcome.error_lines().is_empty(), "{outcome:?}");
    let left = fs::read_dir(folder.join("images/.rust-train")).into_iter().flatten().count();
    assert_eq!(left, 0, "{outcome:?}");
    run(2, folder, &format!("cache {FLAGS}")).expect_success();
    assert_whole(folder, images);
}

#[test]
fn a_signal_ends_a_build_within_seconds_and_leaves_nothing() {
    for (ranks, who, signal) in [(1, 0, Signal::TERM), (2, 0, Signal::USR2), (2, 1, Signal::INT), (3, 2, Signal::USR1)]
    {
        // Each takes less than a second, all of them many.
        let root = images(1500, 20);
        let mut job = launcher(ranks, root.path()).start(&binary("rust-train"), TRAIN.split(' '));
        let stderr = job.wait_until(|stderr| stderr.contains("building the dataset cache"));
        let start = Instant::now();
        kill_process(announced_pid(who, &stderr).unwrap(), signal).unwrap();
        let outcome = job.wait();
        assert!(start.elapsed() < Duration::from_secs(5), "{signal:?} to rank {who} of {ranks}: {outcome:?}");
        assert_stopped_clean(&outcome, root.path(), "building the dataset cache; nothing is half-built", 44);
    }
}

#[test]
fn a_signal_ends_a_listing_within_seconds() {
    let root = images(8, 2);
    let list = |split: &str, lines: usize| {
        let text: String = (0..lines).map(|line| format!("../{0}.png\t{0}\n", ["ant", "bee"][line % 2])).collect();
        fs::remove_dir_all(root.path().join("images").join(split)).unwrap();
        fs::write(root.path().join("images").join(format!("{split}.tsv")), text).unwrap();
    };
    list("train", 1_500_000);
    list("val", 2);
    for who in [0, 1] {
        let mut job = launcher(2, root.path()).start(&binary("rust-train"), TRAIN.split(' '));
        let stderr = job.wait_until(|stderr| announced_pid(1, stderr).is_some());
        let start = Instant::now();
        kill_process(announced_pid(who, &stderr).unwrap(), Signal::TERM).unwrap();
        let outcome = job.wait();
        assert!(start.elapsed() < Duration::from_secs(5), "{outcome:?}");
        assert_eq!(outcome.status, Some(75), "{outcome:?}");
        let doing = ["looking for the classes", "looking at the images", "listing the images"];
        let said = |doing: &&str| outcome.stderr.contains(&format!("stopped by a signal while {doing}"));
        assert!(doing.iter().any(said), "{outcome:?}");
        assert!(!root.path().join(CACHE).exists() && !root.path().join("out").exists());
    }
}

/// Holds the cache's lock as another job would.
fn another_job(folder: &Path) -> File {
    let lock = folder.join(CACHE).with_file_name(".pixels-16-bilinear-as-stored.h5.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let file = File::create(&lock).unwrap();
    file.lock().unwrap();
    fs::write(&lock, "process 7 on n9").unwrap();
    file
}

#[test]
fn a_signal_ends_the_wait_for_another_job() {
    for who in [0, 1] {
        let root = images(8, 20);
        let other = another_job(root.path());
        let mut job = launcher(2, root.path()).start(&binary("rust-train"), TRAIN.split(' '));
        let stderr = job.wait_until(|stderr| stderr.contains("waiting for another job (process 7 on n9)"));
        let start = Instant::now();
        kill_process(announced_pid(who, &stderr).unwrap(), Signal::TERM).unwrap();
        let outcome = job.wait();
        assert!(start.elapsed() < Duration::from_secs(5), "{outcome:?}");
        drop(other);
        fs::remove_file(root.path().join(CACHE).with_file_name(".pixels-16-bilinear-as-stored.h5.lock")).unwrap();
        assert_stopped_clean(&outcome, root.path(), "waiting for another job that builds the dataset cache", 44);
    }
}

#[test]
fn another_job_is_waited_for_as_long_as_it_gets_on() {
    let root = images(8, 20);
    let other = another_job(root.path());
    let part = root.path().join(CACHE).with_file_name(".pixels-16-bilinear-as-stored.h5.abc.part");
    let (start, flags) = (Instant::now(), format!("{TRAIN} --timeout 3"));
    let mut job = launcher(2, root.path()).start(&binary("rust-train"), flags.split(' '));
    job.wait_until(|stderr| announced_pid(1, stderr).is_some());
    while start.elapsed() < Duration::from_secs(9) {
        fs::write(&part, format!("{:?}", start.elapsed())).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let outcome = job.wait();
    assert!((11..20).contains(&start.elapsed().as_secs()), "{outcome:?}");
    assert_eq!((outcome.status, outcome.error_lines().len()), (Some(1), 1), "{outcome:?}");
    let words = "another job (process 7 on n9) has been building it, and has not got on for";
    assert!(outcome.error_lines()[0].contains(words), "{outcome:?}");
    drop(other);
}

#[test]
fn a_share_that_takes_longer_than_the_timeout_is_waited_for() {
    // The first rank's images are large, the second's small; none takes so long that a busy machine says nothing for a second.
    let root = images(2000, 128);
    let small = root.path().join("small.png");
    image::RgbImage::from_pixel(8, 8, image::Rgb([9, 9, 9])).save(&small).unwrap();
    for number in 0..128 {
        fs::copy(&small, root.path().join(format!("images/train/bee/{number:03}.png"))).unwrap();
    }
    let outcome = run(2, root.path(), &format!("cache {FLAGS} --timeout 1"));
    outcome.expect_success();
    assert!(outcome.elapsed > Duration::from_secs(2), "the build must take longer than the time-out: {outcome:?}");
    assert_whole(root.path(), 260);
}

#[test]
fn two_jobs_at_once_build_it_once() {
    let root = slow_images();
    let flags = format!("cache {FLAGS}");
    let mut first = launcher(2, root.path()).start(&binary("rust-train"), flags.split(' '));
    first.wait_until(|stderr| stderr.contains("building the dataset cache"));
    let second = launcher(2, root.path()).run(&binary("rust-train"), flags.split(' '));
    second.expect_success();
    assert!(!second.stderr.contains("building the dataset cache"), "{second:?}");
    first.wait().expect_success();
    assert_whole(root.path(), 24);
}

#[test]
fn a_broken_image_on_any_rank_ends_all_or_is_left_out() {
    let root = images(40, 30);
    let path = root.path().join("images/train/bee/029.png"); // the last rank's
    let length = fs::metadata(&path).unwrap().len() as usize;
    fs::write(&path, vec![b'x'; length]).unwrap();
    let fails = run(3, root.path(), &format!("cache {FLAGS}"));
    assert_eq!(fails.status, Some(2), "{fails:?}");
    assert_eq!(fails.error_lines().len(), 1, "{fails:?}");
    assert!(fails.error_lines()[0].contains("train/bee/029.png: not a readable image"), "{fails:?}");
    assert!(parts_left(root.path()).is_empty() && !root.path().join(CACHE).exists());

    for format in ["pixels", "encoded"] {
        let flags = format!("{TRAIN}-{format} --on-bad-image skip --cache-format {format}");
        let skips = run(3, root.path(), &flags);
        skips.expect_success();
        assert!(skips.stderr.contains("1 images cannot be decoded and are left out"), "{skips:?}");
        assert!(skips.stderr.contains("59 training and 4 validation images"), "{skips:?}");
    }
    let summary = run(1, root.path(), &format!("cache --summary {FLAGS}"));
    assert!(summary.stdout.contains("skipped: train/bee/029.png: "), "{summary:?}");
}

#[test]
fn a_damaged_cache_is_found_and_said() {
    let root = images(40, 30);
    run(1, root.path(), &format!("cache {FLAGS}")).expect_success();
    let cache = root.path().join(CACHE);
    let whole = fs::read(&cache).unwrap();
    // The pixels of a bee: one of them changes.
    let place = whole.windows(48).position(|bytes| bytes == [200, 90, 30].repeat(16)).unwrap() as u64;
    File::options().write(true).open(&cache).unwrap().write_all_at(&[7], place + 5).unwrap();
    let train = run(2, root.path(), TRAIN);
    assert_eq!(train.status, Some(1), "{train:?}");
    assert!(train.stderr.contains("do not match their checksum"), "{train:?}");
    let verify = run(1, root.path(), &format!("cache --verify {FLAGS}"));
    assert_eq!(verify.status, Some(1), "{verify:?}");
    assert!(verify.stdout.contains("the bytes of train/bee/") && verify.stderr.contains("delete it"), "{verify:?}");

    // One that is cut off is rebuilt.
    fs::write(&cache, &whole[..whole.len() / 2]).unwrap();
    let explain = run(1, root.path(), &format!("cache --explain {FLAGS}"));
    assert_eq!(explain.status, Some(1), "{explain:?}");
    let again = run(2, root.path(), &format!("cache {FLAGS}"));
    again.expect_success();
    assert!(again.stderr.contains("cannot be used: it was never completed, is cut off"), "{again:?}");
    assert_whole(root.path(), 64);
}

#[test]
fn a_cache_may_go_while_a_job_uses_it() {
    let root = images(40, 60);
    let flags = format!("{TRAIN} --epochs 40").replace("--epochs 1 ", "");
    let mut job = launcher(2, root.path()).start(&binary("rust-train"), flags.split(' '));
    job.wait_until(|stderr| stderr.contains("epoch 1:"));
    fs::remove_dir_all(root.path().join("images")).unwrap();
    let outcome = job.wait();
    outcome.expect_success();
    assert!(outcome.stderr.contains("epoch 40:"), "{outcome:?}");
}

#[test]
fn images_straight_from_their_files() {
    let root = images(40, 30);
    let outcome = run(2, root.path(), &format!("{TRAIN} --cache-format none"));
    outcome.expect_success();
    assert!(!root.path().join("images/.rust-train").exists());
    // A file that goes while the job runs ends it, with its name.
    let flags = format!("{TRAIN}2 --cache-format none --epochs 1000").replace("--epochs 1 ", "");
    let mut job = launcher(2, root.path()).start(&binary("rust-train"), flags.split(' '));
    job.wait_until(|stderr| stderr.contains("epoch 1:"));
    fs::remove_file(root.path().join("images/train/ant/007.png")).unwrap();
    let outcome = job.wait();
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("images/train/ant/007.png: opening the image"), "{outcome:?}");
}

/// Runs `rust-train cache` where `prepare` has changed the file systems, in a namespace of its own.
fn in_namespace(folder: &Path, prepare: &str, arguments: &str) -> (Option<i32>, String) {
    let script = format!("set -e; {prepare}; exec \"$0\" {arguments}");
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "timeout", "60", "bash", "-c", &script])
        .arg(binary("rust-train"))
        .env("XDG_CACHE_HOME", folder.join("home"))
        .current_dir(folder)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn images_that_lie_where_nobody_may_write() {
    if !can_make_nodes() {
        return;
    }
    let root = images(40, 10);
    let read_only = "mount --bind images images; mount -o remount,bind,ro images";
    let (status, stderr) = in_namespace(root.path(), read_only, &format!("cache {FLAGS}"));
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("cannot be written to; the cache goes to"), "{stderr}");
    assert!(!root.path().join(CACHE).exists());
    assert_eq!(fs::read_dir(root.path().join("home/rust-train")).unwrap().count(), 1);
}

/// Runs `rust-train` in `folder` as somebody who is not root, with `folder/home` as the home.
fn as_somebody(folder: &Path, cache_home: Option<&str>, arguments: &str) -> Output {
    let mut command = if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary("rust-train"));
        command
    } else {
        Command::new(binary("rust-train"))
    };
    command.args(arguments.split(' ')).current_dir(folder).env("HOME", folder.join("home"));
    match cache_home {
        Some(path) => command.env("XDG_CACHE_HOME", path),
        None => command.env_remove("XDG_CACHE_HOME"),
    };
    command.output().expect("setpriv is part of util-linux")
}

#[test]
fn a_stale_cache_in_somebody_elses_folder() {
    let root = images(40, 10);
    let folder = root.path();
    run(1, folder, &format!("cache {FLAGS}")).expect_success();
    let mode = |path: &str, mode| fs::set_permissions(folder.join(path), Permissions::from_mode(mode)).unwrap();
    fs::create_dir(folder.join("home")).unwrap();
    for (path, bits) in [(".", 0o755), ("home", 0o777), ("images", 0o555), ("images/.rust-train", 0o555)] {
        mode(path, bits);
    }
    let flags = format!("cache {FLAGS}");
    let said = |output: &Output| {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        stderr
    };
    let own = folder.join("home/.cache/rust-train");

    // A current one is used as it is.
    let stderr = said(&as_somebody(folder, None, &flags));
    assert!(stderr.contains("reusing the dataset cache") && stderr.contains(CACHE), "{stderr}");
    assert!(!own.exists());

    // A stale one is left, and the user's own takes its place.
    let before = fs::read(folder.join(CACHE)).unwrap();
    fs::write(folder.join("images/train/ant/000.png"), fs::read(folder.join("bee.png")).unwrap()).unwrap();
    for cache_home in [None, Some(""), Some(".")] {
        let stderr = said(&as_somebody(folder, cache_home, &flags));
        let lines: Vec<_> = stderr.lines().filter(|line| line.contains("; the cache goes to ")).collect();
        assert!(matches!(lines[..], [line] if line.contains(CACHE) && line.contains("have changed since")), "{stderr}");
        let how = if cache_home.is_none() { "building the dataset cache" } else { "reusing the dataset cache" };
        assert!(stderr.contains(how) && stderr.contains("home/.cache/rust-train/images-"), "{stderr}");
    }
    let explain = as_somebody(folder, None, &format!("{flags} --explain"));
    assert_eq!(explain.status.code(), Some(0), "{explain:?}");
    assert_eq!(fs::read_dir(&own).unwrap().count(), 1);
    assert_eq!(fs::read(folder.join(CACHE)).unwrap(), before);

    // One that this user may not even read is nobody's business, wherever it lies.
    fs::remove_dir_all(&own).unwrap();
    mode(CACHE, 0o000);
    for bits in [0o555, 0o777] {
        mode("images/.rust-train", bits);
        let stderr = said(&as_somebody(folder, None, &flags));
        assert!(stderr.contains("home/.cache/rust-train/images-"), "{stderr}");
    }
    mode("images", 0o755); // so that it can be removed
    mode("images/.rust-train", 0o755);
}

/// `text` with a byte that is not UTF-8 for each `?`.
fn odd(text: &str) -> OsString {
    OsString::from_vec(text.bytes().map(|byte| if byte == b'?' { 0xe9 } else { byte }).collect())
}

#[test]
fn names_may_be_any_bytes() {
    let root = images(40, 30);
    let place = |path: &str| root.path().join("images").join(odd(path));
    fs::rename(place("train/ant/000.png"), place("train/ant/caf?.png")).unwrap();
    fs::rename(place("val/ant/001.png"), place("val/ant/caf?.png")).unwrap();
    fs::rename(place("train/bee"), place("train/b?e")).unwrap();
    fs::rename(place("val/bee"), place("val/b?e")).unwrap();
    fs::write(place("train/ant/no?.png"), "no image").unwrap();
    for format in ["pixels", "encoded"] {
        let outcome =
            run(3, root.path(), &format!("{TRAIN}-{format} --cache-format {format} --on-bad-image skip --model lenet"));
        outcome.expect_success();
        assert!(outcome.stderr.contains("train/ant/no\u{fffd}.png: "), "{outcome:?}");
        assert!(outcome.stderr.contains("60 training and 4 validation images of 2 classes"), "{outcome:?}");
    }
    fs::remove_file(place("train/ant/no?.png")).unwrap();
    run(2, root.path(), &format!("{TRAIN} --cache-format none --model lenet")).expect_success();

    let model = "--model lenet --image-size 16 --weights out/last.safetensors";
    let eval = run(2, root.path(), &format!("eval --data images {model} --output scores --json"));
    eval.expect_success();
    assert!(eval.stdout.contains(r"b\\xe9e"), "the class, in JSON: {eval:?}");
    run(1, root.path(), &format!("eval --data images {model} --logits logits")).expect_success();
    assert!(fs::read_to_string(root.path().join("logits")).unwrap().contains("val/ant/caf\u{fffd}.png"));
    for json in ["", " --json"] {
        let predict = run(1, root.path(), &format!("predict images/val {model}{json}"));
        predict.expect_success();
        assert!(predict.stdout.contains("val/ant/caf\u{fffd}.png"), "{predict:?}");
        assert!(predict.stdout.contains("val/b\u{fffd}e/000.png"), "{predict:?}");
    }

    // The folder itself: its cache can be built; a run's flags are text, and a link has another name.
    let folder = odd("pictur?s");
    fs::rename(root.path().join("images"), root.path().join(&folder)).unwrap();
    let with = |arguments: &str| {
        let words = arguments.split(' ').map(|word| if word == "FOLDER" { folder.clone() } else { word.into() });
        launcher(2, root.path()).run(&binary("rust-train"), words)
    };
    for format in ["pixels", "encoded"] {
        let flags = format!("cache --data FOLDER --image-size 16 --cache-format {format}");
        with(&flags).expect_success();
        with(&flags).expect_success();
    }
    let refused = with(&TRAIN.replace("images", "FOLDER"));
    assert_eq!((refused.status, refused.error_lines().len()), (Some(2), 1), "{refused:?}");
    assert!(refused.error_lines()[0].contains("give a link with another name"), "{refused:?}");
    std::os::unix::fs::symlink(&folder, root.path().join("images")).unwrap();
    let outcome = run(2, root.path(), &format!("{TRAIN}-link --model lenet"));
    assert!(outcome.expect_success().stderr.contains("reusing the dataset cache"), "{outcome:?}");
}

#[test]
fn a_disk_that_is_or_gets_full() {
    if !can_make_nodes() {
        return;
    }
    let root = images(40, 200);
    fs::create_dir(root.path().join("disk")).unwrap();
    let arguments = format!("cache {FLAGS} --cache disk");
    // 404 images of 768 bytes: 303 KiB.
    let small = "mount -t tmpfs -o size=128k tmpfs disk";
    let (status, stderr) = in_namespace(root.path(), small, &arguments);
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.contains("are free; name another folder with --cache"), "{stderr}");

    // There is room for the images, but not for the rest: what was written is removed again.
    let list = "ls -A disk >list";
    let narrow = "mount -t tmpfs -o size=308k tmpfs disk";
    let script = format!("{narrow}; \"$0\" {arguments} || status=$?; {list}; (exit ${{status:-0}})");
    let (status, stderr) = in_namespace(root.path(), &script, "--version");
    assert_eq!(status, Some(1), "{stderr}");
    assert_eq!(stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{stderr}");
    assert_eq!(fs::read_to_string(root.path().join("list")).unwrap(), "", "nothing is left");
}

/// The check that a user asks for notices what it can, and says what it cannot; what it cannot judge is looked at as ever.
#[test]
fn a_cache_is_trusted_as_far_as_the_user_says() {
    const FOLDERS: &str = "--check-files folders: 7 folders are as they were";
    const NOTHING: &str = "--check-files none: whether the images have changed is not looked at";
    let root = images(16, 4);
    let folder = root.path();
    let deep = folder.join("images/train/ant/deep");
    fs::create_dir(&deep).unwrap();
    fs::rename(folder.join("images/train/ant/000.png"), deep.join("000.png")).unwrap();
    let cache = |flags: &str, words: &[&str]| {
        let size = if flags.contains("--image-size") { "" } else { "--image-size 16" };
        let outcome = run(2, folder, &format!("cache --data images {size} {flags}"));
        outcome.expect_success();
        for words in words {
            assert_eq!(outcome.stderr.matches(words).count(), 1, "{flags}: {words}\n{}", outcome.stderr);
        }
        outcome.stderr.contains("building the dataset cache")
    };
    assert!(cache("--check-files folders", &["--check-files folders: does not tell; every file is looked at"]));
    assert!(!cache("--check-files folders", &[FOLDERS, "reusing the dataset cache"]));
    assert!(!cache("--check-files none", &[NOTHING, "reusing the dataset cache"]));
    // In place: nobody who looks at folders sees it.
    let image = deep.join("000.png");
    let content = fs::read(folder.join("bee.png")).unwrap();
    fs::write(&image, &content).unwrap();
    assert!(!cache("--check-files folders", &[FOLDERS]));
    assert!(cache("", &["the images, their classes or the settings have changed since"]));
    assert!(!cache("--check-files folders", &[FOLDERS]));
    // One more, and it is seen; other settings and other classes are, in any case.
    fs::write(deep.join("another.png"), &content).unwrap();
    assert!(!cache("--check-files none", &[NOTHING]));
    assert!(cache("--check-files folders", &["does not tell", "have changed since"]));
    assert!(cache("--check-files none --image-size 12", &["does not tell"]));
    fs::write(folder.join("classes.txt"), "bee\nant\n").unwrap();
    assert!(cache("--check-files none --classes classes.txt", &["does not tell", "have changed since"]));
    // Not laid out as folders of classes.
    fs::write(folder.join("images/train.tsv"), "train/ant/001.png\tant\ntrain/bee/001.png\tbee\n").unwrap();
    fs::rename(folder.join("images/val"), folder.join("images/other")).unwrap();
    fs::write(folder.join("images/val.tsv"), "other/ant/001.png\tant\n").unwrap();
    fs::rename(folder.join("images/train"), folder.join("images/some")).unwrap();
    fs::write(folder.join("images/train.tsv"), "some/ant/001.png\tant\nsome/bee/001.png\tbee\n").unwrap();
    assert!(cache("--check-files none", &["does not tell"]));
    assert!(!cache("--check-files none", &["does not tell", "reusing the dataset cache"]));
}

#[test]
fn copies_on_the_nodes_own_disks_are_read_and_change_nothing() {
    let root = images(40, 30);
    let folder = root.path();
    let train = |ranks: usize, nodes: usize, flags: &str, output: &str| {
        let arguments = format!("--data images --image-size 16 --batch 12 --epochs 15 --output {output} {flags}");
        let job = launcher(ranks, folder).nodes(nodes);
        let job = if nodes > 1 { job.node_local(&folder.join("local"), "64m") } else { job };
        job.run(&binary("rust-train"), arguments.split_whitespace())
    };
    let weights = |output: &str| fs::read(folder.join(output).join("best.safetensors")).unwrap();
    let read_there = |outcome: &Outcome| outcome.stderr.matches("images are read from ").count();
    train(4, 1, "", "plain").expect_success();
    fs::create_dir(folder.join("local")).unwrap();
    if can_make_nodes() {
        let outcome = train(4, 2, "--stage local", "staged");
        outcome.expect_success();
        assert!(outcome.stderr.contains("copying 1 files, ") && read_there(&outcome) == 1, "{outcome:?}");
        assert_eq!(weights("staged"), weights("plain"));
        assert_eq!(fs::read_dir(folder.join("local")).unwrap().count(), 0, "the nodes had disks of their own");
        // A disk that is too small: said, and the run goes on; and one that all nodes share.
        let small = launcher(4, folder).nodes(2).node_local(&folder.join("local"), "64k");
        let arguments = "--data images --image-size 16 --batch 12 --epochs 15 --output small --stage local";
        let outcome = small.run(&binary("rust-train"), arguments.split_whitespace());
        outcome.expect_success();
        let words = "MB are free; images are read where they lie";
        assert!(outcome.stderr.contains(words) && read_there(&outcome) == 0, "{outcome:?}");
        assert_eq!(weights("small"), weights("plain"));
        let arguments = "--data images --image-size 16 --batch 12 --epochs 1 --output shared --stage shared-folder";
        let outcome = launcher(4, folder).nodes(2).run(&binary("rust-train"), arguments.split_whitespace());
        assert_eq!((outcome.status, outcome.error_lines().len()), (Some(2), 1), "{outcome:?}");
        assert!(outcome.error_lines()[0].contains("--stage shared-folder: all nodes share it"), "{outcome:?}");
    }
    // On one disk there is nothing to gain, and files of their own are not copied.
    let outcome = train(2, 1, "--stage local", "same-disk");
    assert!(outcome.expect_success().stderr.contains("lies on the same disk; it is read where it is"), "{outcome:?}");
    let outcome = train(2, 1, "--stage local --cache-format none", "files");
    assert_eq!((outcome.status, outcome.error_lines().len()), (Some(2), 1), "{outcome:?}");
    assert!(outcome.error_lines()[0].contains("--stage: copies a cache, archives or files of arrays"), "{outcome:?}");
    // A copy that is there is used, and one of another version is not.
    let shm = tempfile::Builder::new().prefix("stage").tempdir_in("/dev/shm").unwrap();
    let flags = format!("--stage {}", shm.path().display());
    for (output, copies) in [("first", 1), ("second", 1)] {
        let outcome = train(2, 1, &flags, output);
        assert_eq!(read_there(outcome.expect_success()), 1, "{outcome:?}");
        assert_eq!(outcome.stderr.contains("have been copied to "), output == "second", "{outcome:?}");
        assert_eq!(fs::read_dir(shm.path()).unwrap().count(), copies);
    }
    let copied: Vec<_> = fs::read_dir(shm.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    fs::copy(folder.join("images/train/ant/000.png"), folder.join("images/train/bee/000.png")).unwrap();
    train(2, 1, &flags, "third").expect_success();
    let copies: Vec<_> = fs::read_dir(shm.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(copies.len() == 1 && copies != copied, "{copies:?}");
    // A damaged copy is named, and not the cache that it is of.
    let file = File::options().write(true).open(&copies[0]).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(&vec![7; length as usize / 2], length / 4).unwrap();
    let outcome = train(2, 1, &flags, "damaged");
    assert!(outcome.status != Some(0) && outcome.stderr.contains(copies[0].to_str().unwrap()), "{outcome:?}");
}
