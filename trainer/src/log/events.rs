//! TensorBoard's event files: records of protobuf messages.
//!
//! A record is the message's length as u64, a checksum of that, the message, and a checksum of it, all
//! little-endian. The checksum is CRC-32C, turned by 15 bits and raised by a constant. The messages are
//! TensorFlow's `Event` and `Summary`, as far as they are used here.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use prost::Message;

use crate::clip::Clip;

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session: Option<Session>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    scalar: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
    #[prost(message, optional, tag = "6")]
    audio: Option<Audio>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// 3: red, green and blue.
    #[prost(int32, tag = "3")]
    colour_space: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Audio {
    #[prost(float, tag = "1")]
    rate_hz: f32,
    #[prost(int64, tag = "2")]
    channels: i64,
    #[prost(int64, tag = "3")]
    frames: i64,
    #[prost(bytes = "vec", tag = "4")]
    encoded: Vec<u8>,
    #[prost(string, tag = "5")]
    content_type: String,
}

#[derive(Clone, PartialEq, Message)]
struct Session {
    /// 1: what other files say of this step and later ones holds no more.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// One event file, open at its end.
#[derive(Debug)]
pub(super) struct Events {
    file: File,
}

impl Events {
    /// Begins a file after all others in the folder, for a run that goes on after `step`.
    pub(super) fn open(folder: &Path, step: u64) -> Result<Self> {
        let mut events = Self { file: create(folder)?.0 };
        let version = Some("brain.Event:2".to_owned());
        events.write(Event { file_version: version, ..Event::at(0) })?;
        events.write(Event { session: Some(Session { status: 1 }), ..Event::at(step + 1) })?;
        Ok(events)
    }

    pub(super) fn scalars(&mut self, step: u64, scalars: &[(&str, f32)]) -> Result<()> {
        let value = |&(tag, scalar): &(&str, f32)| Value {
            tag: tag.to_owned(),
            scalar: Some(scalar),
            ..Value::default()
        };
        self.summary(step, scalars.iter().map(value).collect())
    }

    pub(super) fn sound(&mut self, step: u64, name: &str, clip: &Clip) -> Result<()> {
        let audio = Audio {
            rate_hz: clip.rate_hz as f32,
            channels: 1,
            frames: clip.samples.len() as i64,
            encoded: clip.wav()?,
            content_type: "audio/wav".into(),
        };
        let tag = format!("sound/{name}");
        self.summary(step, vec![Value { tag, audio: Some(audio), ..Value::default() }])
    }

    pub(super) fn picture(
        &mut self,
        step: u64,
        name: &str,
        (width, height): (u32, u32),
        png: Vec<u8>,
    ) -> Result<()> {
        let (width, height) = (width as i32, height as i32);
        let image = Image { height, width, colour_space: 3, encoded: png };
        let tag = format!("spectrogram/{name}");
        self.summary(step, vec![Value { tag, image: Some(image), ..Value::default() }])
    }

    fn summary(&mut self, step: u64, values: Vec<Value>) -> Result<()> {
        self.write(Event { summary: Some(Summary { values }), ..Event::at(step) })
    }

    /// Appends a record, in one piece.
    fn write(&mut self, event: Event) -> Result<()> {
        let message = event.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(message.len() + 16);
        record.extend(length);
        record.extend(checksum(&length));
        record.extend(&message);
        record.extend(checksum(&message));
        self.file.write_all(&record).context("the log cannot be written")
    }
}

impl Event {
    fn at(step: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        Self { wall_time: now.as_secs_f64(), step, ..Self::default() }
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// A new file whose name sorts after those that are there: TensorBoard reads them in that order.
fn create(folder: &Path) -> Result<(File, String)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let entries = std::fs::read_dir(folder).context("the folder of the log cannot be read")?;
    let second = |name: &str| -> Option<u64> {
        name.strip_prefix("events.out.tfevents.")?.split('.').next()?.parse().ok()
    };
    let seconds = entries.flatten().filter_map(|entry| second(entry.file_name().to_str()?));
    let number = seconds.max().map_or(now, |last| now.max(last.saturating_add(1)));
    ensure!(number < 10_u64.pow(10), "an event file in {} is of the far future", folder.display());
    let path = folder.join(format!("events.out.tfevents.{number:010}.wavenet"));
    let file = OpenOptions::new().create_new(true).append(true).open(&path);
    let shown = path.display().to_string();
    Ok((file.with_context(|| format!("cannot write {shown}"))?, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_framed_as_tensorflow_frames_it() {
        // The length 24 and the first record of every event file that TensorFlow writes.
        assert_eq!(checksum(&24_u64.to_le_bytes()), [0xa3, 0x7f, 0x4b, 0x22]);
        let folder = tempfile::tempdir().unwrap();
        drop(Events::open(folder.path(), 3).unwrap());
        let path = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes[..12], *b"\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22");
        let first = Event::decode(&bytes[12..36]).unwrap();
        assert_eq!(first.file_version.as_deref(), Some("brain.Event:2"));
        let second = Event::decode(&bytes[36 + 4 + 12..bytes.len() - 4]).unwrap();
        assert_eq!((second.step, second.session), (4, Some(Session { status: 1 })));
    }

    #[test]
    fn later_files_sort_after_earlier_ones() {
        let folder = tempfile::tempdir().unwrap();
        let mut names: Vec<String> = (0..3)
            .map(|step| create(folder.path()).map(|(_, name)| (step, name)).unwrap().1)
            .collect();
        let made = names.clone();
        names.sort();
        assert_eq!(names, made);
    }
}
