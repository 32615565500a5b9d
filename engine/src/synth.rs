//! Voices: from note events to samples at the model's rate.
//!
//! A note is a pure function: its samples depend on the model, the settings over time, its channel,
//! key and velocity, its ordinal (how many notes of that key came before it) and nothing else. Draws
//! are keyed by those and by the sample's index, so block size and neighbours change nothing. All
//! sounding voices step together and are mixed in the order in which they began.
//!
//! A model that knows notes is told the key; one that does not is played faster or slower
//! (`varispeed.rs`), so that every model has a keyboard.

mod ahead;
mod channels;
mod envelope;
mod event;
mod mixer;
mod settings;
mod varispeed;
mod voice;

use std::sync::Arc;

use crate::conditioning::NoteConditioner;
use crate::error::{Error, Result};
use crate::kernels::{Packed, State};
use crate::mulaw::MuLaw;
use crate::sampling::Philox;
pub use ahead::Band;
use ahead::{Ahead, Desk};
use channels::Channels;
use envelope::{Envelope, Shape};
pub use event::{Event, EventKind};
use mixer::Mixer;
pub use settings::{MAX_VOICES, Parameter, Settings};
use varispeed::{Sincs, Tape};
use voice::{Pitch, Voice};

/// Where drones count their ordinals, beside the 128 keys.
const DRONE: u8 = 128;
/// A drone of a model that knows notes is struck like this.
const DRONE_VELOCITY: u8 = 100;

/// A polyphonic player of one model. Building it may fail; [`Synth::render`] is real-time safe.
#[derive(Debug)]
pub struct Synth {
    packed: Arc<Packed>,
    state: State,
    /// Codes made elsewhere; the state has no lanes then.
    ahead: Option<Box<Ahead>>,
    /// Who makes them, where it is nobody else's affair.
    desk: Option<Box<Desk>>,
    mulaw: MuLaw,
    conditioner: Option<Arc<NoteConditioner>>,
    sincs: Arc<Sincs>,
    settings: Settings,
    shape: Shape,
    mixer: Mixer,
    voices: Vec<Voice>,
    channels: Channels,
    /// Notes begun since reset, in all and of each channel and key.
    begun: u64,
    begun_of_key: Vec<u32>,
    frame: u64,
    // Buffers of one step, `[voices]` times what the name says.
    order: Vec<usize>,
    owing: Vec<usize>,
    owed: Vec<u32>,
    codes: Vec<u8>,
    conditioning: Vec<f32>,
    logits: Vec<f32>,
}

impl Synth {
    /// A silent player with room for as many voices as the settings say.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] naming the setting that is out of range.
    pub fn new(packed: Packed, settings: Settings) -> Result<Self> {
        let lanes = settings.voices;
        Self::with_room(packed, settings, lanes)
    }

    /// A silent player with room for `lanes` voices, so that [`Parameter::Voices`] may raise the limit.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] naming the setting that is out of range.
    pub fn with_room(packed: Packed, settings: Settings, lanes: usize) -> Result<Self> {
        Self::build(Arc::new(packed), settings, lanes, lanes)
    }

    /// A player of so many voices, for which it has `lanes` of its own.
    fn build(packed: Arc<Packed>, settings: Settings, voices: usize, lanes: usize) -> Result<Self> {
        let conditioner = NoteConditioner::new(packed.config()).map(Arc::new);
        let state = State::new(&packed, lanes);
        Self::of_parts(packed, state, conditioner, Arc::new(Sincs::new()), settings, voices)
    }

    fn of_parts(
        packed: Arc<Packed>,
        state: State,
        conditioner: Option<Arc<NoteConditioner>>,
        sincs: Arc<Sincs>,
        settings: Settings,
        lanes: usize,
    ) -> Result<Self> {
        let config = packed.config().clone();
        settings.validate(&config)?;
        if !(settings.voices..=MAX_VOICES).contains(&lanes) {
            let voices = settings.voices;
            return Err(Error::Unsupported(format!("room for {lanes} voices, where {voices} are")));
        }
        let mulaw = MuLaw::new(config.levels);
        let pitch = match &conditioner {
            Some(conditioner) => Pitch::Told(conditioner.idle_note()),
            None => Pitch::Tape(Tape::new()),
        };
        Ok(Self {
            state,
            ahead: None,
            desk: None,
            sincs,
            shape: settings.shape(config.sample_rate_hz),
            mixer: Mixer::new(settings.gain()),
            voices: vec![Voice::at_rest(pitch, mulaw.silence()); lanes],
            channels: Channels::default(),
            begun: 0,
            begun_of_key: vec![0; channels::COUNT * 129],
            frame: 0,
            order: Vec::with_capacity(lanes),
            owing: Vec::with_capacity(lanes),
            owed: vec![0; lanes],
            codes: Vec::with_capacity(lanes),
            conditioning: vec![0.0; lanes * config.conditioning_channels()],
            logits: vec![0.0; lanes * config.levels],
            mulaw,
            conditioner,
            settings,
            packed,
        })
    }

    /// Lets a second thread share the work: see [`State::start_helper`].
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the system has no thread to give.
    pub fn start_helper(&mut self) -> Result<()> {
        self.state.start_helper(&self.packed)
    }

    /// The model.
    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    /// The model's rate, at which [`Synth::render`] counts frames.
    pub fn sample_rate_hz(&self) -> u32 {
        self.packed.config().sample_rate_hz
    }

    /// Number of voices that sound.
    pub fn sounding(&self) -> usize {
        self.voices.iter().filter(|voice| voice.sounding).count()
    }

    /// Frames rendered so far.
    pub fn frame(&self) -> u64 {
        self.frame
    }

    /// The events that bring another synth's pedals, wheels and programs to where this one's are.
    pub fn controllers(&self) -> impl Iterator<Item = EventKind> + '_ {
        self.channels.events()
    }

    /// Fills `out` with the next frames, mono in [-1, 1]. `events` are those of these frames, in
    /// order; one that is late happens at once, one beyond the block is left out. Real-time safe, except
    /// [`Synth::on_lanes`].
    pub fn render(&mut self, events: &[Event], out: &mut [f32]) {
        match self.desk.take() {
            None => self.render_frames(events, out),
            Some(mut desk) => {
                desk.render(std::slice::from_mut(self), events, &mut [out]);
                self.desk = Some(desk);
            }
        }
    }

    fn render_frames(&mut self, events: &[Event], out: &mut [f32]) {
        let mut events = events.iter().peekable();
        for sample in out {
            while let Some(event) = events.next_if(|event| event.frame <= self.frame) {
                self.apply(event.kind);
            }
            *sample = self.next_sample();
            self.frame += 1;
        }
    }

    fn apply(&mut self, kind: EventKind) {
        let shape = self.shape;
        match kind {
            EventKind::NoteOn { channel, key, velocity: 0 }
            | EventKind::NoteOff { channel, key } => {
                let pedal = self.channels.of(channel).pedal;
                let matches = |voice: &&mut Voice| {
                    voice.is_held()
                        && (voice.channel, voice.key) == (channels::own(channel), key.min(127))
                };
                for voice in self.voices.iter_mut().filter(matches) {
                    if pedal {
                        voice.held_by_pedal = true;
                    } else {
                        voice.envelope.release(&shape);
                    }
                }
            }
            EventKind::NoteOn { channel, key, velocity } => {
                self.begin(channels::own(channel), key.min(127), velocity.min(127));
            }
            EventKind::Choke { channel, key } => {
                for lane in 0..self.voices.len() {
                    let voice = &self.voices[lane];
                    if voice.sounding
                        && (voice.channel, voice.key) == (channels::own(channel), key.min(127))
                    {
                        self.cut(lane);
                    }
                }
            }
            EventKind::Drone => self.begin(0, DRONE, DRONE_VELOCITY),
            EventKind::Pedal { channel, down } => {
                self.channels.of_mut(channel).pedal = down;
                let waits = |voice: &&mut Voice| {
                    voice.held_by_pedal && voice.channel == channels::own(channel)
                };
                for voice in self.voices.iter_mut().filter(waits).filter(|_| !down) {
                    voice.held_by_pedal = false;
                    voice.envelope.release(&shape);
                }
            }
            EventKind::Bend { channel, semitones } => {
                let semitones =
                    if semitones.is_finite() { semitones.clamp(-48.0, 48.0) } else { 0.0 };
                self.channels.of_mut(channel).bend_semitones = semitones;
                for lane in 0..self.voices.len() {
                    if self.voices[lane].sounding
                        && self.voices[lane].channel == channels::own(channel)
                    {
                        self.tune(lane);
                    }
                }
            }
            EventKind::Program { channel, program } => {
                self.channels.of_mut(channel).program = Some(program);
            }
            EventKind::AllNotesOff => {
                self.channels.lift_pedals();
                for voice in self.voices.iter_mut().filter(|voice| voice.sounding) {
                    voice.held_by_pedal = false;
                    voice.envelope.release(&shape);
                }
            }
            EventKind::Reset => {
                self.voices.iter_mut().for_each(|voice| voice.sounding = false);
                self.channels = Channels::default();
                self.begun = 0;
                self.begun_of_key.fill(0);
                self.mixer.reset();
            }
            EventKind::Set(parameter) => {
                let config = self.packed.config();
                if matches!(parameter, Parameter::Class(_)) {
                    self.channels.forget_programs();
                }
                self.settings.set(parameter, config);
                self.shape = self.settings.shape(config.sample_rate_hz);
                let is_silent = self.sounding() == 0;
                self.mixer.set_gain(self.settings.gain(), is_silent);
            }
        }
    }

    fn begin(&mut self, channel: u8, key: u8, velocity: u8) {
        // A string struck again: its note before ends, even where the pedal holds it.
        let shape = self.shape;
        let same =
            |voice: &&mut Voice| voice.sounding && (voice.channel, voice.key) == (channel, key);
        for voice in self.voices.iter_mut().filter(same) {
            voice.held_by_pedal = false;
            voice.envelope.release(&shape);
        }
        // The limit may have been lowered: room for one more below it.
        while self.sounding() >= self.settings.voices.min(self.voices.len()) {
            let sounding = (0..self.voices.len()).filter(|&lane| self.voices[lane].sounding);
            if let Some(lane) = sounding.min_by_key(|&lane| self.voices[lane].rank()) {
                self.cut(lane);
            }
        }
        let Some(lane) = self.voices.iter().position(|voice| !voice.sounding) else {
            return;
        };
        if self.ahead.is_none() {
            self.state.reset(&self.packed, lane);
        }
        let ordinal = &mut self.begun_of_key[usize::from(channel) * 129 + usize::from(key)];
        let stream = u64::from(*ordinal) << 16 | u64::from(channel) << 8 | u64::from(key);
        *ordinal = ordinal.wrapping_add(1);
        let voice = &mut self.voices[lane];
        voice.sounding = true;
        voice.channel = channel;
        voice.key = key;
        voice.number = self.begun;
        let classes = self.packed.config().classes.len();
        let program = self.channels.of(channel).program.map(usize::from);
        voice.class = program.filter(|&class| class < classes).unwrap_or(self.settings.class);
        voice.draws = Philox::new(self.settings.seed, stream);
        voice.made = 0;
        voice.envelope = Envelope::new();
        voice.held_by_pedal = false;
        voice.velocity_gain = 1.0;
        voice.last_code = self.mulaw.silence();
        voice.last_output = 0.0;
        self.begun += 1;
        let told = if key == DRONE { self.packed.config().root_key } else { key };
        match (&self.conditioner, &mut voice.pitch) {
            (Some(conditioner), Pitch::Told(note)) => {
                conditioner.start(note, voice.class, told, velocity);
                voice.velocity_gain = conditioner.velocity_gain(velocity);
            }
            (_, Pitch::Tape(tape)) => {
                tape.start();
                let share = f32::from(velocity) / 127.0;
                voice.velocity_gain = if key == DRONE { 1.0 } else { share * share };
            }
            (None, Pitch::Told(_)) => {}
        }
        self.tune(lane);
    }

    /// Ends a voice now; what it last sounded fades, so that it does not click.
    fn cut(&mut self, lane: usize) {
        let voice = &mut self.voices[lane];
        voice.sounding = false;
        self.mixer.steal(voice.last_output);
    }

    /// Sets a voice's pitch from its key and its channel's bend.
    fn tune(&mut self, lane: usize) {
        let root = self.packed.config().root_key;
        let voice = &mut self.voices[lane];
        let key = if voice.key == DRONE { root } else { voice.key };
        let semitones = f64::from(key) + f64::from(self.channels.of(voice.channel).bend_semitones);
        match (&self.conditioner, &mut voice.pitch) {
            (Some(conditioner), Pitch::Told(note)) => conditioner.tune(note, semitones),
            (_, Pitch::Tape(tape)) => tape.tune(semitones - f64::from(root)),
            (None, Pitch::Told(_)) => {}
        }
    }

    fn next_sample(&mut self) -> f32 {
        let voices = &mut self.voices;
        self.order.clear();
        self.order.extend((0..voices.len()).filter(|&lane| voices[lane].sounding));
        self.order.sort_unstable_by_key(|&lane| voices[lane].number);
        for &lane in &self.order {
            let voice = &mut voices[lane];
            self.owed[lane] = match &mut voice.pitch {
                Pitch::Tape(tape) if voice.key != DRONE => tape.owed(),
                _ => 1,
            };
        }
        if self.ahead.is_some() {
            self.hear_ahead();
        } else {
            while self.step_owing() {}
        }
        self.mix()
    }

    /// One model sample for each voice that owes one; whether there was any.
    fn step_owing(&mut self) -> bool {
        let config = self.packed.config();
        let (h, levels) = (config.conditioning_channels(), config.levels);
        self.owing.clear();
        self.codes.clear();
        for &lane in &self.order {
            let Some(left) = self.owed[lane].checked_sub(1) else {
                continue;
            };
            self.owed[lane] = left;
            let voice = &mut self.voices[lane];
            let start = self.owing.len() * h;
            let (class, local) =
                self.conditioning[start..start + h].split_at_mut(config.class_width());
            class.copy_from_slice(self.packed.class_embedding(voice.class));
            if let (Some(conditioner), Pitch::Told(note)) = (&self.conditioner, &mut voice.pitch) {
                conditioner.advance(note, local);
                voice.finish = note.finish();
            }
            self.owing.push(lane);
            self.codes.push(voice.last_code);
        }
        if self.owing.is_empty() {
            return false;
        }
        self.packed.step(
            &mut self.state,
            &self.owing,
            &self.codes,
            &self.conditioning,
            &mut self.logits,
        );
        for (&lane, logits) in self.owing.iter().zip(self.logits.chunks_exact(levels)) {
            let voice = &mut self.voices[lane];
            let draw = voice.draws.draw(voice.made);
            voice.last_code = self.packed.pick(logits, self.settings.sampling, draw);
            voice.made += 1;
            if let Pitch::Tape(tape) = &mut voice.pitch {
                tape.push(self.mulaw.decode(voice.last_code));
            }
        }
        true
    }

    /// Adds the voices up, in the order in which they began.
    fn mix(&mut self) -> f32 {
        let mut sum = self.mixer.rest();
        for &lane in &self.order {
            let voice = &mut self.voices[lane];
            let sample = match &voice.pitch {
                Pitch::Tape(tape) if voice.key != DRONE => tape.read(&self.sincs),
                _ => voice.finish.sample(self.mulaw.decode(voice.last_code)),
            };
            let level = voice.envelope.advance(&self.shape);
            voice.last_output = sample * voice.velocity_gain * level;
            voice.sounding = !voice.envelope.is_over();
            sum += voice.last_output;
        }
        self.mixer.finish(sum)
    }
}

#[cfg(test)]
mod tests;
