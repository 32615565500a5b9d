//! The card's step on candle's own CPU device against the step written by hand; on a card where there is one.

use wavenet_engine::{NoteRecipe, Philox, Recipe};

use super::*;
use crate::network::Network;

fn configs() -> Vec<Config> {
    let notes = Recipe::Note(NoteRecipe { partials: 2, ..NoteRecipe::default() });
    let base = Config {
        levels: 32,
        residual_channels: 6,
        gate_channels: 5,
        skip_channels: 9,
        end_channels: 7,
        dilations: vec![1, 2, 5, 1],
        ..Config::default()
    };
    let classes: Vec<String> = vec!["a".into(), "b".into(), "c".into()];
    vec![
        base.clone(),
        Config { kernel_size: 3, conditioning: notes.clone(), ..base.clone() },
        Config { conditioning: notes, classes: classes.clone(), class_channels: 3, ..base.clone() },
        Config { kernel_size: 3, classes, class_channels: 5, ..base },
    ]
}

/// Weights whose biases are not 0, on the kink of the ReLUs.
fn lively_weights(config: &Config) -> Weights {
    let mut weights = Weights::random(config.clone(), 2).unwrap();
    let draws = Philox::new(9, 9);
    for (index, value) in weights.values_mut().iter_mut().enumerate() {
        *value += 0.2 * (draws.uniform(index as u64) - 0.5);
    }
    weights
}

/// Segments of unequal lengths and warm-ups, one with silence ahead.
fn segment(config: &Config, index: usize) -> Segment {
    let rows = 60 + 17 * index;
    let draws = Philox::new(5, index as u64);
    let code = |i: usize| (draws.draw(i as u64) % config.levels as u32) as u8;
    let channels = config.local_channels();
    let sound_from = if index == 1 { 20 } else { 0 };
    let local = |i: usize| draws.uniform(1_000_000 + i as u64) - 0.5;
    let mut segment = Segment {
        inputs: (0..rows).map(code).collect(),
        targets: (0..rows).map(|i| code(i / 3 + 1)).collect(),
        local: (0..rows * channels).map(local).collect(),
        class: index % config.classes.len().max(1),
        sound_from,
        counted_from: [0, 29, 3][index % 3],
    };
    segment.local[..sound_from * channels].fill(0.0);
    segment
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let differences = a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b));
    norm(&mut { differences }) / norm(&mut b.iter().map(|&b| f64::from(b))).max(1e-30)
}

/// Steps beside those of the processor: losses, norms, gradients, weights and what the optimizer remembers.
fn learns_the_same(device: &Device, tolerance: f64) {
    for config in configs() {
        for uneven in [true, false] {
            let batch: Vec<Segment> =
                (0..3).map(|index| segment(&config, if uneven { index } else { 1 })).collect();
            let adam = AdamW { clip_norm: 0.5, ..AdamW::default() };
            let (mut ours, mut theirs) = (lively_weights(&config), lively_weights(&config));
            let (mut kept, mut there) =
                (Moments::new(ours.values()), Moments::new(theirs.values()));
            let mut network = Network::new(&config, 1);
            let mut card = Card::on(device.clone(), &config, Precision::F32, 2).unwrap();
            let mut gradient = vec![0.0; ours.values().len()];
            for step in 0..3 {
                let expected =
                    network.gradient_of(&ours, &mut batch.clone(), &mut gradient).unwrap();
                let norm = adam.clip(&mut gradient);
                let (loss, got_norm) = card.gradient(&theirs, &there, &batch).unwrap();
                assert!((loss.nats - expected.nats).abs() < tolerance * expected.nats);
                assert_eq!((loss.hits, loss.samples), (expected.hits, expected.samples));
                assert!((got_norm - norm).abs() < tolerance * norm, "{got_norm} {norm}");
                let flat = card.gradient.as_ref().unwrap().0.to_vec1::<f32>().unwrap();
                let mut joined = vec![0.0; gradient.len()];
                card.joined.part(&flat, &mut joined);
                let share = adam.share_left(norm);
                joined.iter_mut().for_each(|value| *value *= share);
                for spec in &ours.layout().specs {
                    let range = spec.range.clone();
                    let off = distance(&joined[range.clone()], &gradient[range]);
                    assert!(off < 10.0 * tolerance, "{} is {off} off", spec.name);
                }
                adam.step(&mut kept, 1e-3, &gradient, ours.values_mut());
                card.step(&adam, &mut there, 1e-3).unwrap();
                assert_eq!(kept.step, there.step);
                if step == 1 {
                    // What a checkpoint does; it changes nothing.
                    card.fetch(&mut theirs, &mut there).unwrap();
                    card.forget();
                }
            }
            card.fetch(&mut theirs, &mut there).unwrap();
            for (got, expected) in [
                (theirs.values(), ours.values()),
                (&there.mean, &kept.mean),
                (&there.square, &kept.square),
                (&there.average, &kept.average),
            ] {
                // Where a gradient is nearly 0, so is what is left of its sign.
                let off = distance(got, expected);
                assert!(off < 100.0 * tolerance, "{off}");
            }
            let fill = |index: usize, into: &mut Segment| {
                *into = batch[index].clone();
                Ok(())
            };
            let expected = network.loss(&ours, 3, &fill).unwrap();
            let loss = card.loss(&ours, 3, &fill).unwrap();
            assert!((loss.nats - expected.nats).abs() < tolerance * expected.nats);
            assert_eq!((loss.hits, loss.samples), (expected.hits, expected.samples));
        }
    }
}

#[test]
fn learns_what_the_processor_learns() {
    learns_the_same(&Device::Cpu, 1e-5);
}

#[test]
fn the_flat_vector_has_every_parameter_once() {
    for config in configs() {
        let weights = lively_weights(&config);
        let joined = Joined::new(&config, weights.layout());
        let mut back = vec![0.0; weights.values().len()];
        joined.part(&joined.join(weights.values()), &mut back);
        assert_eq!(back, weights.values());
    }
}

#[test]
#[ignore = "needs an NVIDIA card: --ignored on a machine that has one"]
#[cfg(feature = "cuda")]
fn a_card_learns_what_the_processor_learns() {
    let device = Device::new_cuda(0).expect("an NVIDIA card");
    learns_the_same(&device, 1e-4);
    for config in configs() {
        let batch: Vec<Segment> = (0..3).map(|index| segment(&config, index)).collect();
        let weights = lively_weights(&config);
        let moments = Moments::new(weights.values());
        let [(narrow, narrow_norm), (wide, norm)] =
            [Precision::Bf16, Precision::F32].map(|precision| {
                let mut card = Card::on(device.clone(), &config, precision, 1).unwrap();
                card.gradient(&weights, &moments, &batch).unwrap()
            });
        assert!((narrow.nats - wide.nats).abs() < 0.02 * wide.nats, "{narrow:?} {wide:?}");
        assert!((narrow_norm - norm).abs() < 0.1 * norm, "{narrow_norm} {norm}");
    }
}
