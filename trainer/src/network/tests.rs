//! The gradient against finite differences, and what must not change it.

use wavenet_engine::{NoteRecipe, Philox, Recipe};

use super::*;

fn config(kernel_size: usize, conditioned: bool) -> Config {
    let recipe = NoteRecipe { partials: 2, ..NoteRecipe::default() };
    Config {
        levels: 32,
        residual_channels: 6,
        gate_channels: 5,
        skip_channels: 9,
        end_channels: 7,
        kernel_size,
        dilations: vec![1, 2, 5, 1],
        classes: if conditioned { vec!["a".into(), "b".into()] } else { vec![] },
        class_channels: 3,
        conditioning: if conditioned { Recipe::Note(recipe) } else { Recipe::None },
        ..Config::default()
    }
}

/// Segments longer than a chunk, of unequal lengths, the second with silence ahead.
fn fill(config: &Config, index: usize, segment: &mut Segment) -> Result<()> {
    let rows = 300 + 70 * index;
    let draws = Philox::new(5, index as u64);
    let code = |i: usize| (draws.draw(i as u64) % config.levels as u32) as u8;
    segment.inputs = (0..rows).map(code).collect();
    segment.targets = (0..rows).map(|i| code(i / 3 + 1)).collect();
    segment.class = index % 2;
    segment.sound_from = if index == 1 { 20 } else { 0 };
    segment.counted_from = 17;
    let channels = config.local_channels();
    let local = |i: usize| draws.uniform(1_000_000 + i as u64) - 0.5;
    segment.local = (0..rows * channels).map(local).collect();
    segment.local[..segment.sound_from * channels].fill(0.0);
    Ok(())
}

#[test]
fn gradient_matches_finite_differences_tensor_by_tensor() {
    for (kernel_size, conditioned) in [(2, false), (3, true)] {
        let config = config(kernel_size, conditioned);
        let mut weights = Weights::random(config.clone(), 2).unwrap();
        // Random biases: zero ones sit on the kink of the ReLUs.
        let draws = Philox::new(9, 9);
        for (i, value) in weights.values_mut().iter_mut().enumerate() {
            *value += 0.2 * (draws.uniform(i as u64) - 0.5);
        }
        let mut network = Network::new(&config, 2);
        let mut gradient = vec![0.0; weights.values().len()];
        let fill = |index: usize, segment: &mut Segment| fill(&config, index, segment);
        network.gradient(&weights, 3, &fill, &mut gradient).unwrap();
        for spec in &weights.layout().specs {
            let part = &gradient[spec.range.clone()];
            let norm = part.iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
            assert!(norm > 0.0, "{} has no gradient", spec.name);
            let step = 2e-3;
            let mut loss_at = |sign: f64| {
                let mut moved = weights.clone();
                for (value, g) in moved.values_mut()[spec.range.clone()].iter_mut().zip(part) {
                    *value += (sign * step * f64::from(*g) / norm) as f32;
                }
                let loss = network.loss(&moved, 3, &fill).unwrap();
                loss.nats / loss.samples as f64
            };
            let slope = (loss_at(1.0) - loss_at(-1.0)) / (2.0 * step);
            let error = (slope - norm).abs() / norm.max(1e-3);
            assert!(error < 0.02, "{}: gradient {norm}, slope {slope}", spec.name);
        }
    }
}

#[test]
fn thread_count_changes_no_bit() {
    let config = config(2, true);
    let weights = Weights::random(config.clone(), 2).unwrap();
    let fill = |index: usize, segment: &mut Segment| fill(&config, index, segment);
    let run = |threads| {
        let mut gradient = vec![0.0; weights.values().len()];
        let loss =
            Network::new(&config, threads).gradient(&weights, 4, &fill, &mut gradient).unwrap();
        (loss.nats, gradient)
    };
    let expected = run(1);
    assert_eq!(run(2), expected);
    assert_eq!(run(5), expected);
}

#[test]
fn loss_agrees_with_the_engine_step_by_step() {
    use wavenet_engine::{Dtype, Isa, Packed, State};
    let config = config(3, true);
    let weights = Weights::random(config.clone(), 4).unwrap();
    let mut segment = Segment::default();
    fill(&config, 1, &mut segment).unwrap();
    // The engine begins in settled silence; so does a segment led in by a receptive field of it.
    let lead = config.receptive_field();
    let silence = wavenet_engine::MuLaw::new(config.levels).silence();
    segment.sound_from = lead;
    segment.counted_from = lead;
    segment.inputs[..lead].fill(silence);
    let channels = config.local_channels();
    segment.local[..lead * channels].fill(0.0);
    let loss = Network::new(&config, 1)
        .loss(&weights, 1, &|_, into| {
            *into = segment.clone();
            Ok(())
        })
        .unwrap();

    let packed = Packed::new(&weights, Dtype::F32, Isa::Auto).unwrap();
    let mut state = State::new(&packed, 1);
    let mut logits = vec![0.0; config.levels];
    let mut nats = 0.0;
    for row in lead..segment.targets.len() {
        let mut h = packed.class_embedding(segment.class).to_vec();
        h.extend(&segment.local[row * channels..(row + 1) * channels]);
        packed.step(&mut state, &[0], &segment.inputs[row..=row], &h, &mut logits);
        let sum: f64 = logits.iter().map(|&l| libm::exp(f64::from(l))).sum();
        nats += libm::log(sum) - f64::from(logits[usize::from(segment.targets[row])]);
    }
    assert!((loss.nats - nats).abs() / nats < 1e-5, "{} {nats}", loss.nats);
}
