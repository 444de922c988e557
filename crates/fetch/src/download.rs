//! A file by HTTP: resumed where it was cut, tried again where that may help.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::backoff::Backoff;
use crate::limits::Limits;
use crate::part::{Part, Version};
use crate::progress::{Doing, TICK, Watched};
use crate::transport::{Ask, Failure, Reply, Transport, io_words};
use crate::{Error, Result};

/// What a download is about.
pub(crate) struct Wanted<'a> {
    pub url: &'a str,
    /// The address as messages have it.
    pub shown: &'a str,
    /// The address without its secrets: what versions are remembered for.
    pub origin: &'a str,
    /// Whether a checksum will show at the end that the bytes are right.
    pub is_verified: bool,
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

/// Downloads what is `wanted` into `part`, which may hold a beginning of it already.
pub(crate) fn download(
    wanted: &Wanted<'_>,
    part: &mut Part,
    transport: &Arc<dyn Transport>,
    limits: &Limits,
    watched: Watched<'_>,
) -> Result<()> {
    let backoff = Backoff { first: limits.first_pause, longest: limits.longest_pause };
    let mut reason = String::new();
    for attempt in 0..limits.attempts {
        match try_once(wanted, part, transport, limits, watched)? {
            Attempt::Complete => return Ok(()),
            Attempt::Again { reason: why, retry_after } => {
                if attempt + 1 < limits.attempts {
                    let pause = backoff.pause(attempt, retry_after);
                    log::warn!("{}: {why}; trying again in {:.1} s", wanted.shown, pause.as_secs_f64());
                    watched.sleep(pause, part.end()?, None)?;
                }
                reason = why;
            }
        }
    }
    Err(Error::Transfer { url: wanted.shown.to_owned(), attempts: limits.attempts, reason })
}

fn try_once(
    wanted: &Wanted<'_>,
    part: &mut Part,
    transport: &Arc<dyn Transport>,
    limits: &Limits,
    watched: Watched<'_>,
) -> Result<Attempt> {
    let again = |reason: String, retry_after| Ok(Attempt::Again { reason, retry_after });
    let mut have = part.end()?;
    // What the beginning is of, if that can be asked for at this address.
    let known = part.version().filter(|version| have > 0 && version.origin == wanted.origin).cloned();
    let goes_on = have > 0 && (known.is_some() || wanted.is_verified);
    let ask = Ask {
        url: wanted.url.to_owned(),
        shown: wanted.shown.to_owned(),
        from: if goes_on { have } else { 0 },
        version: known.as_ref().map(|version| version.name.clone()),
    };
    let events = start(Arc::clone(transport), ask, limits.clone())?;
    let head = match next(&events, watched, have, None)? {
        Event::Head(Ok(head)) => head,
        Event::Head(Err(Failure::Lasting(error))) => return Err(error),
        Event::Head(Err(Failure::Passing(reason))) | Event::Broken(reason) => return again(reason, None),
        Event::Bytes(_) | Event::End => return again("the answer has no head".to_owned(), None),
    };
    // A server that cares nothing for versions sends the rest of another one. A name it must repeat, a date it need not
    // (RFC 9110, 15.3.7).
    let is_other = known.as_ref().is_some_and(|known| {
        let is_renamed = match &head.version {
            Some(name) => *name != known.name,
            None => known.name.starts_with('"') && !wanted.is_verified,
        };
        is_renamed || known.total.zip(head.total).is_some_and(|(known, total)| known != total)
    });
    let was_whole = known.as_ref().is_some_and(|known| known.total == Some(have));
    let shows_end = head.has_end || head.total.is_some();
    match head.status {
        200 | 206 if !shows_end && !wanted.is_verified => return Err(Error::NoEnd { url: wanted.shown.to_owned() }),
        206 if goes_on && head.start == have && !is_other => {}
        200 | 206 if head.start == 0 && (head.status == 200 || !goes_on) => {
            let version = head.version.clone();
            let version = version.map(|name| Version { origin: wanted.origin.to_owned(), name, total: head.total });
            part.start_over(version)?;
            have = 0;
        }
        // Nothing after what is there: complete, if the sizes say so; else it is not a beginning of this file.
        416 if goes_on && head.total == Some(have) && (was_whole || wanted.is_verified) => {
            return Ok(Attempt::Complete);
        }
        206 | 416 => {
            part.start_over(None)?;
            return again("the server sent another part than the one asked for".to_owned(), None);
        }
        408 | 425 | 429 | 500..=599 => {
            return again(format!("the server answered {}", head.status), head.retry_after);
        }
        status => return Err(Error::Refused { url: wanted.shown.to_owned(), status }),
    }
    loop {
        match next(&events, watched, have, head.total)? {
            Event::Bytes(bytes) => {
                part.write(&bytes)?;
                have += bytes.len() as u64;
                watched.tell(Doing::Receiving, have, head.total)?;
            }
            Event::Broken(reason) => return again(format!("the connection broke after {have} bytes: {reason}"), None),
            Event::Head(_) | Event::End => break,
        }
    }
    match head.total {
        Some(total) if have < total => again(format!("the connection ended after {have} of {total} bytes"), None),
        Some(total) if have > total => {
            part.start_over(None)?;
            again(format!("the server sent {have} bytes and had promised {total}"), None)
        }
        _ => Ok(Attempt::Complete),
    }
}

/// A reply without its body.
struct Head {
    status: u16,
    start: u64,
    total: Option<u64>,
    has_end: bool,
    version: Option<String>,
    retry_after: Option<Duration>,
}

/// What comes from a server.
enum Event {
    Head(std::result::Result<Head, Failure>),
    Bytes(Vec<u8>),
    End,
    Broken(String),
}

/// Asks a server on a thread of its own: finding its address, connecting and reading block for longer than whoever waits
/// may be silent, or may take to stop. A thread that is left alone ends when its socket has waited for long enough.
fn start(transport: Arc<dyn Transport>, ask: Ask, limits: Limits) -> Result<Receiver<Event>> {
    let (sender, events) = sync_channel(4);
    let from = ask.url.clone();
    let thread = std::thread::Builder::new().name("download".to_owned());
    let started = thread.spawn(move || receive(&*transport, &ask, &limits, &sender));
    started.map_err(Error::io(from, "starting a thread for the download"))?;
    Ok(events)
}

/// Hands on what comes, until nobody wants it.
fn receive(transport: &dyn Transport, ask: &Ask, limits: &Limits, events: &SyncSender<Event>) {
    let reply = match transport.get(ask) {
        Ok(reply) => reply,
        Err(failure) => {
            let _ = events.send(Event::Head(Err(failure))); // whoever asked may have stopped
            return;
        }
    };
    let Reply { status, start, total, has_end, version, retry_after, mut body } = reply;
    let mut wanted = events.send(Event::Head(Ok(Head { status, start, total, has_end, version, retry_after }))).is_ok();
    let mut buffer = vec![0; 256 << 10];
    while wanted {
        let event = match body.read(&mut buffer) {
            Ok(0) => Event::End,
            Ok(count) => Event::Bytes(buffer[..count].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Event::Broken(io_words(&error, limits)),
        };
        let is_last = !matches!(event, Event::Bytes(_));
        wanted = events.send(event).is_ok() && !is_last;
    }
}

/// Waits for what comes next, and says meanwhile that nothing has.
fn next(events: &Receiver<Event>, watched: Watched<'_>, have: u64, total: Option<u64>) -> Result<Event> {
    loop {
        match events.recv_timeout(TICK) {
            Ok(event) => return Ok(event),
            Err(RecvTimeoutError::Timeout) => watched.tell(Doing::Receiving, have, total)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(Event::Broken("its thread ended".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ops::ControlFlow;
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Instant;

    use crate::progress::{Progress, unwatched};

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
        /// From here on the file is another one; then as `Break`.
        Change(usize),
    }

    /// How a server tells its versions apart.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Names {
        /// Not at all: whoever asks for a range gets it.
        None,
        /// It names them, and goes by `If-Range`.
        Heeded,
        /// It names them, and goes by nothing.
        Careless,
    }

    #[derive(Clone, Debug)]
    struct Model {
        versions: Vec<Vec<u8>>,
        names: Names,
        state: Arc<Mutex<State>>,
    }

    #[derive(Debug, Default)]
    struct State {
        acts: Vec<Act>,
        version: usize,
        sent: usize,
    }

    impl Model {
        fn new(versions: Vec<Vec<u8>>, names: Names, acts: Vec<Act>) -> Self {
            Self { versions, names, state: Arc::new(Mutex::new(State { acts, ..State::default() })) }
        }

        fn download(&self, part: &mut Part, is_verified: bool, attempts: usize) -> Result<()> {
            let wanted = Wanted { url: "model", shown: "model", origin: "model", is_verified };
            let transport: Arc<dyn Transport> = Arc::new(self.clone());
            let watched = Watched { watch: &unwatched, from: "model" };
            download(&wanted, part, &transport, &limits(attempts), watched)
        }

        fn acts_left(&self) -> usize {
            self.state.lock().unwrap().acts.len()
        }
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
        fn get(&self, ask: &Ask) -> std::result::Result<Reply, Failure> {
            let mut state = self.state.lock().unwrap();
            let act = state.acts.pop().unwrap_or(Act::Part(usize::MAX));
            if let Act::Change(_) = act {
                state.version = (state.version + 1).min(self.versions.len() - 1);
            }
            let content = &self.versions[state.version];
            let name = format!("\"{}\"", state.version);
            let is_same = ask.version.is_none() || ask.version.as_ref() == Some(&name) || self.names == Names::Careless;
            let from = if is_same { ask.from } else { 0 };
            let total = Some(content.len() as u64);
            let bytes = |start: u64, most: usize| {
                let rest = content.get(start as usize..).unwrap_or_default();
                rest[..rest.len().min(most)].to_vec()
            };
            let version = (self.names != Names::None).then(|| name.clone());
            let mut reply = |status, start, body: Vec<u8>, breaks| {
                state.sent += body.len();
                let body = io::Cursor::new(body);
                let body: Box<dyn Read> = if breaks { Box::new(Broken(body)) } else { Box::new(body) };
                Ok(Reply { status, start, total, has_end: true, version: version.clone(), retry_after: None, body })
            };
            let status = if from == 0 { 200 } else { 206 };
            match act {
                Act::NoConnection => Err(Failure::Passing("no connection".to_owned())),
                Act::Status(status) => reply(status, 0, b"sorry".to_vec(), false),
                Act::Whole(most) => reply(200, 0, bytes(0, most), false),
                Act::Elsewhere(start) => reply(206, start, bytes(start, usize::MAX), false),
                _ if from > 0 && from >= content.len() as u64 => reply(416, 0, Vec::new(), false),
                Act::Part(most) => reply(status, from, bytes(from, most), false),
                Act::Break(most) | Act::Change(most) => reply(status, from, bytes(from, most), true),
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

    /// Versions of a file, which mostly do not differ in their length.
    fn versions() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let of_any_length = proptest::collection::vec(any::<u8>(), 0..60);
        let of_one_length = (1usize..60)
            .prop_flat_map(|length| proptest::collection::vec(proptest::collection::vec(any::<u8>(), length), 2..5));
        prop_oneof![1 => proptest::collection::vec(of_any_length, 1..5), 3 => of_one_length]
    }

    fn names() -> impl Strategy<Value = Names> {
        prop_oneof![Just(Names::None), Just(Names::Heeded), Just(Names::Careless)]
    }

    fn limits(attempts: usize) -> Limits {
        Limits { attempts, first_pause: Duration::ZERO, longest_pause: Duration::ZERO, ..Limits::default() }
    }

    fn part_in(folder: &Path) -> Part {
        Part::open(folder, "file").unwrap()
    }

    fn content_of(part: &Part) -> Vec<u8> {
        std::fs::read(part.path()).unwrap()
    }

    proptest! {
        /// Whatever the server does, a download that says it is complete is the file, if what was there was its
        /// beginning; and a server that behaves at last is enough.
        #[test]
        fn a_complete_download_is_the_file(
            content in proptest::collection::vec(any::<u8>(), 0..150),
            acts in proptest::collection::vec(act(), 0..8),
            there in 0usize..150,
            names in names(),
            is_verified in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut part = part_in(folder.path());
            part.write(&content[..there.min(content.len())]).unwrap();
            let attempts = acts.len() + 2;
            let model = Model::new(vec![content.clone()], names, acts);
            model.download(&mut part, is_verified, attempts).unwrap();
            prop_assert_eq!(content_of(&part), content);
        }

        /// A file that changes while it is fetched, by one process after another: what is complete is one of its versions,
        /// though no checksum shows it.
        #[test]
        fn versions_are_never_joined(
            versions in versions(),
            acts in proptest::collection::vec(prop_oneof![act(), (0usize..60).prop_map(Act::Change)], 0..20),
            names in names(),
            attempts in 1usize..4,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let model = Model::new(versions.clone(), names, acts);
            loop {
                // As after a process that was killed: only what is in the folder is left.
                let mut part = part_in(folder.path());
                match model.download(&mut part, false, attempts) {
                    Ok(()) => {
                        prop_assert!(versions.contains(&content_of(&part)), "{:?}", content_of(&part));
                        break;
                    }
                    Err(error) => prop_assert!(matches!(error, Error::Transfer { .. }), "{}", error),
                }
            }
        }

        #[test]
        fn what_will_not_change_is_not_tried_again(status in prop_oneof![Just(400), Just(401), Just(403), Just(404), Just(410)]) {
            let folder = tempfile::tempdir().unwrap();
            let model = Model::new(vec![vec![1; 9]], Names::None, vec![Act::Status(status), Act::Status(status)]);
            let error = model.download(&mut part_in(folder.path()), false, 9).unwrap_err();
            let refused = matches!(error, Error::Refused { status: got, .. } if got == status);
            prop_assert!(refused);
            prop_assert_eq!(model.acts_left(), 1);
        }
    }

    #[test]
    fn attempts_end_and_what_came_stays() {
        let folder = tempfile::tempdir().unwrap();
        let acts = vec![Act::Break(0), Act::Break(20), Act::Part(30)];
        let model = Model::new(vec![vec![7; 100]], Names::Heeded, acts);
        let mut part = part_in(folder.path());
        let error = model.download(&mut part, false, 3).unwrap_err();
        assert!(error.to_string().contains("gave up after 3 attempts: the connection broke after 50 bytes"), "{error}");
        assert_eq!(content_of(&part), vec![7; 50]);
        drop(part);

        // The next process asks for the rest only.
        let mut part = part_in(folder.path());
        model.download(&mut part, false, 1).unwrap();
        assert_eq!((content_of(&part), model.state.lock().unwrap().sent), (vec![7; 100], 100));
    }

    #[test]
    fn without_a_name_for_its_version_a_file_comes_anew() {
        let folder = tempfile::tempdir().unwrap();
        let versions = vec![vec![7; 100], vec![8; 100]];
        let model = Model::new(versions, Names::None, vec![Act::Change(60), Act::Break(60)]);
        let mut part = part_in(folder.path());
        model.download(&mut part, false, 3).unwrap();
        assert_eq!((content_of(&part), model.state.lock().unwrap().sent), (vec![8; 100], 220));
    }

    /// `If-Range` is a wish. Who is not asked again for what is there, when the rest was of another version, has joined
    /// the two.
    #[test]
    fn a_server_that_ignores_if_range_gives_no_mixture() {
        for is_verified in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let versions = vec![vec![7; 100], vec![8; 100]];
            let model = Model::new(versions, Names::Careless, vec![Act::Change(100), Act::Break(60)]);
            let mut part = part_in(folder.path());
            model.download(&mut part, is_verified, 3).unwrap();
            assert_eq!(content_of(&part), vec![8; 100]);
        }
        // Nor one whose version is another length, and says no more.
        let folder = tempfile::tempdir().unwrap();
        let model = Model::new(vec![vec![7; 100], vec![8; 120]], Names::Heeded, vec![Act::Break(60)]);
        let mut part = part_in(folder.path());
        assert!(model.download(&mut part, false, 1).is_err());
        drop(part);
        let nameless = Model { names: Names::None, ..model };
        nameless.state.lock().unwrap().version = 1;
        let mut part = part_in(folder.path());
        nameless.download(&mut part, false, 3).unwrap();
        assert_eq!(content_of(&part), vec![8; 120]);
    }

    /// A server that says nothing, or nothing more.
    struct Silent;

    impl Transport for Silent {
        fn get(&self, _: &Ask) -> std::result::Result<Reply, Failure> {
            std::thread::sleep(Duration::from_secs(20));
            Err(Failure::Passing("too late".to_owned()))
        }
    }

    #[test]
    fn whoever_watches_stops_it_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let told = Mutex::new(0);
        let watch = |_: Progress| {
            *told.lock().unwrap() += 1;
            if start.elapsed() > Duration::from_millis(500) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let wanted = Wanted { url: "silent", shown: "silent", origin: "silent", is_verified: false };
        let transport: Arc<dyn Transport> = Arc::new(Silent);
        let mut part = part_in(folder.path());
        let watched = Watched { watch: &watch, from: "silent" };
        let error = download(&wanted, &mut part, &transport, &limits(3), watched).unwrap_err();
        assert!(matches!(error, Error::Interrupted { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5) && told.into_inner().unwrap() > 2);

        // Also in a pause between attempts.
        let model: Arc<dyn Transport> = Arc::new(Model::new(vec![vec![1; 9]], Names::None, vec![Act::Status(503); 9]));
        let start = Instant::now();
        let patient =
            Limits { first_pause: Duration::from_secs(60), longest_pause: Duration::from_secs(60), ..limits(3) };
        let watch = |_: Progress| {
            if start.elapsed().as_millis() > 300 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let watched = Watched { watch: &watch, from: "model" };
        let error = download(&wanted, &mut part, &model, &patient, watched).unwrap_err();
        assert!(matches!(error, Error::Interrupted { .. }) && start.elapsed() < Duration::from_secs(5), "{error}");
    }
}
