//! WaveNet as a CLAP and VST3 instrument, on nice-plug.
//!
//! The host's events and parameters become the engine's (`notes`, `params`); the audio thread
//! pops samples from the engine's ring ([`wavenet_engine::stream`]); the model and the stream belong
//! to the session. Nothing is loaded before the host activates the plugin, so a scan is quick.
//!
//! Latency is constant while active: the host's largest block, the `Buffer` parameter, and the
//! resampler's look-ahead.

pub mod model;
mod notes;
pub mod params;
pub mod session;

use std::sync::{Arc, Weak};

use nice_plug::prelude::*;
use wavenet_engine::stream::{Pace, Player, StreamOptions};
use wavenet_engine::synth::{Event, EventKind};

use notes::Notes;
use params::{Changes, InstrumentParams};
use session::{Session, Wishes};

/// Events of one block; more are left out.
const MAX_EVENTS: usize = 4096;

/// The instrument.
pub struct WaveNet {
    params: Arc<InstrumentParams>,
    notes: Notes,
    events: Vec<Event>,
    active: Option<Active>,
}

/// What the audio thread has while the host has the plugin active.
struct Active {
    /// None where there is no model to play.
    player: Option<Player>,
    changes: Changes,
    pace: Pace,
    // What it was activated with.
    margin_ms: u32,
    gpu: bool,
    /// Frames for which the host must still ask after the last sound, because the output is late.
    tail_frames: usize,
    restart_asked: bool,
    max_block_frames: usize,
    /// Frames processed since the host started processing, and whether it has stopped since.
    frames_since_start: usize,
    stopped: bool,
}

impl Default for WaveNet {
    fn default() -> Self {
        let params = Arc::new(InstrumentParams::new(Session::default()));
        let wishes: Weak<dyn Wishes> = Arc::<InstrumentParams>::downgrade(&params);
        params.session.attach(wishes);
        Self { params, notes: Notes::new(), events: Vec::with_capacity(MAX_EVENTS), active: None }
    }
}

impl Plugin for WaveNet {
    const NAME: &'static str = "WaveNet";
    const VENDOR: &'static str = "WaveNet Instrument";
    const URL: &'static str = "";
    const EMAIL: &'static str = "";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    const AUDIO_IO_LAYOUTS: &'static [AudioIOLayout] = &[
        AudioIOLayout {
            main_output_channels: NonZeroU32::new(2),
            ..AudioIOLayout::const_default()
        },
        AudioIOLayout {
            main_output_channels: NonZeroU32::new(1),
            ..AudioIOLayout::const_default()
        },
    ];
    const MIDI_INPUT: MidiConfig = MidiConfig::MidiCCs;
    const SAMPLE_ACCURATE_AUTOMATION: bool = true;
    const INPUT_EVENT_CAPACITY: usize = MAX_EVENTS;

    type Editor = ();
    type SysExMessage = ();
    type BackgroundTask = ();

    fn params(&self) -> Arc<dyn Params> {
        Arc::clone(&self.params) as Arc<dyn Params>
    }

    fn filter_state(state: &mut PluginState) {
        params::complete(&mut state.params, &mut state.fields);
    }

    fn activate(
        &mut self,
        _layout: &AudioIOLayout,
        config: &BufferConfig,
        context: &mut impl ActivateContext<Self>,
    ) -> bool {
        let (margin_ms, gpu) = (self.params.margin_ms(), self.params.gpu.value());
        let rate_hz = whole_rate_hz(config.sample_rate);
        let max_block_frames = (config.max_buffer_size as usize).clamp(1, 65_536);
        let options = StreamOptions {
            max_block_frames,
            margin_frames: (u64::from(margin_ms) * u64::from(rate_hz) / 1000) as usize,
        };
        let changes = Changes::new(&self.params);
        let player = self.params.session.start(rate_hz, options);
        let latency = player.as_ref().map_or(0, Player::latency_frames);
        context.set_latency_samples(latency as u32);
        // Under VST3 the framework tells the mode before the present one. A host that renders faster
        // than the clock is waited for all the same; one that plays must never be.
        let is_told = context.plugin_api() != PluginApi::Vst3;
        let pace = match config.process_mode {
            ProcessMode::Offline if is_told => Pace::Offline,
            _ => Pace::Realtime,
        };
        self.active = Some(Active {
            player,
            changes,
            pace,
            margin_ms,
            gpu,
            tail_frames: 0,
            restart_asked: false,
            max_block_frames,
            frames_since_start: 0,
            stopped: false,
        });
        true
    }

    /// Also called at every start of processing.
    fn reset(&mut self) {
        let Some(active) = &mut self.active else {
            return;
        };
        // Some hosts stop and start for each block; to be silenced each time is not what they mean.
        let each_block = active.stopped && active.frames_since_start <= active.max_block_frames;
        active.stopped = false;
        active.frames_since_start = 0;
        if each_block {
            return;
        }
        self.notes.reset();
        if let Some(player) = &mut active.player {
            player.reset();
        }
    }

    fn stop_processing(&mut self) {
        if let Some(active) = &mut self.active {
            active.stopped = true;
        }
    }

    fn process(
        &mut self,
        buffer: &mut Buffer,
        _aux: &mut AuxiliaryBuffers,
        context: &mut impl ProcessContext<Self>,
    ) -> ProcessStatus {
        let params = &self.params;
        let events = &mut self.events;
        events.clear();
        let mut push = |frame, kind| {
            if events.len() < MAX_EVENTS {
                events.push(Event { frame, kind });
            }
        };
        let frames = buffer.samples();
        let Some((first, rest)) = buffer.as_slice().split_first_mut() else {
            return ProcessStatus::Normal;
        };
        let Some(active) = &mut self.active else {
            return ProcessStatus::Normal;
        };
        active.frames_since_start = active.frames_since_start.saturating_add(frames);
        let is_other = params.margin_ms() != active.margin_ms || params.gpu.value() != active.gpu;
        if !active.restart_asked && (is_other || params.session.take_restart()) {
            active.restart_asked = true;
            context.request_restart();
        }
        let mut set = |parameter| push(0, EventKind::Set(parameter));
        if params.session.take_renewed() {
            active.changes.tell_all(params, &mut set);
        } else {
            active.changes.tell(params, &mut set);
        }
        while let Some(event) = context.next_event() {
            let frame = u64::from(event.timing());
            self.notes.translate(&event, params.bend_range_semitones.value(), |kind| {
                push(frame, kind);
            });
        }
        let Some(player) = &mut active.player else {
            first.fill(0.0);
            rest.iter_mut().for_each(|channel| channel.fill(0.0));
            return ProcessStatus::Normal;
        };
        let pace = if params.always_wait.value() { Pace::Offline } else { active.pace };
        player.process(events, first, pace);
        for channel in rest {
            channel.copy_from_slice(first);
        }
        // What was played now is heard one latency later, and the generator may be behind by that too.
        let sounding = player.sounding() > 0 || !events.is_empty();
        active.tail_frames = if sounding {
            2 * player.latency_frames()
        } else {
            active.tail_frames.saturating_sub(frames)
        };
        if active.tail_frames > 0 { ProcessStatus::KeepAlive } else { ProcessStatus::Normal }
    }

    fn deactivate(&mut self) {
        self.active = None;
        self.params.session.stop();
    }
}

/// The rate to play at. Validators ask for fractions of a hertz, and for high rates that have nothing
/// in common with a model's; to round those by 12.5 Hz is a third of a cent, and keeps the resampler's
/// tables small.
fn whole_rate_hz(rate_hz: f32) -> u32 {
    if rate_hz <= 65_536.0 { rate_hz.round() as u32 } else { (rate_hz / 25.0).round() as u32 * 25 }
}

impl ClapPlugin for WaveNet {
    const CLAP_ID: &'static str = "org.wavenet-instrument.wavenet";
    const CLAP_DESCRIPTION: Option<&'static str> =
        Some("A neural network that makes sound one sample at a time, played from a keyboard");
    const CLAP_MANUAL_URL: Option<&'static str> = None;
    const CLAP_SUPPORT_URL: Option<&'static str> = None;
    const CLAP_FEATURES: &'static [ClapFeature] =
        &[ClapFeature::Instrument, ClapFeature::Synthesizer, ClapFeature::Stereo];
}

impl Vst3Plugin for WaveNet {
    const VST3_CLASS_ID: [u8; 16] = *b"WaveNetInstrumen";
    const VST3_SUBCATEGORIES: &'static [Vst3SubCategory] =
        &[Vst3SubCategory::Instrument, Vst3SubCategory::Synth];
}

nice_export_clap!(WaveNet);
nice_export_vst3!(WaveNet);
