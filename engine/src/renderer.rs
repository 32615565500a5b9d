//! From events at the listener's frames to the listener's frames: a synth and its resampler, without
//! threads. `wavenet render` and the generator thread of [`crate::stream`] both run this, so what is
//! bounced is what is played.
//!
//! Output frame n lies at model position `n M / L` (see [`crate::resample`]); an event at frame f
//! happens at the first model frame at or after its place. The resampler needs to see a little ahead,
//! so frame n can be made once the events up to `n + lookahead_frames()` are known.

use std::collections::VecDeque;

use crate::error::Result;
use crate::resample::Resampler;
use crate::synth::{Event, EventKind, Synth};

/// Events waiting for their frame; more are dropped and counted.
const MAX_WAITING: usize = 65_536;
/// Model frames made at a time.
const CHUNK: usize = 256;

/// Plays one synth at one rate.
#[derive(Debug)]
pub struct Renderer {
    synth: Synth,
    resampler: Resampler,
    rate_hz: u32,
    /// At output frames, in order.
    waiting: VecDeque<Event>,
    /// What happens at the next frame, before what waits.
    at_once: VecDeque<EventKind>,
    dropped: u64,
    /// Output that was decided along with what was asked for.
    ready: VecDeque<f32>,
    now: Vec<Event>,
    made: Vec<f32>,
    converted: Vec<f32>,
}

impl Renderer {
    /// A renderer at a rate in Hz.
    ///
    /// # Errors
    /// As [`Resampler::new`].
    pub fn new(synth: Synth, rate_hz: u32) -> Result<Self> {
        let resampler = Resampler::new(synth.sample_rate_hz(), rate_hz)?;
        Ok(Self {
            synth,
            resampler,
            rate_hz,
            waiting: VecDeque::with_capacity(1024),
            at_once: VecDeque::with_capacity(64),
            dropped: 0,
            ready: VecDeque::with_capacity(1024),
            now: Vec::with_capacity(64),
            made: vec![0.0; CHUNK],
            converted: Vec::with_capacity(4096),
        })
    }

    /// The synth.
    pub fn synth(&self) -> &Synth {
        &self.synth
    }

    /// Rate of the output.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Output frames by which events must be known ahead.
    pub fn lookahead_frames(&self) -> u64 {
        self.resampler.lookahead_frames()
    }

    /// Events that were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes an event at an output frame. Events come in order of time; one that does not happens
    /// along with the one that came before it.
    pub fn push(&mut self, event: Event) {
        if self.waiting.len() < MAX_WAITING {
            let earliest = self.waiting.back().map_or(0, |before| before.frame);
            self.waiting.push_back(Event { frame: event.frame.max(earliest), ..event });
        } else {
            self.dropped += 1;
        }
    }

    /// Takes an event that happens as soon as it can: in the order in which they come, before those
    /// that wait.
    pub fn push_now(&mut self, kind: EventKind) {
        if self.at_once.len() < MAX_WAITING {
            self.at_once.push_back(kind);
        } else {
            self.dropped += 1;
        }
    }

    /// Gives up the events that still wait, and tells how the channels' pedals and wheels stand: what
    /// another renderer needs to go on in this one's place.
    pub fn hand_over(&mut self) -> (VecDeque<EventKind>, VecDeque<Event>) {
        let mut at_once: VecDeque<EventKind> = self.synth.controllers().collect();
        at_once.append(&mut self.at_once);
        (at_once, std::mem::take(&mut self.waiting))
    }

    /// Makes the next output frames. Every event before them must have been pushed, and those
    /// within the look-ahead after them should be.
    pub fn render(&mut self, out: &mut [f32]) {
        let mut filled = 0;
        loop {
            while filled < out.len() {
                let Some(sample) = self.ready.pop_front() else { break };
                out[filled] = sample.clamp(-1.0, 1.0);
                filled += 1;
            }
            if filled == out.len() {
                return;
            }
            let needed = self.resampler.frames_needed(out.len() - filled).min(CHUNK as u64);
            let frames = self.gather(needed) as usize;
            let made = &mut self.made[..frames];
            self.synth.render(&self.now, made);
            self.converted.clear();
            self.resampler.process(made, &mut self.converted);
            self.ready.extend(&self.converted);
        }
    }

    /// Collects the events of the next model frames, at most `frames` of them, and returns how many.
    /// A reset begins a chunk of its own, for which the resampler forgets what was before.
    fn gather(&mut self, frames: u64) -> u64 {
        let start = self.synth.frame();
        let mut end = start + frames;
        let model_frame = |event: &Event| self.resampler.input_frame(event.frame);
        // The events before a reset at its very frame belong to its chunk.
        let due = self.waiting.iter().map(|event| (model_frame(event), event.kind));
        let mut due = due.take_while(|&(frame, _)| frame < end);
        if let Some((frame, _)) =
            due.find(|&(frame, kind)| kind == EventKind::Reset && frame > start)
        {
            end = frame;
        }
        self.now.clear();
        for kind in self.at_once.drain(..) {
            self.now.push(Event { frame: start, kind });
        }
        while let Some(event) = self.waiting.pop_front_if(|event| model_frame(event) < end) {
            self.now.push(Event { frame: model_frame(&event), kind: event.kind });
        }
        if self.now.iter().any(|event| event.kind == EventKind::Reset) {
            self.resampler.forget();
        }
        end - start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Dtype};
    use crate::kernels::{Isa, Packed};
    use crate::synth::{Parameter, Settings};
    use crate::weights::Weights;

    fn renderer(rate_hz: u32) -> Renderer {
        let weights = Weights::random(Config::tiny(), 3).unwrap();
        let packed = Packed::new(&weights, Dtype::F32, Isa::Auto).unwrap();
        Renderer::new(Synth::new(packed, Settings::default()).unwrap(), rate_hz).unwrap()
    }

    fn events(rate_hz: u32) -> Vec<Event> {
        let at = |ms: u32, kind| Event { frame: u64::from(ms * (rate_hz / 100)) / 10, kind };
        let on = |key| EventKind::NoteOn { channel: 0, key, velocity: 100 };
        let off = |key| EventKind::NoteOff { channel: 0, key };
        vec![at(20, on(60)), at(45, on(67)), at(90, off(60)), at(120, on(72)), at(150, off(67))]
    }

    #[test]
    fn block_size_changes_nothing_whenever_events_come() {
        for rate in [16_000, 44_100, 48_000] {
            let mut expected = vec![0.0; rate as usize / 4];
            let mut whole = renderer(rate);
            events(rate).into_iter().for_each(|event| whole.push(event));
            whole.render(&mut expected);
            for block in [1, 64, 333, 4096] {
                let mut live = renderer(rate);
                let mut coming = VecDeque::from(events(rate));
                let lookahead = live.lookahead_frames();
                let mut out = vec![0.0; expected.len()];
                let mut start = 0;
                for out in out.chunks_mut(block) {
                    let known = start + out.len() as u64 + lookahead;
                    while let Some(event) = coming.pop_front_if(|event| event.frame < known) {
                        live.push(event);
                    }
                    live.render(out);
                    start += out.len() as u64;
                }
                assert!(out == expected, "{rate} Hz, block {block}");
            }
        }
    }

    #[test]
    fn what_comes_right_before_a_reset_is_not_lost() {
        // Three frames of the listener are one of the model.
        for (set, reset) in [(300, 300), (299, 300), (301, 299)] {
            let mut heard = [1, 1_000].map(|block| {
                let mut renderer = renderer(48_000);
                let kind = EventKind::Set(Parameter::GainDb(-120.0));
                renderer.push(Event { frame: set, kind });
                renderer.push(Event { frame: reset, kind: EventKind::Reset });
                renderer.push(Event { frame: 10_000, kind: EventKind::Drone });
                let mut out = vec![0.0; 12_000];
                out.chunks_mut(block).for_each(|block| renderer.render(block));
                out
            });
            let last = heard.each_mut().map(|out| out.split_off(11_000));
            assert!(last[0] == last[1]);
            assert!(last[0].iter().all(|x| x.abs() < 1e-4), "the gain was not set");
            assert!(last[0].iter().any(|x| *x != 0.0));
        }
    }

    #[test]
    fn an_onset_is_heard_at_its_frame() {
        let rate = 48_000;
        let mut live = renderer(rate);
        let kind = EventKind::NoteOn { channel: 0, key: 60, velocity: 127 };
        live.push(Event { frame: 24_001, kind });
        let mut out = vec![0.0; 26_000];
        live.render(&mut out);
        let onset = out.iter().position(|x| x.abs() > 1e-3).unwrap();
        // One sample of the model is three frames. The tape's interpolator adds half its length, and
        // the resampler rings a little ahead.
        let expected = 24_001 + 16 * 3;
        assert!(onset.abs_diff(expected) <= 64, "{onset}");
        assert!(out[..24_001 - 96].iter().all(|&x| x == 0.0));
    }
}
