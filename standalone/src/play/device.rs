//! Sound devices: which there are, which one is meant, and opening it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, Device, DeviceDirection, Host, HostId, StreamConfig, SupportedStreamConfig,
};
use crossbeam::channel::{Receiver, bounded};

use super::callback::{self, Deck, Meters, Seat, can_fill};
use super::midi_input::contains;
use crate::cli::OutputArgs;

/// A device that does not open in this time is given up.
const OPENING: Duration = Duration::from_secs(5);
/// Blocks of a device that does not tell.
const UNKNOWN_BLOCK: usize = 2048;

/// A device, and how it is to be opened.
pub struct Output {
    device: Device,
    config: SupportedStreamConfig,
    /// As people know it.
    pub name: String,
    /// The sound system it belongs to.
    pub host: &'static str,
}

/// A device of a host, for a list.
pub struct Listed {
    /// As people know it.
    pub name: String,
    /// As the system knows it.
    pub id: String,
    /// How it is opened unless told otherwise.
    pub config: SupportedStreamConfig,
    /// Names of the formats that it takes.
    pub formats: Vec<String>,
    /// Whether it is the host's default.
    pub is_default: bool,
}

/// Keeps ALSA from writing to standard error, on this thread; what it had to say before is freed.
pub fn quieten() {
    #[cfg(target_os = "linux")]
    let _ = alsa::Output::local_error_handler();
}

/// The hosts of this machine, the system's own first. (`cpal::default_host` panics where it is broken.)
pub fn hosts() -> Vec<HostId> {
    let mut hosts = cpal::available_hosts();
    hosts.sort_by_key(|id| id.name() == "JACK");
    hosts
}

/// The devices of a host that sound can be played through, as far as it knows before opening them.
fn output_devices(host: &Host) -> impl Iterator<Item = Device> {
    let is_input = |device: &Device| {
        // JACK offers its input as an output too.
        let description = device.description();
        description.is_ok_and(|told| told.direction() == DeviceDirection::Input)
    };
    // ALSA's null takes samples as fast as they come: nobody hears them, and no clock paces them.
    let is_null = |device: &Device| id_of(device) == "null";
    let devices = host.output_devices().into_iter().flatten();
    devices.filter(move |device| !is_input(device) && !is_null(device))
}

/// The outputs of a host that can be opened.
pub fn outputs(host: &Host) -> Vec<Listed> {
    let default = host.default_output_device().map(|device| id_of(&device));
    let listed = output_devices(host).filter_map(|device| {
        let (id, config) = (id_of(&device), default_config(&device).ok()?);
        let mut formats: Vec<String> = Vec::new();
        for range in device.supported_output_configs().into_iter().flatten() {
            let format = range.sample_format().to_string();
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        let is_default = default.as_ref() == Some(&id);
        Some(Listed { name: device.to_string(), id, config, formats, is_default })
    });
    listed.collect()
}

fn id_of(device: &Device) -> String {
    device.id().map_or_else(|_| device.to_string(), |id| id.id().to_owned())
}

/// The device's own choice, in a format that can be filled.
fn default_config(device: &Device) -> Result<SupportedStreamConfig> {
    let config = device.default_output_config()?;
    if can_fill(config.sample_format()) {
        return Ok(config);
    }
    let ranges = device.supported_output_configs()?;
    ranges
        .filter(|range| can_fill(range.sample_format()))
        .max_by(|a, b| a.cmp_default_heuristics(b))
        .map(|range| range.with_standard_sample_rate())
        .context("it takes no samples of a known format")
}

/// The device's own choice, but at a rate.
fn config_at(device: &Device, rate_hz: u32) -> Result<SupportedStreamConfig> {
    let default = default_config(device)?;
    if default.sample_rate() == rate_hz {
        return Ok(default);
    }
    let ranges = device.supported_output_configs()?;
    ranges
        .filter(|range| can_fill(range.sample_format()))
        .filter_map(|range| range.try_with_sample_rate(rate_hz))
        .min_by_key(|config| {
            let (channels, format) = (config.channels(), config.sample_format());
            (channels != default.channels(), format != default.sample_format())
        })
        .ok_or_else(|| {
            anyhow!(
                "it does not play at {rate_hz} Hz; leave out --rate for {} Hz",
                default.sample_rate()
            )
        })
}

impl Output {
    /// The device that is meant.
    ///
    /// # Errors
    /// If there is none, or none of that name or rate.
    pub fn find(args: &OutputArgs) -> Result<Self> {
        let mut hosts = hosts();
        if let Some(wanted) = &args.host {
            let there: Vec<&str> = hosts.iter().map(|host| host.name()).collect();
            let there = there.join(", ");
            hosts.retain(|host| contains(host.name(), wanted));
            if hosts.is_empty() {
                bail!("no sound system is called {wanted:?}; there is {there}");
            }
        }
        let mut reasons = Vec::new();
        // Names of the devices that were looked at, and whether one of them was meant.
        let (mut there, mut is_there) = (Vec::new(), false);
        for id in hosts {
            let host = match cpal::host_from_id(id) {
                Ok(host) => host,
                Err(error) => {
                    reasons.push(format!("{}: {error}", id.name()));
                    continue;
                }
            };
            let found = match &args.device {
                None => host.default_output_device(),
                Some(wanted) => output_devices(&host).find(|device| {
                    there.push(device.to_string());
                    contains(&device.to_string(), wanted) || contains(&id_of(device), wanted)
                }),
            };
            let Some(device) = found else {
                reasons.push(format!("{}: it has no such device", id.name()));
                continue;
            };
            is_there = true;
            let config = match args.rate {
                Some(rate_hz) => config_at(&device, rate_hz),
                None => default_config(&device),
            };
            match config {
                Ok(config) => {
                    let (name, host) = (device.to_string(), id.name());
                    return Ok(Self { device, config, name, host });
                }
                Err(error) => reasons.push(format!("{}: {error:#}", id.name())),
            }
        }
        if let (Some(wanted), false) = (&args.device, is_there) {
            there.dedup();
            let there = if there.is_empty() { "none at all".into() } else { there.join(", ") };
            let gpu = if wanted == "cuda" { " (the GPU is --backend cuda here)" } else { "" };
            bail!("no sound device is called {wanted:?}; there is {there}{gpu}");
        }
        let reasons: Vec<&str> =
            reasons.iter().map(|reason| reason.trim_end_matches('.')).collect();
        bail!(
            "no sound device can be opened ({}); connect one or start its server, or make a file with `wavenet render`",
            reasons.join("; ")
        )
    }

    /// Rate of its frames.
    pub fn rate_hz(&self) -> u32 {
        self.config.sample_rate()
    }

    /// Opens the device and lets it play what is put in the line's seat.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn open(self, meters: Arc<Meters>) -> Result<Line> {
        let mut config: StreamConfig = self.config.config();
        config.buffer_size = BufferSize::Default;
        let channels = usize::from(config.channels);
        let (seat, xruns) = (Seat::default(), Arc::new(AtomicU64::new(0)));
        let (lost, losses) = bounded(1);
        let from = Arc::clone(&seat);
        let counted = Arc::clone(&xruns);
        let stream = self
            .device
            .build_output_stream_raw(
                config,
                self.config.sample_format(),
                move |data, info| {
                    let times = info.timestamp();
                    let ahead = times.playback.duration_since(times.callback);
                    let ahead_us = ahead.as_micros().min(10_000_000) as u32;
                    meters.device_latency_us.store(ahead_us, Ordering::Relaxed);
                    callback::fill(&from, &meters, data, channels);
                },
                move |error| match error.kind() {
                    cpal::ErrorKind::Xrun => {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                    cpal::ErrorKind::RealtimeDenied | cpal::ErrorKind::DeviceChanged => {}
                    _ => {
                        let _ = lost.try_send(error);
                    }
                },
                Some(OPENING),
            )
            .with_context(|| format!("{} ({}) cannot be opened", self.name, self.host))?;
        let told = stream.buffer_size().ok().map(|frames| frames as usize);
        let block_frames = told.filter(|&frames| frames > 0).unwrap_or(UNKNOWN_BLOCK);
        stream.play().with_context(|| format!("{} does not start", self.name))?;
        Ok(Line {
            rate_hz: self.rate_hz(),
            output: self,
            seat,
            stream,
            losses,
            xruns,
            block_frames,
        })
    }
}

/// A device that plays.
pub struct Line {
    /// What it is.
    pub output: Output,
    /// Where its callback finds a deck.
    pub seat: Seat,
    /// Rate of its frames.
    pub rate_hz: u32,
    /// Frames that it asks for at a time, as far as it tells.
    pub block_frames: usize,
    /// Blocks that the device says were late.
    pub xruns: Arc<AtomicU64>,
    stream: cpal::Stream,
    losses: Receiver<cpal::Error>,
}

impl Line {
    /// Why the device is lost, if it is.
    pub fn lost(&self) -> Option<String> {
        self.losses.try_recv().ok().map(|error| error.to_string())
    }

    /// Closes the device, and gives back the deck.
    pub fn close(self) -> Option<Box<Deck>> {
        drop(self.stream);
        // A callback that hangs keeps the deck for ever; one that merely ends needs a moment.
        for _ in 0..100 {
            if let Some(deck) = self.seat.take() {
                return Some(deck);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }
}
