//! Voices whose codes are made elsewhere, many at a time: on a GPU, or together with other synths' voices.
//!
//! What a voice asks of its model depends on no sound: not how long it lasts, nor how many samples it
//! owes a frame, nor what it is told. So the samples of all frames up to the next event are ordered at
//! once ([`Synth::order`]), made by some [`Lanes`], and then mixed as ever.

use std::collections::VecDeque;
use std::sync::Arc;

use super::voice::{Pitch, Voice};
use super::{DRONE, Event, MAX_VOICES, Settings, Synth};
use crate::conditioning::Finish;
use crate::crew::{in_shares, share_of};
use crate::cuda::{Lanes, Order};
use crate::error::Result;
use crate::kernels::{Packed, State};

/// Frames that are ordered at once, where no event comes between.
const RUN: usize = 256;
/// Synths that a thread plans and mixes at least.
const FEWEST_SYNTHS: usize = 16;

/// Codes that were made and not yet mixed.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Shape: `[voices]`
    codes: Vec<VecDeque<u8>>,
    /// What becomes of each, where the model is told the note. Shape: `[voices]`
    finishes: Vec<VecDeque<Finish>>,
    /// Which lanes were asked for how many.
    asked: Vec<(usize, usize)>,
}

impl Ahead {
    fn new(voices: usize) -> Self {
        Self {
            codes: vec![VecDeque::new(); voices],
            finishes: vec![VecDeque::new(); voices],
            asked: Vec::new(),
        }
    }

    /// The next code of a voice. It was ordered; silence would be heard if it was not.
    pub(super) fn next(&mut self, lane: usize, silence: u8) -> u8 {
        let code = self.codes[lane].pop_front();
        debug_assert!(code.is_some(), "a sample that was not ordered");
        code.unwrap_or(silence)
    }
}

/// Lanes, and what is needed to order from them.
#[derive(Debug)]
pub(super) struct Desk {
    lanes: Lanes,
    orders: Vec<Order>,
    conditioning: Vec<f32>,
    codes: Vec<u8>,
}

impl Desk {
    fn new(lanes: Lanes) -> Self {
        Self { lanes, orders: Vec::new(), conditioning: Vec::new(), codes: Vec::new() }
    }

    /// Renders synths that hear the same events, each into its row of `out`.
    pub(super) fn render<Row: AsMut<[f32]>>(
        &mut self,
        synths: &mut [Synth],
        events: &[Event],
        out: &mut [Row],
    ) {
        let frames = out.iter_mut().map(|row| row.as_mut().len()).min().unwrap_or(0);
        let start = synths.first().map_or(0, Synth::frame);
        let mut begun = 0;
        let mut events = events;
        while begun < frames {
            let now = start + begun as u64;
            let due = events.iter().take_while(|event| event.frame <= now).count();
            let (happening, later) = events.split_at(due);
            events = later;
            let next = later.first().map_or(usize::MAX, |event| (event.frame - now) as usize);
            let run = (frames - begun).min(RUN).min(next);
            for synth in synths.iter_mut() {
                happening.iter().for_each(|event| synth.apply(event.kind));
            }
            self.make(synths, run);
            let rows = out.iter_mut().map(|row| &mut row.as_mut()[begun..begun + run]);
            let mut mixed: Vec<_> = synths.iter_mut().zip(rows).collect();
            let share = share_of(mixed.len(), FEWEST_SYNTHS);
            in_shares(&mut mixed, share, |_, mixed| {
                mixed.iter_mut().for_each(|(synth, row)| synth.render_frames(&[], row));
            });
            begun += run;
        }
    }

    /// Makes the codes of all synths' next frames.
    fn make(&mut self, synths: &mut [Synth], frames: usize) {
        self.orders.clear();
        let (mut first_lane, mut rows) = (0, Vec::with_capacity(synths.len()));
        for synth in synths.iter_mut() {
            rows.push(synth.order(frames, first_lane, &mut self.orders));
            first_lane += synth.voices.len();
        }
        let h = self.lanes.packed().config().conditioning_channels();
        self.conditioning.resize(rows.iter().sum::<usize>() * h, 0.0);
        let mut left = &mut self.conditioning[..];
        let mut told = Vec::with_capacity(synths.len());
        for (synth, rows) in synths.iter_mut().zip(rows) {
            told.push((synth, left.split_off_mut(..rows * h).unwrap_or_default()));
        }
        let share = share_of(told.len(), FEWEST_SYNTHS);
        in_shares(&mut told, share, |_, told| {
            told.iter_mut().for_each(|(synth, vectors)| synth.tell(vectors));
        });
        self.codes.resize(self.orders.iter().map(|order| order.count).sum(), 0);
        self.lanes.run(&self.orders, &self.conditioning, &mut self.codes);
        let mut codes = &self.codes[..];
        for synth in synths {
            codes = synth.take(codes);
        }
    }
}

/// Synths of one model whose voices share lanes: the same events, each with settings of its own. What each
/// plays is what it would play alone.
#[derive(Debug)]
pub struct Band {
    desk: Desk,
    synths: Vec<Synth>,
}

impl Band {
    /// Synths with these settings; `lanes` has as many lanes as all of them have voices.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] naming the setting that is out of range.
    pub fn new(lanes: Lanes, settings: &[Settings]) -> Result<Self> {
        let mut synths: Vec<Synth> = Vec::with_capacity(settings.len());
        for settings in settings {
            let synth = match synths.first() {
                None => {
                    let voices = settings.voices.min(MAX_VOICES);
                    Synth::without_lanes(lanes.packed().clone(), settings.clone(), voices)?
                }
                Some(first) => first.sibling(settings.clone())?,
            };
            synths.push(synth);
        }
        Ok(Self { desk: Desk::new(lanes), synths })
    }

    /// Number of synths.
    pub fn len(&self) -> usize {
        self.synths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.synths.is_empty()
    }

    /// Where the codes are made.
    pub fn lanes(&self) -> &Lanes {
        &self.desk.lanes
    }

    /// Fills each synth's row of `out`, shape `[synths][frames]`, as [`Synth::render`] does. Not real-time
    /// safe.
    pub fn render(&mut self, events: &[Event], out: &mut [Vec<f32>]) {
        self.desk.render(&mut self.synths, events, out);
    }
}

impl Synth {
    /// A silent player whose voices are all the lanes of `lanes`, which may lie on a GPU. Its
    /// [`Synth::render`] waits for them and is not real-time safe.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] naming the setting that is out of range.
    pub fn on_lanes(lanes: Lanes, settings: Settings) -> Result<Self> {
        let voices = lanes.count().min(MAX_VOICES);
        let mut synth = Self::without_lanes(lanes.packed().clone(), settings, voices)?;
        synth.desk = Some(Box::new(Desk::new(lanes)));
        Ok(synth)
    }

    /// Why the GPU was given up, if it was.
    pub fn loss(&self) -> Option<&str> {
        self.desk.as_ref()?.lanes.loss()
    }

    /// A silent player whose voices are lanes of somebody else.
    fn without_lanes(packed: Arc<Packed>, settings: Settings, voices: usize) -> Result<Self> {
        let mut synth = Self::build(packed, settings, voices, 0)?;
        synth.ahead = Some(Box::new(Ahead::new(voices)));
        Ok(synth)
    }

    /// Another player of the same model with settings of its own, which shares what does not change.
    fn sibling(&self, settings: Settings) -> Result<Self> {
        let (packed, voices) = (self.packed.clone(), settings.voices.min(MAX_VOICES));
        let (state, sincs) = (State::new(&packed, 0), self.sincs.clone());
        let conditioner = self.conditioner.clone();
        let mut synth = Self::of_parts(packed, state, conditioner, sincs, settings, voices)?;
        synth.ahead = Some(Box::new(Ahead::new(voices)));
        Ok(synth)
    }

    /// Brings every voice to the codes that this frame owes.
    pub(super) fn hear_ahead(&mut self) {
        let Some(ahead) = &mut self.ahead else { return };
        for &lane in &self.order {
            let voice = &mut self.voices[lane];
            for _ in 0..std::mem::take(&mut self.owed[lane]) {
                voice.last_code = ahead.next(lane, self.mulaw.silence());
                voice.finish = ahead.finishes[lane].pop_front().unwrap_or(voice.finish);
                voice.made += 1;
                if let Pitch::Tape(tape) = &mut voice.pitch {
                    tape.push(self.mulaw.decode(voice.last_code));
                }
            }
        }
    }

    /// Orders the samples of the next frames, in which nothing happens; returns how many vectors they need: one a
    /// sample, or one an order where they never change.
    fn order(&mut self, frames: usize, first_lane: usize, orders: &mut Vec<Order>) -> usize {
        let Some(ahead) = &mut self.ahead else { return 0 };
        let is_constant = self.packed.config().local_channels() == 0;
        let mut rows = 0;
        ahead.asked.clear();
        for (lane, voice) in self.voices.iter().enumerate().filter(|(_, v)| v.sounding) {
            let count = owed(voice, frames, &self.shape);
            if count == 0 {
                continue;
            }
            ahead.asked.push((lane, count));
            rows += if is_constant { 1 } else { count };
            orders.push(Order {
                lane: first_lane + lane,
                made: voice.made,
                code: voice.last_code,
                draws: voice.draws,
                sampling: self.settings.sampling,
                count,
            });
        }
        rows
    }

    /// Writes the vectors of what was ordered last. Shape: `[rows][H]`.
    fn tell(&mut self, vectors: &mut [f32]) {
        let Some(ahead) = &mut self.ahead else { return };
        let config = self.packed.config();
        let (h, is_constant) = (config.conditioning_channels(), config.local_channels() == 0);
        if h == 0 {
            return;
        }
        let mut rows = vectors.chunks_exact_mut(h);
        for &(lane, count) in &ahead.asked {
            let voice = &mut self.voices[lane];
            ahead.finishes[lane].clear();
            let class = self.packed.class_embedding(voice.class);
            for row in rows.by_ref().take(if is_constant { 1 } else { count }) {
                let (head, local) = row.split_at_mut(class.len());
                head.copy_from_slice(class);
                local.fill(0.0);
                if let (Some(conditioner), Pitch::Told(note)) =
                    (&self.conditioner, &mut voice.pitch)
                {
                    conditioner.advance(note, local);
                    ahead.finishes[lane].push_back(note.finish());
                }
            }
        }
    }

    /// Takes the codes that were ordered last, and returns those of others.
    fn take<'a>(&mut self, mut codes: &'a [u8]) -> &'a [u8] {
        let Some(ahead) = &mut self.ahead else { return codes };
        for &(lane, count) in &ahead.asked {
            let made = codes.split_off(..count).unwrap_or_default();
            ahead.codes[lane].clear();
            ahead.codes[lane].extend(made);
        }
        codes
    }
}

/// Samples that a voice owes within some frames.
fn owed(voice: &Voice, frames: usize, shape: &super::Shape) -> usize {
    let mut envelope = voice.envelope;
    let mut tape = match &voice.pitch {
        Pitch::Tape(tape) if voice.key != DRONE => Some(tape.clone()),
        _ => None,
    };
    let mut count = 0;
    for _ in 0..frames {
        count += tape.as_mut().map_or(1, |tape| tape.owed() as usize);
        envelope.advance(shape);
        if envelope.is_over() {
            break;
        }
    }
    count
}
