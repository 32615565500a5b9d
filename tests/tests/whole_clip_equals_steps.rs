//! The kernels against the oracle: stepping with queues gives what the whole clip in candle gives.

use candle_core::{Device, Tensor};
use wavenet_engine::reference::Reference;
use wavenet_engine::{Config, NoteRecipe, Philox, Recipe, Sampling, State, Weights};
use wavenet_tests::{
    heard, lively_weights, pack, random_codes, random_conditioning, standard_deviation,
    step_by_step,
};

/// R, G, S, A, then K, then the dilations.
fn shape(channels: [usize; 4], kernel_size: usize, dilations: &[usize]) -> Config {
    let [residual_channels, gate_channels, skip_channels, end_channels] = channels;
    let dilations = dilations.to_vec();
    Config {
        residual_channels,
        gate_channels,
        skip_channels,
        end_channels,
        kernel_size,
        dilations,
        class_channels: 7,
        ..Config::default()
    }
}

/// Kernel sizes, dilations, channels, levels, classes and recipes, odd ones among them.
fn sweep() -> Vec<Config> {
    let note = || Recipe::Note(NoteRecipe { partials: 5, ..NoteRecipe::default() });
    let classes = || ["bow", "pluck", "blow"].map(String::from).to_vec();
    vec![
        shape([5, 5, 5, 5], 2, &[1]),
        Config { levels: 16, conditioning: note(), ..shape([1, 2, 3, 4], 3, &[1, 2]) },
        Config {
            classes: classes(),
            ..shape([12, 12, 33, 12], 2, &[1, 2, 4, 8, 16, 1, 2, 4, 8, 16])
        },
        Config { conditioning: note(), ..shape([33, 12, 5, 64], 3, &[1, 3, 9, 27]) },
        Config {
            levels: 255,
            classes: classes(),
            conditioning: note(),
            ..shape([12, 33, 64, 33], 2, &[7, 5, 3, 2, 1])
        },
        Config {
            conditioning: note(),
            ..shape([64, 64, 64, 64], 2, &[1, 2, 4, 8, 16, 32, 64, 128])
        },
        Config {
            levels: 64,
            classes: classes(),
            conditioning: note(),
            ..shape([16, 17, 15, 31], 3, &[1, 2, 4, 1, 2, 4, 1, 2, 4])
        },
        Config { levels: 2, ..shape([33, 64, 12, 5], 2, &[100, 1, 10]) },
    ]
}

/// `[frames][H]` as candle wants it.
fn rows(config: &Config, conditioning: &[f32]) -> Option<Tensor> {
    let h = config.conditioning_channels();
    (h > 0).then(|| {
        Tensor::from_slice(conditioning, (conditioning.len() / h, h), &Device::Cpu).unwrap()
    })
}

fn whole_clip(weights: &Weights, codes: &[u8], conditioning: &[f32]) -> Vec<f32> {
    let oracle = Reference::from_weights(weights, &Device::Cpu).unwrap();
    let rows = rows(weights.config(), conditioning);
    oracle.forward(codes, rows.as_ref()).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn worst_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_agree_on_every_row() {
    for (index, config) in sweep().into_iter().enumerate() {
        let weights = lively_weights(config, index as u64);
        let config = weights.config();
        let frames = config.receptive_field() + 150;
        let codes = random_codes(config, 1, frames);
        let conditioning = random_conditioning(config, 1, frames);
        let steps = step_by_step(&pack(&weights), &codes, &conditioning);
        let spread = standard_deviation(&steps);
        assert!((1.5..6.0).contains(&spread), "logits of spread {spread} test nothing");
        let worst = worst_difference(&whole_clip(&weights, &codes, &conditioning), &steps);
        assert!(worst < 1e-4, "shape {index}: {worst}");
    }
}

#[test]
fn free_running_choices_are_the_whole_clip_s_maxima() {
    let mut seen = std::collections::BTreeSet::new();
    for (index, config) in sweep().into_iter().enumerate() {
        let weights = lively_weights(config, 100 + index as u64);
        let (config, packed) = (weights.config(), pack(&weights));
        let (h, levels) = (config.conditioning_channels(), config.levels);
        let conditioning = random_conditioning(config, 2, 2_000);
        let mut state = State::new(&packed, 1);
        let mut logits = vec![0.0; levels];
        let greedy = Sampling { temperature: 0.0, top_p: 1.0 };
        let mut code = heard(config, &[0])[0];
        let generated: Vec<u8> = (0..2_000)
            .map(|t| {
                let row = &conditioning[t * h..(t + 1) * h];
                packed.step(&mut state, &[0], &[code], row, &mut logits);
                code = packed.pick(&logits, greedy, 0);
                code
            })
            .collect();
        seen.extend(generated.iter().copied());
        let whole = whole_clip(&weights, &heard(config, &generated), &conditioning);
        for (t, (row, &code)) in whole.chunks_exact(levels).zip(&generated).enumerate() {
            let best = (0..levels).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            let tie = row[best] == row[usize::from(code)];
            assert!(tie, "shape {index}, sample {t}: {best} in the clip, {code} in steps");
        }
    }
    assert!(seen.len() > 100, "only {} different codes: the models say too little", seen.len());
}

#[test]
fn a_class_and_its_local_channels_enter_as_one_vector() {
    let config = sweep().swap_remove(4);
    let weights = lively_weights(config, 9);
    let (config, packed) = (weights.config(), pack(&weights));
    let local = wavenet_tests::noise(4, 40 * config.local_channels());
    let codes = random_codes(config, 5, 40);
    let oracle = Reference::from_weights(&weights, &Device::Cpu).unwrap();
    for class in 0..config.classes.len() {
        let whole_vectors: Vec<f32> = local
            .chunks_exact(config.local_channels())
            .flat_map(|local| packed.class_embedding(class).iter().chain(local).copied())
            .collect();
        let rows = Tensor::from_slice(&local, (40, config.local_channels()), &Device::Cpu).unwrap();
        let h = oracle.conditioning(class, Some(&rows), 40).unwrap();
        let whole = oracle.forward(&codes, h.as_ref()).unwrap().flatten_all().unwrap();
        let steps = step_by_step(&packed, &codes, &whole_vectors);
        let worst = worst_difference(&whole.to_vec1::<f32>().unwrap(), &steps);
        assert!(worst < 1e-4, "class {class}: {worst}");
    }
}

#[test]
fn a_receptive_field_of_silence_changes_no_bit_of_the_start_state() {
    for (index, config) in sweep().into_iter().enumerate() {
        let weights = lively_weights(config, 200 + index as u64);
        let (config, packed) = (weights.config(), pack(&weights));
        let field = config.receptive_field();
        let silent = vec![heard(config, &[0])[0]; field + 1];
        let zeros = vec![0.0; silent.len() * config.conditioning_channels()];
        let logits = step_by_step(&packed, &silent, &zeros);
        let bits = |row: usize| -> Vec<u32> {
            logits[row * config.levels..][..config.levels].iter().map(|l| l.to_bits()).collect()
        };
        assert!((1..=field).all(|row| bits(row) == bits(0)), "shape {index}");
    }
}

#[test]
fn lanes_do_not_hear_each_other_and_reset_forgets_everything() {
    for (index, config) in sweep().into_iter().enumerate() {
        let weights = lively_weights(config, 300 + index as u64);
        let (config, packed) = (weights.config(), pack(&weights));
        let (h, levels, frames) = (config.conditioning_channels(), config.levels, 120);
        let codes = [0, 1, 2].map(|lane| random_codes(config, 10 + lane, frames));
        let vectors = [0, 1, 2].map(|lane| random_conditioning(config, 20 + lane, frames));
        let alone: Vec<Vec<f32>> =
            (0..3).map(|lane| step_by_step(&packed, &codes[lane], &vectors[lane])).collect();

        let mut state = State::new(&packed, 3);
        // Something else is heard first, so that a reset which forgets too little is found out.
        let mut logits = vec![0.0; 3 * levels];
        let draws = Philox::new(6, 6);
        for t in 0..50 {
            let strange = [0, 1, 2].map(|lane| (draws.draw(t * 3 + lane) % 2) as u8);
            let ones = vec![1.0; 3 * h];
            packed.step(&mut state, &[0, 1, 2], &strange, &ones, &mut logits);
        }
        (0..3).for_each(|lane| state.reset(&packed, lane));

        // Lanes in another order than 0, 1, 2: place in the batch and lane are different things.
        let lanes = [2, 0, 1];
        for t in 0..frames {
            let heard = lanes.map(|lane| codes[lane][t]);
            let h_rows: Vec<f32> =
                lanes.iter().flat_map(|&lane| vectors[lane][t * h..(t + 1) * h].to_vec()).collect();
            packed.step(&mut state, &lanes, &heard, &h_rows, &mut logits);
            for (place, &lane) in lanes.iter().enumerate() {
                let together = &logits[place * levels..(place + 1) * levels];
                let expected = &alone[lane][t * levels..(t + 1) * levels];
                let same = together.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "shape {index}, sample {t}, lane {lane}");
            }
        }
    }
}
