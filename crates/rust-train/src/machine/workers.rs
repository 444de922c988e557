//! Threads that take jobs from one queue, each with something of its own to do them with.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Context;

/// Threads for jobs of one kind. They end when this is dropped, each with the job that it is at.
#[derive(Debug)]
pub(crate) struct Workers<Job> {
    jobs: Sender<Job>,
}

impl<Job: Send + 'static> Workers<Job> {
    /// A thread for each of `beginnings`, which run there, and give what does the jobs: that need not be able to change threads.
    ///
    /// # Errors
    /// Threads that cannot be started.
    pub(crate) fn start<Work: FnMut(Job)>(
        name: &str,
        beginnings: impl IntoIterator<Item = impl FnOnce() -> Work + Send + 'static>,
    ) -> anyhow::Result<Self> {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for (number, begin) in beginnings.into_iter().enumerate() {
            let waiting = Arc::clone(&waiting);
            let work = move || {
                let mut work = begin();
                loop {
                    let job = waiting.lock().ok().and_then(|waiting| waiting.recv().ok());
                    let Some(job) = job else { return };
                    work(job);
                }
            };
            thread::Builder::new().name(format!("{name}-{number}")).spawn(work).context("starting threads")?;
        }
        Ok(Self { jobs })
    }

    /// Puts a job at the end of the queue.
    ///
    /// # Errors
    /// Threads that have all ended, which none does but by a panic.
    pub(crate) fn give(&self, job: Job) -> anyhow::Result<()> {
        self.jobs.send(job).ok().context("the threads for it have ended")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn jobs_are_done_by_what_each_thread_began_with() {
        let (done, results) = channel();
        let begin = |number: usize| {
            let done = done.clone();
            move || {
                let own = Rc::new(number); // stays in its thread
                move |job: usize| done.send((job, *own)).unwrap()
            }
        };
        let workers = Workers::start("test", [begin(0), begin(1)]).unwrap();
        (0..20).for_each(|job| workers.give(job).unwrap());
        drop((workers, done));
        let mut results: Vec<_> = results.into_iter().collect();
        results.sort_unstable();
        assert!(results.iter().enumerate().all(|(index, &(job, worker))| job == index && worker < 2));
        assert_eq!(results.len(), 20);
    }
}
