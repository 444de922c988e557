//! Collective matching in front of every collective. MPI gives no error when a rank stays away from a collective or calls
//! another one: it waits for ever, or mixes up the data. So before any data moves all ranks meet here, compare what they
//! are about to call, and find out by name who is missing.
//!
//! Meeting costs log₂(ranks) small messages (a dissemination barrier that carries the smallest and the largest call).
//! Only when somebody has waited for long do the ranks gossip: each tells its neighbours at distances 1, 2, 4, … which
//! ranks it has heard of, and in which collective, until all that are there know the same. A rank that works while others
//! wait for it says so by the same letters ([`crate::report`]), and so does one that was asked to stop.
#![expect(unsafe_code, reason = "sends and receives through MPI's C interface")]

use std::ffi::c_int;
use std::time::{Duration, Instant};

use mpi::{Communicator, Element, Handle, mpi};

use crate::call::{Call, Code};
use crate::error::{Error, Result};
use crate::mpi_error::check;
use crate::wait::{WaitLimit, wait};
use crate::{progress, signals};

const MEETING_TAG: c_int = 1;
const GOSSIP_TAG: c_int = 2;
/// The longest that ranks which found out that they disagree wait to learn who called what.
const DISPUTE: Duration = Duration::from_secs(2);
/// Letters to one rank that may be on their way at a time: a rank that never reads them must neither fill our memory nor
/// keep others from being told.
const MOST_LETTERS: usize = 16;

/// How often a rank that works looks for letters, about once a second: MPICH brings what is on its way one step further with each
/// look.
const LOOKS: usize = 64;
/// The same of a rank that waits, which looks all the time: it must not take the core from those that it waits for.
const LOOKS_WHILE_WAITING: usize = 4;

/// What one rank has last been heard to do. Zero where nothing was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Entry {
    /// Twice the number of the collective; one more once it has met the others.
    turn: u64,
    call: Code,
    /// What it last said of the work that others wait for.
    word: Word,
    /// 1 once somebody has asked it to stop.
    is_asked_to_stop: u64,
    /// 1 in the last letters of a rank alone, of itself; what a rank has heard of others leaving is not passed on.
    is_last_letter: u64,
}

/// How far a rank is with what it does outside of any collective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Word {
    /// How many words it has said before: a later one is news.
    number: u64,
    done: u64,
    /// 0 where nobody knows.
    total: u64,
    /// Of what, in UTF-8, cut off or filled up with zeros.
    unit: [u64; 2],
}

impl Word {
    fn unit(name: &str) -> [u64; 2] {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(name.bytes()).for_each(|(byte, of_name)| *byte = of_name);
        let (first, second) = bytes.split_at(8);
        [first, second].map(|half| half.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }
}

/// "12300 of 50000 images", "12300 files".
impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.unit.map(u64::to_le_bytes).concat();
        let unit = String::from_utf8_lossy(&bytes);
        let unit = unit.trim_end_matches('\0');
        match self.total {
            0 => write!(f, "{} {unit}", self.done),
            total => write!(f, "{} of {total} {unit}", self.done),
        }
    }
}

/// An entry travels as so many numbers.
const NUMBERS: usize = size_of::<Entry>() / size_of::<u64>();

/// The ranks of a channel as one of them knows them.
pub(crate) struct CollectiveMatching {
    communicator: Communicator,
    /// "rank 2 on n1", for each rank.
    labels: Vec<String>,
    rank: usize,
    /// By rank; ours is current.
    entries: Vec<Entry>,
    /// Whether `entries` hold news that the neighbours have not been sent.
    has_news: bool,
    /// The same of words, which are not so urgent.
    has_words: bool,
    /// When the neighbours were last told.
    told: Instant,
    /// When a rank that has not come as far as this one was last heard to make progress, and which.
    heard: Option<(Instant, usize)>,
    /// Messages of a meeting, in memory that stays where it is while MPI uses it.
    outgoing: Box<[u64; 8]>,
    incoming: Box<[u64; 8]>,
    /// To whom, what, and MPI's request.
    letters: Vec<(usize, Box<[Entry]>, Handle)>,
    inbox: Box<[Entry]>,
    /// The last letters that have not come; with ours, nothing more is written.
    last_letters_missing: usize,
    has_left: bool,
}

// SAFETY: the requests and the communicator are handles that any thread may use under MPI_THREAD_MULTIPLE, which
// `World::init` demands; a mutex around collective matching makes it one thread at a time.
unsafe impl Send for CollectiveMatching {}

impl CollectiveMatching {
    pub(crate) fn new(communicator: Communicator, rank: usize, labels: Vec<String>) -> Self {
        let size = labels.len();
        Self {
            communicator,
            labels,
            rank,
            entries: vec![Entry::default(); size],
            has_news: false,
            has_words: false,
            told: Instant::now(),
            heard: None,
            outgoing: Box::new([0; 8]),
            incoming: Box::new([0; 8]),
            letters: Vec::new(),
            inbox: vec![Entry::default(); size].into(),
            last_letters_missing: neighbours(rank, size).count(),
            has_left: false,
        }
    }

    pub(crate) fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Names the ranks once their hosts are known.
    pub(crate) fn relabel(&mut self, labels: Vec<String>) {
        self.labels = labels;
    }

    /// Returns when all ranks have come to call `call`.
    ///
    /// # Errors
    /// A rank that did not come in time, one that calls another collective, or what MPI reported.
    pub(crate) fn meet(&mut self, call: Call, limit: &WaitLimit<'_>) -> Result<()> {
        let (rank, size) = (self.rank, self.labels.len());
        let turn = (self.entries[rank].turn / 2 + 1) * 2;
        (self.entries[rank].turn, self.entries[rank].call) = (turn, call.code());
        self.has_news = true;
        let (mut least, mut most) = (call.code(), call.code());
        let mut distance = 1;
        while distance < size {
            let (to, from) = ((rank + distance) % size, (rank + size - distance) % size);
            [&least[..], &most[..]].concat().iter().zip(&mut self.outgoing[..]).for_each(|(&code, slot)| *slot = code);
            let (mut sending, mut receiving) = (mpi().request(), mpi().request());
            // SAFETY: both buffers are boxed, hold 8 numbers, and are left alone until their requests are done. After
            // a failed wait no meeting happens any more (`stop::is_broken`), so they stay untouched.
            let codes = unsafe {
                let incoming = self.incoming.as_mut_ptr().cast();
                let received =
                    self.communicator.start_receive(incoming, 8, Element::U64, from, MEETING_TAG, &mut receiving);
                let outgoing = self.outgoing.as_ptr().cast();
                let sent = self.communicator.start_send(outgoing, 8, Element::U64, to, MEETING_TAG, &mut sending);
                [received, sent]
            };
            check("MPI_Irecv", codes[0])?;
            check("MPI_Isend", codes[1])?;
            wait(&mut receiving, "MPI_Irecv", limit, self)?;
            wait(&mut sending, "MPI_Isend", limit, self)?;
            let theirs = |at: usize| -> Code { [self.incoming[at], self.incoming[at + 1], self.incoming[at + 2]] };
            (least, most) = (least.min(theirs(0)), most.max(theirs(3)));
            distance *= 2;
        }
        if least != most {
            return Err(self.dispute());
        }
        self.entries[rank].turn = turn + 1;
        Ok(())
    }

    /// Whose call differs. Every rank of the channel knows that there is a dispute, and tells the others its side.
    fn dispute(&mut self) -> Error {
        let start = Instant::now();
        let turn = self.entries[self.rank].turn;
        while self.entries.iter().any(|entry| entry.turn < turn) && start.elapsed() < DISPUTE {
            self.gossip();
            std::thread::sleep(Duration::from_millis(1));
        }
        self.gossip();
        let who = describe_dispute(&self.entries, &self.labels);
        // The neighbours' last letters must leave before the job ends.
        while !self.letters.is_empty() && start.elapsed() < DISPUTE {
            self.post();
        }
        Error::Mismatch { who }
    }

    /// Reads what other ranks say, and answers if it is news. To be called now and then while waiting: a rank that
    /// gives up asks those that have come later.
    pub(crate) fn listen(&mut self) {
        self.listen_for(LOOKS);
    }

    /// As [`listen`](Self::listen), many times a second.
    pub(crate) fn listen_while_waiting(&mut self) {
        self.listen_for(LOOKS_WHILE_WAITING);
    }

    fn listen_for(&mut self, looks: usize) {
        if self.read_letters(looks) || self.passes_words_on() {
            self.write_letters();
        }
    }

    /// Tells the neighbours what this rank knows, if that is news.
    pub(crate) fn gossip(&mut self) {
        if self.read_letters(LOOKS_WHILE_WAITING) || self.has_news || self.passes_words_on() {
            self.write_letters();
        }
    }

    /// Tells the others, whoever waits for this rank, how far it is; and hears what they say.
    pub(crate) fn say(&mut self, done: u64, total: u64, unit: &str) {
        self.read_letters(LOOKS);
        let number = self.entries[self.rank].word.number + 1;
        self.entries[self.rank].word = Word { number, done, total, unit: Word::unit(unit) };
        self.write_letters();
    }

    /// This rank was asked to stop: whoever works while it waits should know.
    pub(crate) fn say_stop(&mut self) {
        if self.entries[self.rank].is_asked_to_stop == 0 {
            self.entries[self.rank].is_asked_to_stop = 1;
            self.has_news = true;
        }
    }

    /// When a rank that others wait for was last heard to make progress.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.heard.map(|(when, _)| when)
    }

    /// What it said, "12300 of 50000 images", if it has not come meanwhile.
    pub(crate) fn last_word(&self) -> Option<String> {
        let turn = self.entries[self.rank].turn;
        let speaker = self.heard.map(|(_, rank)| &self.entries[rank]).filter(|speaker| speaker.turn < turn);
        speaker.map(|speaker| speaker.word.to_string())
    }

    /// The ranks that have not come as far as this one: "rank 2 on n1". Empty where all have.
    pub(crate) fn missing(&self) -> String {
        let turn = self.entries[self.rank].turn;
        describe_missing(&self.entries, &self.labels, turn)
    }

    /// Words are passed on now and then, not one by one: all ranks may speak at once.
    fn passes_words_on(&self) -> bool {
        self.has_words && self.told.elapsed() >= progress::period()
    }

    /// Whether any letter had something new in it, other than words.
    fn read_letters(&mut self, looks: usize) -> bool {
        let mut news = false;
        loop {
            if !(0..looks).any(|_| self.communicator.has_message(GOSSIP_TAG)) {
                return news;
            }
            let count = (self.inbox.len() * NUMBERS) as c_int;
            // SAFETY: a letter has arrived, and all letters of a channel have one entry of `NUMBERS` numbers for each rank;
            // nobody else receives on this communicator, since `self` is borrowed mutably.
            let code = unsafe { self.communicator.receive_from_any(self.inbox.as_mut_ptr().cast(), count, GOSSIP_TAG) };
            if code != 0 {
                return news;
            }
            let own_turn = self.entries[self.rank].turn;
            for (rank, (known, told)) in self.entries.iter_mut().zip(&self.inbox[..]).enumerate() {
                self.last_letters_missing -= told.is_last_letter as usize;
                if rank == self.rank {
                    continue;
                }
                if told.turn > known.turn {
                    (known.turn, known.call) = (told.turn, told.call);
                    news = true;
                }
                if told.is_asked_to_stop > known.is_asked_to_stop {
                    known.is_asked_to_stop = told.is_asked_to_stop;
                    signals::arrived_elsewhere();
                    news = true;
                }
                if told.word.number > known.word.number {
                    known.word = told.word;
                    self.has_words = true;
                    if known.turn < own_turn {
                        self.heard = Some((Instant::now(), rank));
                    }
                }
            }
        }
    }

    fn write_letters(&mut self) {
        (self.has_news, self.has_words, self.told) = (false, false, Instant::now());
        if self.has_left {
            return;
        }
        self.post();
        for to in neighbours(self.rank, self.labels.len()) {
            if self.letters.iter().filter(|(other, ..)| *other == to).count() < MOST_LETTERS {
                self.write_letter(to, self.entries.clone().into());
            }
        }
    }

    fn write_letter(&mut self, to: usize, letter: Box<[Entry]>) {
        let mut request = mpi().request();
        let (words, count) = (letter.as_ptr().cast(), (letter.len() * NUMBERS) as c_int);
        // SAFETY: the letter is boxed and kept in `letters` until the request is done.
        let code = unsafe { self.communicator.start_send(words, count, Element::U64, to, GOSSIP_TAG, &mut request) };
        if code == 0 {
            self.letters.push((to, letter, request));
        }
    }

    /// Tells the neighbours that no more letters will come from here. See [`farewell`](crate::farewell).
    pub(crate) fn write_last_letters(&mut self) {
        let mut letter: Box<[Entry]> = vec![Entry::default(); self.labels.len()].into();
        letter[self.rank].is_last_letter = 1;
        neighbours(self.rank, self.labels.len()).for_each(|to| self.write_letter(to, letter.clone()));
        self.has_left = true;
    }

    pub(crate) fn has_left(&self) -> bool {
        self.has_left
    }

    /// Whether all letters to this rank have come, and all of its own have left.
    pub(crate) fn is_done_with_letters(&mut self) -> bool {
        self.read_letters(LOOKS_WHILE_WAITING);
        self.post();
        self.last_letters_missing == 0 && self.letters.is_empty()
    }

    /// Lets go of the letters that have left.
    fn post(&mut self) {
        self.letters.retain_mut(|(_, _, request)| {
            let mut left = 0;
            // SAFETY: the request came from MPI_Isend and has not completed.
            let code = unsafe { mpi().test(request, &mut left) };
            code == 0 && left == 0
        });
    }
}

/// The ranks at distances 1, 2, 4, … either way, whom `rank` of `size` writes to and has letters from: one may be there twice.
fn neighbours(rank: usize, size: usize) -> impl Iterator<Item = usize> {
    let distances = std::iter::successors(Some(1), |distance| Some(distance * 2)).take_while(move |&d| d < size);
    distances.flat_map(move |distance| [(rank + distance) % size, (rank + size - distance) % size])
}

/// "rank 2 on n1", "rank 1 on n1, rank 2 on n1 and 3 more".
fn list(labels: &[&str]) -> String {
    const MOST_NAMES: usize = 4;
    match labels {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [head @ .., last] if labels.len() <= MOST_NAMES => format!("{} and {last}", head.join(", ")),
        _ => format!("{} and {} more", labels[..MOST_NAMES].join(", "), labels.len() - MOST_NAMES),
    }
}

fn describe_missing(entries: &[Entry], labels: &[String], turn: u64) -> String {
    let missing: Vec<_> = entries.iter().zip(labels).filter(|(entry, _)| entry.turn < turn).collect();
    list(&missing.iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>())
}

fn describe_dispute(entries: &[Entry], labels: &[String]) -> String {
    let mut sides: Vec<(Code, Vec<&str>)> = Vec::new();
    for (&Entry { turn, call: code, .. }, label) in entries.iter().zip(labels) {
        if turn == 0 {
            continue; // said nothing in time
        }
        match sides.iter_mut().find(|(known, _)| *known == code) {
            Some((_, who)) => who.push(label),
            None => sides.push((code, vec![label])),
        }
    }
    // The fewest first: they are the likelier to be wrong.
    sides.sort_by_key(|(_, who)| who.len());
    let sides: Vec<_> = sides
        .iter()
        .map(|(code, who)| {
            let call =
                Call::from_code(*code).map_or_else(|| format!("an unknown call {code:?}"), |call| call.to_string());
            format!("{} called {call}", list(who))
        })
        .collect();
    sides.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mpi::{Element, Reduction};

    use crate::call::Kind;

    fn entry(turn: u64, call: Call) -> Entry {
        Entry { turn, call: call.code(), ..Entry::default() }
    }

    fn labels(size: usize) -> Vec<String> {
        (0..size).map(|rank| format!("rank {rank} on n{}", rank / 2)).collect()
    }

    #[test]
    fn the_missing_are_named() {
        let call = Call { kind: Kind::Barrier, element: Element::U8, count: 0 };
        let cases: [(&[u64], &str); 5] = [
            (&[4, 4, 4], ""),
            (&[4, 3, 4], "rank 1 on n0"),
            (&[4, 2, 0, 5], "rank 1 on n0 and rank 2 on n1"),
            (&[0, 4, 0, 0, 4, 0], "rank 0 on n0, rank 2 on n1, rank 3 on n1 and rank 5 on n2"),
            (&[0, 0, 0, 0, 0, 0, 4], "rank 0 on n0, rank 1 on n0, rank 2 on n1, rank 3 on n1 and 2 more"),
        ];
        for (turns, text) in cases {
            let entries: Vec<_> = turns.iter().map(|&turn| entry(turn, call)).collect();
            assert_eq!(describe_missing(&entries, &labels(turns.len()), 4), text);
        }
    }

    #[test]
    fn words_are_short_and_survive_the_journey() {
        let word = |done, total, unit| Word { number: 1, done, total, unit: Word::unit(unit) }.to_string();
        assert_eq!(word(12_300, 50_000, "images"), "12300 of 50000 images");
        assert_eq!(word(7, 0, "files"), "7 files");
        assert_eq!(word(7, 0, "a unit of more than sixteen bytes"), "7 a unit of more t");
        assert_eq!(NUMBERS, 11);
    }

    #[test]
    fn whoever_is_written_to_writes_back() {
        for size in 1..40 {
            let pairs = |rank: usize| neighbours(rank, size).map(move |to| (rank, to));
            let mut written: Vec<_> = (0..size).flat_map(pairs).collect();
            let mut read: Vec<_> = written.iter().map(|&(from, to)| (to, from)).collect();
            written.sort_unstable();
            read.sort_unstable();
            assert_eq!(written, read, "{size} ranks");
        }
    }

    #[test]
    fn the_one_that_differs_comes_first() {
        let sum = Call { kind: Kind::AllReduce(Reduction::Sum), element: Element::F32, count: 10 };
        let other = Call { count: 12, ..sum };
        let entries = [entry(2, sum), entry(2, sum), entry(2, other), entry(0, other)];
        assert_eq!(
            describe_dispute(&entries, &labels(4)),
            "rank 2 on n1 called all-reduce (sum of 12 f32); \
             rank 0 on n0 and rank 1 on n0 called all-reduce (sum of 10 f32)"
        );
    }
}
