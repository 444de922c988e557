//! Other programs, each with a time limit: a controller that does not answer must not hold the preflight.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a program.
const LIMIT: Duration = Duration::from_secs(10);

/// What a program printed.
#[derive(Clone, Debug)]
pub(super) struct Printed {
    pub(super) success: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs a program to its end. `None` where it is not there, cannot be started, or takes too long (then it is killed).
pub(super) fn run(program: &str, arguments: &[&str]) -> Option<Printed> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    // Both pipes are emptied while the program runs, so that it never waits for a reader.
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes); // what came before an error counts
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = reader(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let stderr = reader(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if start.elapsed() > LIMIT => {
                let _ = child.kill(); // it may have ended just now
                let _ = child.wait();
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    Some(Printed { success: status.success(), stdout: stdout.join().ok()?, stderr: stderr.join().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_prints() {
        let printed = run("sh", &["-c", "echo out; echo err >&2; exit 3"]).unwrap();
        assert_eq!((printed.success, printed.stdout.as_str(), printed.stderr.as_str()), (false, "out\n", "err\n"));
        assert!(run("no-such-program-anywhere", &[]).is_none());
        // More than a pipe holds.
        let printed = run("sh", &["-c", "head -c 300000 /dev/zero"]).unwrap();
        assert_eq!(printed.stdout.len(), 300_000);
    }
}
