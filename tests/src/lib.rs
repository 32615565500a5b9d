//! Helpers shared by the cross-crate tests: lively random models, and what they are fed; and
//! the watch over threads that must neither allocate nor call the system.

pub mod counting;
pub mod system_calls;

pub mod host;

use wavenet_engine::renderer::Renderer;
use wavenet_engine::synth::{Settings, Synth};
use wavenet_engine::{Config, Isa, MuLaw, Packed, Philox, State, Weights};

/// A shape so small that it is made and played in no time; it knows no notes.
pub fn tiny_config() -> Config {
    Config {
        residual_channels: 8,
        gate_channels: 8,
        skip_channels: 16,
        end_channels: 16,
        dilations: vec![1, 2, 4, 8],
        ..Config::default()
    }
}

/// Random numbers in [-1, 1), the same in every run.
pub fn noise(seed: u64, len: usize) -> Vec<f32> {
    let draws = Philox::new(seed, 0x6e6f_6973_6500);
    (0..len as u64).map(|index| draws.uniform(index) * 2.0 - 1.0).collect()
}

/// Random codes of a model.
pub fn random_codes(config: &Config, seed: u64, frames: usize) -> Vec<u8> {
    let draws = Philox::new(seed, 0x636f_6465_7300);
    (0..frames as u64).map(|t| (draws.draw(t) % config.levels as u32) as u8).collect()
}

/// Random conditioning vectors. Shape: `[frames][H]`.
pub fn random_conditioning(config: &Config, seed: u64, frames: usize) -> Vec<f32> {
    noise(seed ^ 0x68, frames * config.conditioning_channels())
}

/// A random model on which a test can fail: no bias is zero, and its logits spread by 3 nats, as a
/// trained model's do (those of fresh weights spread by some 0.1, and everything agrees on them).
pub fn lively_weights(config: Config, seed: u64) -> Weights {
    let mut weights = Weights::random(config, seed).expect("a valid config");
    let specs = weights.layout().specs.clone();
    for (index, spec) in specs.iter().enumerate().filter(|(_, spec)| spec.name.ends_with(".bias")) {
        let values = &mut weights.values_mut()[spec.range.clone()];
        for (value, noise) in values.iter_mut().zip(noise(seed + index as u64, spec.shape[0])) {
            *value = 0.3 * noise;
        }
    }
    let codes = random_codes(weights.config(), seed, 200);
    let conditioning = random_conditioning(weights.config(), seed, 200);
    let logits = step_by_step(&pack(&weights), &codes, &conditioning);
    let factor = 3.0 / standard_deviation(&logits);
    let (weight, bias) = (weights.layout().end2.weight.clone(), weights.layout().end2.bias.clone());
    for value in &mut weights.values_mut()[weight.start.min(bias.start)..weight.end.max(bias.end)] {
        *value *= factor;
    }
    weights
}

/// The model ready to run in its own type, as players run it.
pub fn pack(weights: &Weights) -> Packed {
    let dtype = weights.config().default_dtype;
    Packed::new(weights, dtype, Isa::Auto).expect("every type runs everywhere")
}

/// A lively model, ready to be played at a rate.
pub fn live_renderer(config: Config, rate_hz: u32) -> Renderer {
    let synth = Synth::new(pack(&lively_weights(config, 4)), Settings::default());
    Renderer::new(synth.expect("default settings"), rate_hz).expect("a common rate")
}

/// The logits of a clip, one lane stepped through it from the start state. Shape: `[T][levels]`.
pub fn step_by_step(packed: &Packed, codes: &[u8], conditioning: &[f32]) -> Vec<f32> {
    let (h, levels) = (packed.config().conditioning_channels(), packed.config().levels);
    let mut state = State::new(packed, 1);
    let mut logits = vec![0.0; codes.len() * levels];
    for (t, (&code, logits)) in codes.iter().zip(logits.chunks_exact_mut(levels)).enumerate() {
        packed.step(&mut state, &[0], &[code], &conditioning[t * h..(t + 1) * h], logits);
    }
    logits
}

/// The codes that were heard by each step when those of the result were generated: silence first.
pub fn heard(config: &Config, generated: &[u8]) -> Vec<u8> {
    let silence = MuLaw::new(config.levels).silence();
    let before = &generated[..generated.len().saturating_sub(1)];
    std::iter::once(silence).chain(before.iter().copied()).collect()
}

/// Of all values around their mean.
pub fn standard_deviation(values: &[f32]) -> f32 {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    (values.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>() / values.len() as f32)
        .sqrt()
}
