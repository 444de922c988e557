//! TensorBoard's event files: records in TensorFlow's framing, each an `Event` in protobuf.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::{Error, Result};

/// The part of `tensorflow/core/util/event.proto` and `summary.proto` that scalars need, under its names there.
mod proto {
    use prost::{Message, Oneof};

    #[derive(Clone, PartialEq, Message)]
    pub struct Event {
        #[prost(double, tag = "1")]
        pub wall_time: f64,
        #[prost(int64, tag = "2")]
        pub step: i64,
        #[prost(oneof = "What", tags = "3, 5, 7")]
        pub what: Option<What>,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub enum What {
        #[prost(string, tag = "3")]
        FileVersion(String),
        #[prost(message, tag = "5")]
        Summary(Summary),
        #[prost(message, tag = "7")]
        SessionLog(SessionLog),
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Summary {
        #[prost(message, repeated, tag = "1")]
        pub value: Vec<Value>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Value {
        #[prost(string, tag = "1")]
        pub tag: String,
        #[prost(float, optional, tag = "2")]
        pub simple_value: Option<f32>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct SessionLog {
        #[prost(int32, tag = "1")]
        pub status: i32,
    }

    /// `SessionLog.SessionStatus.START`.
    pub const START: i32 = 1;
}

/// One event file, which grows.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a new file in `folder`. Its events come from step `first_step` on: TensorBoard then forgets what an earlier
    /// file of the folder says about these steps, as after a resumption.
    ///
    /// # Errors
    /// A file that cannot be made or written.
    pub fn create(folder: &Path, host: &str, first_step: usize) -> Result<Self> {
        let seconds = now() as u64;
        let host = host.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-', "_");
        let (mut file, path) = (0..1000)
            .map(|number| {
                folder.join(format!("events.out.tfevents.{seconds:010}.{host}.{}.{number}", std::process::id()))
            })
            .find_map(|path| match File::create_new(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
                other => Some(other.map_err(Error::io(&path)).map(|file| (file, path))),
            })
            .ok_or_else(|| Error::io(folder)(std::io::ErrorKind::AlreadyExists.into()))??;
        let version = proto::What::FileVersion("brain.Event:2".to_owned());
        let start = proto::What::SessionLog(proto::SessionLog { status: proto::START });
        let mut bytes = record(&event(0, version));
        bytes.extend(record(&event(first_step, start)));
        file.write_all(&bytes).map_err(Error::io(&path))?;
        Ok(Self { path, file })
    }

    /// Appends scalars: step, tag, value. One write.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write<'a>(&mut self, scalars: impl IntoIterator<Item = (usize, &'a str, f64)>) -> Result<()> {
        let scalar = |(step, tag, value): (usize, &str, f64)| {
            let value = proto::Value { tag: tag.to_owned(), simple_value: Some(value as f32) };
            record(&event(step, proto::What::Summary(proto::Summary { value: vec![value] })))
        };
        let bytes: Vec<u8> = scalars.into_iter().flat_map(scalar).collect();
        self.file.write_all(&bytes).map_err(Error::io(&self.path))
    }
}

fn event(step: usize, what: proto::What) -> proto::Event {
    proto::Event { wall_time: now(), step: step as i64, what: Some(what) }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// A record: length, its checksum, the bytes, their checksum; all in little-endian order.
fn record(event: &proto::Event) -> Vec<u8> {
    let bytes = event.encode_to_vec();
    let length = (bytes.len() as u64).to_le_bytes();
    let checksums = [masked_crc(&length), masked_crc(&bytes)].map(u32::to_le_bytes);
    [&length[..], &checksums[0], &bytes, &checksums[1]].concat()
}

/// CRC-32C, turned and shifted, so that the checksum of bytes that hold a checksum is not a likely value.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRC-32C bit by bit, as Castagnoli's polynomial defines it: not the writer's.
    fn crc(bytes: &[u8]) -> u32 {
        let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        !bytes.iter().fold(!0u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    /// A message's fields: number, and bytes or number of the value.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let length = match key & 7 {
                0 => {
                    let value = varint(&mut bytes);
                    fields.push((key >> 3, value.to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => varint(&mut bytes) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            let (value, rest) = bytes.split_at(length);
            fields.push((key >> 3, value.to_vec()));
            bytes = rest;
        }
        fields
    }

    fn field(bytes: &[u8], number: u64) -> Option<Vec<u8>> {
        fields(bytes).into_iter().find(|(key, _)| *key == number).map(|(_, value)| value)
    }

    /// The events of a file, its framing checked.
    fn events(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let unmask =
            |masked: &[u8]| u32::from_le_bytes(masked.try_into().unwrap()).wrapping_sub(0xa282_ead8).rotate_left(15);
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(crc(&bytes[..8]), unmask(&bytes[8..12]), "checksum of the length");
            let event = &bytes[12..12 + length];
            assert_eq!(crc(event), unmask(&bytes[12 + length..16 + length]), "checksum of the event");
            events.push(event.to_vec());
            bytes = &bytes[16 + length..];
        }
        events
    }

    #[test]
    fn an_independent_reader_finds_what_was_written() {
        assert_eq!(crc(b"123456789"), 0xe306_9283, "the known value");
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path(), "n1.example", 7).unwrap();
        file.write([(7, "train/loss", 0.5), (300, "val/top1", -1.25)]).unwrap();
        let bytes = std::fs::read(&file.path).unwrap();
        let events = events(&bytes);
        assert_eq!(events.len(), 4);
        assert_eq!(field(&events[0], 3).unwrap(), b"brain.Event:2");
        let (start, step) = (field(&events[1], 7).unwrap(), field(&events[1], 2).unwrap());
        assert_eq!((field(&start, 1).unwrap()[0], step[0]), (1, 7));
        for (event, (step, tag, value)) in
            events[2..].iter().zip([(7u64, "train/loss", 0.5f32), (300, "val/top1", -1.25)])
        {
            assert_eq!(field(event, 2).unwrap(), step.to_le_bytes());
            let entry = field(&field(event, 5).unwrap(), 1).unwrap();
            assert_eq!(field(&entry, 1).unwrap(), tag.as_bytes());
            assert_eq!(field(&entry, 2).unwrap(), value.to_le_bytes());
        }
        let wall_time = f64::from_le_bytes(field(&events[2], 1).unwrap().try_into().unwrap());
        assert!((wall_time - now()).abs() < 60.0);
    }

    #[test]
    fn two_files_of_one_second_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [0, 5].map(|step| EventFile::create(folder.path(), "n1", step).unwrap().path);
        assert_ne!(paths[0], paths[1]);
        assert!(EventFile::create(&folder.path().join("no"), "n1", 0).is_err());
    }
}
