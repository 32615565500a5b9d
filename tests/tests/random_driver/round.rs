//! One round: a stream is started, played and ended, and what came out is looked at.

use std::time::Duration;

use wavenet_engine::renderer::Renderer;
use wavenet_engine::stream::{Controls, Status, start};
use wavenet_engine::synth::{Event, EventKind, MAX_VOICES, Settings, Synth};
use wavenet_engine::{Config, NoteRecipe, Recipe, Result, Weights};
use wavenet_tests::{lively_weights, pack, tiny_config};

use super::audio::{Performance, StrictThread};
use super::plan::{Action, Dice, Drive, Plan, Score, plan};

/// What is played: the built-in instruments, and tiny models of every kind.
pub(crate) struct Models(Vec<Weights>);

impl Models {
    pub(crate) fn new() -> Self {
        let classes = || vec!["bow".into(), "pluck".into()];
        let conditioning = Recipe::Note(NoteRecipe { partials: 6, ..NoteRecipe::default() });
        let keyed = Config { conditioning, classes: classes(), ..tiny_config() };
        let slow = Config { sample_rate_hz: 8_000, classes: classes(), ..tiny_config() };
        let fast = Config { sample_rate_hz: 22_050, kernel_size: 3, ..keyed.clone() };
        let tiny = [tiny_config(), keyed, slow, fast].map(|config| lively_weights(config, 8));
        let piano = wavenet_models::INSTRUMENTS.weights().expect("the built-in model");
        Self([piano].into_iter().chain(tiny).collect())
    }

    fn renderer(&self, model: usize, voices: usize, seed: u64, rate_hz: u32) -> Result<Renderer> {
        let settings = Settings { voices, seed, ..Settings::default() };
        // Room for more than are allowed now.
        let room = (settings.voices + 8).min(MAX_VOICES);
        Renderer::new(Synth::with_room(pack(&self.0[model]), settings, room)?, rate_hz)
    }
}

/// Plays a round, and fails where something is wrong with it. Whether there was sound.
pub(crate) fn play(models: &Models, strict: &StrictThread, seed: u64, round: u64) -> bool {
    let mut plan = plan(seed, round, models.0.len());
    let renderer = |plan: &Plan| models.renderer(plan.model, plan.voices, plan.seed, plan.rate_hz);
    // A rate too odd for the model is refused.
    let first = renderer(&plan).or_else(|_| {
        plan.rate_hz = 48_000;
        renderer(&plan)
    });
    let first = first.expect("a common rate");
    let lookahead_frames = first.lookahead_frames();
    let (player, controls) = start(first, plan.options).expect("sizes in range");
    let latency = player.latency_frames();
    let score = std::mem::take(&mut plan.score);

    let under_way = strict.begin(Performance::new(player, plan.drive, plan.rate_hz, score));
    let before = controls.status();
    let mut desk = Desk { models, rate_hz: plan.rate_hz, lookahead_frames, controls, before };
    let leaves = plan.actions.iter().any(|action| !desk.act(action));
    let mut desk = (!leaves).then_some(desk);
    let Performance { player, score, out, allocations, .. } = under_way.end();

    let what = format!("round {round}, {:?}", plan.drive);
    assert_eq!(allocations, 0, "{what}: the audio thread allocated");
    if let Some(frame) = out.iter().position(|x| !x.is_finite() || x.abs() > 1.0) {
        panic!("{what}: {} at frame {frame}", out[frame]);
    }
    if let Some(desk) = &mut desk {
        let status = desk.status();
        let waits = matches!(plan.drive, Drive::Offline | Drive::Bounce);
        assert!(!waits || status.missing_frames == 0, "{what}: it did not wait, {status:?}");
    }
    if plan.drive == Drive::Bounce {
        let mut blocks = Dice::new(seed, !round);
        let bounced = bounce(&score, renderer(&plan).expect("as before"), latency, &mut blocks);
        let differ = out.iter().zip(&bounced).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(differ, None, "{what}: the first frame that differs from the bounce");
    }
    if plan.player_goes_first {
        drop(player);
        desk.as_mut().map(Desk::status);
        drop(desk);
    } else {
        drop(desk);
        drop(player);
    }
    out.iter().any(|&x| x != 0.0)
}

/// The control side.
struct Desk<'a> {
    models: &'a Models,
    rate_hz: u32,
    lookahead_frames: u64,
    controls: Controls,
    before: Status,
}

impl Desk<'_> {
    /// Whether it stays.
    fn act(&mut self, action: &Action) -> bool {
        match *action {
            Action::Rest { us } => std::thread::sleep(Duration::from_micros(us.into())),
            // Where the generator does not keep up it says so: nothing to check.
            Action::Send(kind) => drop(self.controls.send(kind)),
            Action::Status => drop(self.status()),
            Action::Load { model, voices, rate_hz } => {
                let Ok(renderer) = self.models.renderer(model, voices, 1, rate_hz) else {
                    return true;
                };
                let suits =
                    rate_hz == self.rate_hz && renderer.lookahead_frames() <= self.lookahead_frames;
                assert_eq!(self.controls.load(renderer).is_ok(), suits);
            }
            Action::Leave => return false,
        }
        true
    }

    /// The status; what is counted never falls.
    fn status(&mut self) -> Status {
        let (before, now) = (self.before, self.controls.status());
        assert!(!now.dead && now.load >= 0.0, "{now:?}");
        let counts =
            |status: Status| [status.underruns, status.missing_frames, status.dropped_events];
        let fell = counts(before).into_iter().zip(counts(now)).any(|(before, now)| now < before);
        assert!(!fell, "{before:?}, then {now:?}");
        self.before = now;
        now
    }
}

/// What a player must give for a score: the frames of a renderer without threads, in other blocks,
/// one latency later, less those that a reset silences.
fn bounce(score: &Score, mut renderer: Renderer, latency: usize, dice: &mut Dice) -> Vec<f32> {
    let frames = score.calls.iter().map(|call| call.frames).sum();
    let mut silent = vec![false; latency + frames];
    silent[..latency].fill(true);
    let (mut frame, mut fresh) = (0, true);
    for call in &score.calls {
        if call.resets > 0 && !fresh {
            renderer.push(Event { frame: frame as u64, kind: EventKind::Reset });
            silent[frame..frame + latency].fill(true);
        }
        fresh = false;
        for event in &score.events[call.events.clone()] {
            renderer.push(Event { frame: frame as u64 + event.frame, kind: event.kind });
        }
        frame += call.frames;
    }
    let mut out = vec![0.0; latency + frames];
    let mut rest = &mut out[latency..];
    while !rest.is_empty() {
        let block;
        (block, rest) = rest.split_at_mut((1 + dice.below(1_000)).min(rest.len()));
        renderer.render(block);
    }
    out.truncate(frames);
    for (sample, _) in out.iter_mut().zip(silent).filter(|(_, silent)| *silent) {
        *sample = 0.0;
    }
    out
}
