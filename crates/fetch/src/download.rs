//! A file by HTTP: resumed where it was cut, tried again where that may help.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use attohttpc::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, RANGE, RETRY_AFTER};

use crate::backoff::Backoff;
use crate::store::Limits;
use crate::{Error, Result};

/// What a server answered to a request for the bytes from some offset on.
pub(crate) struct Reply {
    pub status: u16,
    /// The offset of the first byte of `body`.
    pub start: u64,
    /// The size of the whole file, where the server says it.
    pub total: Option<u64>,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
    pub body: Box<dyn Read>,
}

/// The way to a server; tests put a model in its place.
pub(crate) trait Transport {
    /// Asks for the bytes of `url` from offset `from` on.
    fn get(&self, url: &str, from: u64) -> std::result::Result<Reply, String>;
}

/// HTTP/1.1 over TCP, through the proxy of the environment if it names one.
pub(crate) struct Http {
    pub limits: Limits,
}

impl Transport for Http {
    fn get(&self, url: &str, from: u64) -> std::result::Result<Reply, String> {
        let mut request =
            attohttpc::get(url).connect_timeout(self.limits.connect_timeout).read_timeout(self.limits.stall_timeout);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let (status, headers, body) = request.send().map_err(|error| error.to_string())?.split();
        let (start, total) = match content_range(&headers) {
            Some((start, total)) if status.as_u16() == 206 => (start, total),
            Some((_, total)) => (0, total),
            None => (0, header(&headers, CONTENT_LENGTH).and_then(|text| text.parse().ok())),
        };
        let retry_after = header(&headers, RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
        Ok(Reply { status: status.as_u16(), start, total, retry_after, body: Box::new(body) })
    }
}

fn header(headers: &HeaderMap, name: attohttpc::header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// `bytes 5-9/10`, `bytes 5-9/*`, `bytes */10`: the first byte and the size of the whole.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) = header(headers, CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split('-').next().and_then(|first| first.parse().ok()).unwrap_or(0);
    Some((start, total.parse().ok()))
}

/// How one attempt ended.
enum Attempt {
    Complete,
    /// Another attempt may do better.
    Again {
        reason: String,
        retry_after: Option<Duration>,
    },
}

/// Downloads `url` into `file`, which may hold a beginning of it already. `progress` is called with the bytes there
/// are and the bytes there will be.
pub(crate) fn download(
    url: &str,
    file: &mut File,
    transport: &dyn Transport,
    limits: &Limits,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<()> {
    let backoff = Backoff { first: limits.first_pause, longest: limits.longest_pause };
    let mut reason = String::new();
    for attempt in 0..limits.attempts {
        match try_once(url, file, transport, progress)? {
            Attempt::Complete => return Ok(()),
            Attempt::Again { reason: why, retry_after } => {
                if attempt + 1 < limits.attempts {
                    let pause = backoff.pause(attempt, retry_after);
                    log::warn!("{url}: {why}; trying again in {:.1} s", pause.as_secs_f64());
                    std::thread::sleep(pause);
                }
                reason = why;
            }
        }
    }
    Err(Error::Transfer { url: url.to_owned(), attempts: limits.attempts, reason })
}

fn try_once(
    url: &str,
    file: &mut File,
    transport: &dyn Transport,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<Attempt> {
    let local = |doing| move |source| Error::Io { path: url.into(), doing, source };
    let have = file.seek(SeekFrom::End(0)).map_err(local("measuring what is there"))?;
    let again = |reason: String, retry_after| Ok(Attempt::Again { reason, retry_after });
    let mut reply = match transport.get(url, have) {
        Ok(reply) => reply,
        Err(reason) => return again(reason, None),
    };
    match reply.status {
        // The server may ignore the range and send all, or another part: only what fits is kept.
        200 | 206 if reply.start == have => {}
        200 => {
            file.set_len(0).and_then(|()| file.rewind()).map_err(local("starting over"))?;
        }
        // Nothing after what is there: complete, if the sizes say so; else it is not a beginning of this file.
        416 if reply.total == Some(have) => return Ok(Attempt::Complete),
        206 | 416 => {
            file.set_len(0).map_err(local("starting over"))?;
            return again("the server sent another part than the one asked for".to_owned(), None);
        }
        408 | 425 | 429 | 500..=599 => {
            return again(format!("the server answered {}", reply.status), reply.retry_after);
        }
        status => return Err(Error::Refused { url: url.to_owned(), status }),
    }
    let mut have = file.stream_position().map_err(local("measuring what is there"))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match reply.body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return again(format!("the connection broke after {have} bytes: {error}"), None),
        };
        file.write_all(&buffer[..count]).map_err(local("writing the download"))?;
        have += count as u64;
        progress(have, reply.total);
    }
    match reply.total {
        Some(total) if have < total => again(format!("the connection ended after {have} of {total} bytes"), None),
        Some(total) if have > total => {
            file.set_len(0).map_err(local("starting over"))?;
            again(format!("the server sent {have} bytes and had promised {total}"), None)
        }
        _ => Ok(Attempt::Complete),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;

    /// What the model of a server does with one request.
    #[derive(Clone, Debug)]
    enum Act {
        /// Honours the range and sends up to this many bytes, then ends the connection.
        Part(usize),
        /// Ignores the range and sends up to this many bytes from the start.
        Whole(usize),
        /// Sends a range that starts elsewhere.
        Elsewhere(u64),
        Status(u16),
        NoConnection,
        /// Breaks off with an error after this many bytes.
        Break(usize),
    }

    struct Model {
        content: Vec<u8>,
        acts: RefCell<Vec<Act>>,
    }

    /// Bytes, then an error.
    struct Broken(io::Cursor<Vec<u8>>);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                count => Ok(count),
            }
        }
    }

    impl Transport for Model {
        fn get(&self, _: &str, from: u64) -> std::result::Result<Reply, String> {
            let act = self.acts.borrow_mut().pop().unwrap_or(Act::Part(usize::MAX));
            let total = Some(self.content.len() as u64);
            let bytes = |start: u64, most: usize| {
                let rest = self.content.get(start as usize..).unwrap_or_default();
                rest[..rest.len().min(most)].to_vec()
            };
            let reply = |status, start, body: Vec<u8>| {
                let body = Box::new(io::Cursor::new(body));
                Ok(Reply { status, start, total, retry_after: None, body })
            };
            match act {
                Act::NoConnection => Err("no connection".to_owned()),
                Act::Status(status) => reply(status, 0, b"sorry".to_vec()),
                Act::Whole(most) => reply(200, 0, bytes(0, most)),
                Act::Elsewhere(start) => reply(206, start, bytes(start, usize::MAX)),
                _ if from > 0 && from >= self.content.len() as u64 => reply(416, 0, Vec::new()),
                Act::Part(most) => reply(if from == 0 { 200 } else { 206 }, from, bytes(from, most)),
                Act::Break(most) => {
                    let body = Box::new(Broken(io::Cursor::new(bytes(from, most))));
                    let status = if from == 0 { 200 } else { 206 };
                    Ok(Reply { status, start: from, total, retry_after: None, body })
                }
            }
        }
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0usize..200).prop_map(Act::Part),
            (0usize..200).prop_map(Act::Whole),
            (0u64..200).prop_map(Act::Elsewhere),
            prop_oneof![Just(500), Just(503), Just(429), Just(408)].prop_map(Act::Status),
            Just(Act::NoConnection),
            (0usize..200).prop_map(Act::Break),
        ]
    }

    fn limits(attempts: usize) -> Limits {
        Limits { attempts, first_pause: Duration::ZERO, longest_pause: Duration::ZERO, ..Limits::default() }
    }

    fn content_of(file: &mut File) -> Vec<u8> {
        let mut got = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut got).unwrap();
        got
    }

    proptest! {
        /// Whatever the server does, a download that says it is complete is the file, if what was there was its
        /// beginning; and a server that behaves at last is enough.
        #[test]
        fn a_complete_download_is_the_file(
            content in proptest::collection::vec(any::<u8>(), 0..150),
            acts in proptest::collection::vec(act(), 0..8),
            there in 0usize..150,
        ) {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&content[..there.min(content.len())]).unwrap();
            let attempts = acts.len() + 2;
            let model = Model { content: content.clone(), acts: RefCell::new(acts) };
            download("model", &mut file, &model, &limits(attempts), &|_, _| {}).unwrap();
            prop_assert_eq!(content_of(&mut file), content);
        }

        #[test]
        fn what_will_not_change_is_not_tried_again(status in prop_oneof![Just(400), Just(401), Just(403), Just(404), Just(410)]) {
            let model = Model { content: vec![1; 9], acts: RefCell::new(vec![Act::Status(status), Act::Status(status)]) };
            let error = download("model", &mut tempfile::tempfile().unwrap(), &model, &limits(9), &|_, _| {}).unwrap_err();
            let refused = matches!(error, Error::Refused { status: got, .. } if got == status);
            prop_assert!(refused);
            prop_assert_eq!(model.acts.borrow().len(), 1);
        }
    }

    #[test]
    fn attempts_end_and_what_came_stays() {
        let model =
            Model { content: vec![7; 100], acts: RefCell::new(vec![Act::Break(0), Act::Break(20), Act::Part(30)]) };
        let mut file = tempfile::tempfile().unwrap();
        let error = download("model", &mut file, &model, &limits(3), &|_, _| {}).unwrap_err();
        assert!(error.to_string().contains("gave up after 3 attempts: the connection broke after 50 bytes"), "{error}");
        assert_eq!(content_of(&mut file), vec![7; 50]);
    }
}
