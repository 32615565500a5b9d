//! `wavenet stream`: sound without end into a pipe, at the pace of a clock.
//!
//! A pipe has no deadline but its reader's: samples are made in small chunks by the same renderer as
//! a file's, and each is written when its time has come. A reader that goes away is the normal end.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hound::{SampleFormat, WavSpec};
use wavenet_engine::renderer::Renderer;

use crate::cli::{StreamArgs, StreamFormat};
use crate::model::{LossNote, Model, slowness, synth_at};
use crate::piece::Piece;
use crate::render::settings;

/// Sound between two looks at the clock.
const CHUNK_MS: u32 = 20;
/// How far writing may run ahead of the clock: what an encoder likes to have in hand.
const AHEAD: Duration = Duration::from_millis(200);

/// Streams what `args` ask into `out` until its time is over, the reader goes, or `interrupted`.
///
/// # Errors
/// If an input is missing or damaged, an option does not fit the model, or `out` fails otherwise than
/// by being closed.
pub fn stream(args: &StreamArgs, out: &mut dyn Write, interrupted: &AtomicBool) -> Result<()> {
    let model = Model::load(args.model.as_deref())?;
    let settings = settings(&args.sound, model.weights.config())?;
    let mut piece = piece(args)?;
    let synth = synth_at(args.place, &model, settings, &args.run)?;
    if let Some(note) = slowness(synth.packed()) {
        let _ = writeln!(std::io::stderr(), "note: {note}");
    }
    let mut renderer = Renderer::new(synth, args.rate)?;
    match write_all(args, &mut piece, &mut renderer, out, interrupted) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

fn write_all(
    args: &StreamArgs,
    piece: &mut Piece,
    renderer: &mut Renderer,
    out: &mut dyn Write,
    interrupted: &AtomicBool,
) -> std::io::Result<()> {
    let rate = f64::from(args.rate);
    let frames = args.seconds.map_or(u64::MAX, |seconds| (seconds * rate).round() as u64);
    if args.format == StreamFormat::Wav {
        let spec = WavSpec {
            channels: 1,
            sample_rate: args.rate,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut header = spec.into_header_for_infinite_file();
        set_length(&mut header, frames);
        out.write_all(&header)?;
    }
    let began = Instant::now();
    let mut samples = vec![0.0; (args.rate * CHUNK_MS / 1000).max(1) as usize];
    let mut bytes = Vec::new();
    let mut frame = 0_u64;
    let mut loss = LossNote::new(args.place.mode());
    while frame < frames && !interrupted.load(Ordering::Relaxed) {
        let length = (frames - frame).min(samples.len() as u64);
        let samples = &mut samples[..length as usize];
        let known = frame + length + renderer.lookahead_frames();
        while let Some(event) = piece.next_before(known) {
            renderer.push(event);
        }
        renderer.render(samples);
        loss.look(renderer.synth().loss());
        bytes.clear();
        for &sample in samples.iter() {
            match args.format {
                StreamFormat::F32le => bytes.extend(sample.to_le_bytes()),
                StreamFormat::Wav | StreamFormat::S16le => {
                    bytes.extend(((sample * 32_767.0).round() as i16).to_le_bytes());
                }
            }
        }
        out.write_all(&bytes)?;
        out.flush()?;
        frame += length;
        if !args.no_pace {
            let due = Duration::from_secs_f64(frame as f64 / rate);
            std::thread::sleep(due.saturating_sub(began.elapsed() + AHEAD));
        }
    }
    Ok(())
}

/// Tells how long a stream will be whose end is known, for who keeps it in a file.
fn set_length(header: &mut [u8], frames: u64) {
    let data_bytes = frames.saturating_mul(2);
    let Ok(whole) = u32::try_from(data_bytes.saturating_add(header.len() as u64 - 8)) else {
        return;
    };
    header[4..8].copy_from_slice(&whole.to_le_bytes());
    let end = header.len();
    header[end - 4..].copy_from_slice(&(data_bytes as u32).to_le_bytes());
}

/// What is played: a drone, or a piece over and over.
fn piece(args: &StreamArgs) -> Result<Piece> {
    match &args.midi {
        None => Ok(Piece::drone()),
        Some(path) => Piece::over_and_over(wavenet_midi::read(path, args.rate)?, args.rate),
    }
}
