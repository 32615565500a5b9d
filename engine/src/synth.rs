//! Voices: from note events to samples at the model's rate.
//!
//! A note is a pure function: its samples depend on the model, the settings, its channel, key and
//! velocity, its ordinal (how many notes of that key came before it) and nothing else. Draws are
//! keyed by those and by the sample's index, so block size and neighbours change nothing. All
//! sounding voices step together and are mixed in the order in which they began.

use crate::conditioning::{NoteConditioner, NoteState};
use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::kernels::{Packed, State};
use crate::mulaw::MuLaw;
use crate::sampling::{Philox, Sampling};

/// The most voices of one synth.
pub const MAX_VOICES: usize = 64;

/// What a player may set.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How codes are chosen.
    pub sampling: Sampling,
    /// Key of all draws.
    pub seed: u64,
    /// Index of the sounding class, for models that have classes.
    pub class: usize,
    /// Notes that can sound at once, 1 to 64; one more takes the place of the oldest.
    pub voices: usize,
    /// Fade after note-off.
    pub release_ms: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sampling: Sampling::default(), seed: 1, class: 0, voices: 8, release_ms: 150.0 }
    }
}

/// Something that happens at a frame of the model's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Frame since the start, at the model's rate.
    pub frame: u64,
    /// What happens.
    pub kind: EventKind,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A key goes down.
    NoteOn {
        /// MIDI key, 69 = A4.
        key: u8,
        /// 1 to 127.
        velocity: u8,
    },
    /// A key goes up: every voice of it fades.
    NoteOff {
        /// MIDI key.
        key: u8,
    },
    /// A voice that needs no note begins to sound and goes on (models without note conditioning).
    Drone,
}

/// One lane's note.
#[derive(Debug, Clone)]
struct Voice {
    sounding: bool,
    key: u8,
    /// Number of the note since reset: the order of mixing and of stealing.
    number: u64,
    draws: Philox,
    /// Samples made so far.
    age: u64,
    /// Samples of release still to come; `None` while the key is held.
    release: Option<u32>,
    gain: f32,
    last_code: u8,
    note: Option<NoteState>,
}

/// A polyphonic player of one model. Building it may fail; [`Synth::render`] is real-time safe.
#[derive(Debug)]
pub struct Synth {
    packed: Packed,
    state: State,
    mulaw: MuLaw,
    conditioner: Option<NoteConditioner>,
    settings: Settings,
    release_frames: u32,
    voices: Vec<Voice>,
    /// Notes begun since reset, in all and of each key.
    begun: u64,
    begun_of_key: [u32; 129],
    frame: u64,
    // Buffers of one step, `[voices]` times what the name says.
    lanes: Vec<usize>,
    codes: Vec<u8>,
    conditioning: Vec<f32>,
    logits: Vec<f32>,
}

/// Where drones count their ordinals, beside the 128 keys.
const DRONE: u8 = 128;

impl Synth {
    /// A silent player.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the setting that is out of range.
    pub fn new(packed: Packed, settings: Settings) -> Result<Self> {
        let wrong = |what: String| Err(Error::Unsupported(what));
        let config = packed.config().clone();
        if !(1..=MAX_VOICES).contains(&settings.voices) {
            return wrong(format!("{} voices; 1 to {MAX_VOICES}", settings.voices));
        }
        if !(0.0..=10.0).contains(&settings.sampling.temperature) {
            return wrong("a temperature outside 0 to 10".into());
        }
        if !(0.0..=1.0).contains(&settings.sampling.top_p) {
            return wrong("a top-p outside 0 to 1".into());
        }
        if !(0.0..=60_000.0).contains(&settings.release_ms) {
            return wrong("a release outside 0 to 60,000 ms".into());
        }
        if settings.class >= config.classes.len().max(1) {
            return wrong(format!("class number {}", settings.class));
        }
        let lanes = settings.voices;
        let conditioner = NoteConditioner::new(&config);
        let rate = f64::from(config.sample_rate_hz);
        let mulaw = MuLaw::new(config.levels);
        let voice = Voice {
            sounding: false,
            key: 0,
            number: 0,
            draws: Philox::new(0, 0),
            age: 0,
            release: None,
            gain: 1.0,
            last_code: mulaw.silence(),
            note: conditioner.as_ref().map(NoteConditioner::idle_note),
        };
        Ok(Self {
            state: State::new(&packed, lanes),
            mulaw,
            release_frames: (f64::from(settings.release_ms) * rate / 1000.0) as u32,
            voices: vec![voice; lanes],
            begun: 0,
            begun_of_key: [0; 129],
            frame: 0,
            lanes: Vec::with_capacity(lanes),
            codes: Vec::with_capacity(lanes),
            conditioning: vec![0.0; lanes * config.conditioning_channels()],
            logits: vec![0.0; lanes * config.levels],
            conditioner,
            settings,
            packed,
        })
    }

    /// Whether keys mean something to this model.
    pub fn plays_notes(&self) -> bool {
        matches!(self.packed.config().conditioning, Recipe::Note(_))
    }

    /// The model's rate, at which [`Synth::render`] counts frames.
    pub fn sample_rate_hz(&self) -> u32 {
        self.packed.config().sample_rate_hz
    }

    /// Whether any voice sounds.
    pub fn is_sounding(&self) -> bool {
        self.voices.iter().any(|voice| voice.sounding)
    }

    /// Fills `out` with the next frames, mono in [-1, 1]. `events` are those of these frames, in
    /// order; one that is late happens at once, one beyond the block is left out. Real-time safe.
    pub fn render(&mut self, events: &[Event], out: &mut [f32]) {
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
        match kind {
            EventKind::NoteOn { key, velocity: 0 } | EventKind::NoteOff { key } => {
                for voice in self.voices.iter_mut().filter(|v| v.sounding && v.key == key) {
                    voice.release.get_or_insert(self.release_frames);
                }
            }
            EventKind::NoteOn { key, velocity } => self.begin(key.min(127), velocity),
            EventKind::Drone => self.begin(DRONE, 127),
        }
    }

    fn begin(&mut self, key: u8, velocity: u8) {
        // A free lane, else the oldest released note, else the oldest.
        let order = |voice: &Voice| (voice.sounding, voice.release.is_none(), voice.number);
        let Some(lane) = (0..self.voices.len()).min_by_key(|&lane| order(&self.voices[lane]))
        else {
            return;
        };
        let ordinal = &mut self.begun_of_key[usize::from(key)];
        self.state.reset(&self.packed, lane);
        let voice = &mut self.voices[lane];
        voice.sounding = true;
        voice.key = key;
        voice.number = self.begun;
        voice.draws = Philox::new(self.settings.seed, u64::from(*ordinal) << 16 | u64::from(key));
        voice.age = 0;
        voice.release = None;
        voice.gain = 1.0;
        voice.last_code = self.mulaw.silence();
        if let (Some(conditioner), Some(note)) = (&self.conditioner, &mut voice.note) {
            conditioner.start(note, key, velocity);
            voice.gain = conditioner.velocity_gain(velocity);
        }
        *ordinal = ordinal.wrapping_add(1);
        self.begun += 1;
    }

    fn next_sample(&mut self) -> f32 {
        let config = self.packed.config();
        let (h, levels) = (config.conditioning_channels(), config.levels);
        let class_width = config.class_width();
        self.lanes.clear();
        self.codes.clear();
        for (lane, voice) in self.voices.iter_mut().enumerate().filter(|(_, v)| v.sounding) {
            let start = self.lanes.len() * h;
            let (class, local) = self.conditioning[start..start + h].split_at_mut(class_width);
            class.copy_from_slice(self.packed.class_embedding(self.settings.class));
            if let (Some(conditioner), Some(note)) = (&self.conditioner, &mut voice.note) {
                conditioner.advance(note, local);
            }
            self.lanes.push(lane);
            self.codes.push(voice.last_code);
        }
        if self.lanes.is_empty() {
            return 0.0;
        }
        self.packed.step(
            &mut self.state,
            &self.lanes,
            &self.codes,
            &self.conditioning,
            &mut self.logits,
        );
        for (index, &lane) in self.lanes.iter().enumerate() {
            let voice = &mut self.voices[lane];
            let logits = &self.logits[index * levels..(index + 1) * levels];
            let draw = voice.draws.draw(voice.age);
            voice.last_code = self.packed.pick(logits, self.settings.sampling, draw);
            voice.age += 1;
        }
        self.mix()
    }

    /// Adds the voices up, in the order in which they began, and fades the released ones.
    fn mix(&mut self) -> f32 {
        let voices = &self.voices;
        self.lanes.sort_unstable_by_key(|&lane| voices[lane].number);
        let mut sum = 0.0;
        for &lane in &self.lanes {
            let voice = &mut self.voices[lane];
            let fade = match &mut voice.release {
                None => 1.0,
                Some(left) => {
                    *left = left.saturating_sub(1);
                    voice.sounding = *left > 0;
                    let share = *left as f32 / self.release_frames.max(1) as f32;
                    share * share
                }
            };
            sum += self.mulaw.decode(voice.last_code) * voice.gain * fade;
        }
        soft_clip(sum)
    }
}

/// Straight up to 0.9, then bending towards 1 and never beyond: chords may be loud, not broken.
fn soft_clip(x: f32) -> f32 {
    const KNEE: f32 = 0.9;
    let over = x.abs() - KNEE;
    if over <= 0.0 {
        return x;
    }
    // over / (over + room): slope 1 at the knee, limit 1.
    let room = 1.0 - KNEE;
    (KNEE + room * (over / (over + room))).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Dtype, NoteRecipe};
    use crate::kernels::Isa;
    use crate::weights::Weights;

    fn synth(recipe: Recipe, settings: Settings) -> Synth {
        let config = Config {
            residual_channels: 8,
            gate_channels: 8,
            skip_channels: 16,
            end_channels: 16,
            dilations: vec![1, 2, 4, 8],
            conditioning: recipe,
            ..Config::default()
        };
        let weights = Weights::random(config, 3).unwrap();
        Synth::new(Packed::new(&weights, Dtype::F32, Isa::Auto).unwrap(), settings).unwrap()
    }

    fn note_synth(voices: usize) -> Synth {
        let settings = Settings { voices, ..Settings::default() };
        synth(Recipe::Note(NoteRecipe::default()), settings)
    }

    const fn on(frame: u64, key: u8) -> Event {
        Event { frame, kind: EventKind::NoteOn { key, velocity: 90 } }
    }

    const CHORD: [Event; 5] = [
        on(0, 60),
        on(100, 64),
        on(1000, 67),
        Event { frame: 2000, kind: EventKind::NoteOff { key: 60 } },
        on(2500, 60),
    ];

    fn render(mut synth: Synth, frames: usize, block: usize) -> Vec<u32> {
        let mut out = vec![0.0; frames];
        for (index, block_out) in out.chunks_mut(block).enumerate() {
            let start = (index * block) as u64;
            let end = start + block_out.len() as u64;
            let events: Vec<Event> =
                CHORD.iter().filter(|e| (start..end).contains(&e.frame)).copied().collect();
            synth.render(&events, block_out);
        }
        out.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn block_size_and_voice_limit_change_no_sample() {
        let expected = render(note_synth(4), 8_000, 8_000);
        assert!(expected.iter().any(|&bits| bits != 0));
        for block in [1, 64, 333, 4096] {
            assert_eq!(render(note_synth(4), 8_000, block), expected);
        }
        for voices in [5, 8, 64] {
            assert_eq!(render(note_synth(voices), 8_000, 4_000), expected);
        }
    }

    #[test]
    fn a_note_sounds_the_same_alone_and_in_a_chord() {
        let mut alone = note_synth(8);
        let mut first = vec![0.0; 1000];
        alone.render(&CHORD[..1], &mut first);
        let chord = render(note_synth(8), 100, 100);
        let first: Vec<u32> = first[..100].iter().map(|x| x.to_bits()).collect();
        assert_eq!(first, chord);
    }

    #[test]
    fn a_released_note_ends_and_repeats_differ() {
        let mut synth = note_synth(2);
        let off = Event { frame: 400, kind: EventKind::NoteOff { key: 60 } };
        let mut first = vec![0.0; 400 + 2400];
        synth.render(&[CHORD[0], off], &mut first);
        assert!(!synth.is_sounding());
        assert_eq!(first[2799], 0.0);
        let again = Event { frame: 2800, ..CHORD[0] };
        let mut second = vec![0.0; 400];
        synth.render(&[again], &mut second);
        assert_ne!(first[..400], second[..]);
    }

    #[test]
    fn one_voice_too_many_takes_the_oldest() {
        let mut synth = note_synth(1);
        let mut out = vec![0.0; 1100];
        synth.render(&CHORD[..3], &mut out);
        assert_eq!(synth.voices[0].key, 67);
    }

    #[test]
    fn nothing_exceeds_full_scale() {
        for x in [0.0, 0.5, 0.9, 0.95, 1.0, 3.0, 64.0, -64.0, f32::MAX] {
            assert!(soft_clip(x).abs() <= 1.0);
        }
        assert_eq!(soft_clip(-0.7), -0.7);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let build = |settings| {
            let weights = Weights::zeros(Config::default()).unwrap();
            Synth::new(Packed::new(&weights, Dtype::F32, Isa::Auto).unwrap(), settings).map(|_| ())
        };
        assert!(build(Settings { voices: 0, ..Settings::default() }).is_err());
        assert!(build(Settings { class: 1, ..Settings::default() }).is_err());
        let sampling = Sampling { temperature: -1.0, top_p: 1.0 };
        assert!(build(Settings { sampling, ..Settings::default() }).is_err());
    }
}
