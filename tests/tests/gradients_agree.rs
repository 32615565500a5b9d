//! The trainer's hand-written step against candle's autograd on the whole-clip oracle: the same
//! loss and, parameter by parameter, the same gradient, for batches of unequal clips.

use candle_core::{Device, Tensor};
use wavenet_engine::reference::Reference;
use wavenet_engine::{Config, NoteRecipe, Recipe, Weights};
use wavenet_tests::{lively_weights, noise, random_codes};
use wavenet_trainer::network::{self, Network, Segment};

/// A segment as the trainer cuts it: a receptive field of silence, then a clip.
fn segment(config: &Config, index: usize) -> Segment {
    let (lead, frames) = (config.receptive_field(), 200 + 150 * index);
    let rows = lead + frames;
    let silence = wavenet_engine::MuLaw::new(config.levels).silence();
    let codes = random_codes(config, 40 + index as u64, frames);
    let mut targets = vec![silence; lead];
    targets.extend(codes);
    let mut inputs = vec![silence];
    inputs.extend(&targets[..rows - 1]);
    let channels = config.local_channels();
    let mut local = vec![0.0; lead * channels];
    local.extend(noise(index as u64, frames * channels));
    let class = index % config.classes.len().max(1);
    Segment { inputs, targets, local, class, sound_from: lead, counted_from: lead }
}

/// Mean loss in nats and gradient of a batch, by candle.
fn oracle(weights: &Weights, segments: &[Segment]) -> (f64, Vec<f32>) {
    let config = weights.config();
    let reference = Reference::from_weights(weights, &Device::Cpu).unwrap();
    let mut total: Option<Tensor> = None;
    let samples: usize = segments.iter().map(Segment::counted).sum();
    for segment in segments {
        let (lead, frames) = (segment.sound_from, segment.counted());
        let channels = config.local_channels();
        let local = (channels > 0).then(|| {
            let local = &segment.local[lead * channels..];
            Tensor::from_slice(local, (frames, channels), &Device::Cpu).unwrap()
        });
        let h = reference.conditioning(segment.class, local.as_ref(), frames).unwrap();
        let logits = reference.forward(&segment.inputs[lead..], h.as_ref()).unwrap();
        let loss = reference.loss(&logits, &segment.targets[lead..], 0).unwrap();
        let share = (loss * (frames as f64 / samples as f64)).unwrap();
        total = Some(match total {
            Some(total) => (total + share).unwrap(),
            None => share,
        });
    }
    let total = total.unwrap();
    (f64::from(total.to_scalar::<f32>().unwrap()), reference.gradient(&total).unwrap())
}

/// Tensor by tensor within 1e-5 of its length.
fn assert_same_gradient(weights: &Weights, ours: &[f32], theirs: &[f32]) {
    for spec in &weights.layout().specs {
        let (ours, theirs) = (&ours[spec.range.clone()], &theirs[spec.range.clone()]);
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let size = norm(&mut theirs.iter().map(|&x| f64::from(x)));
        let differences = ours.iter().zip(theirs).map(|(&a, &b)| f64::from(a) - f64::from(b));
        let difference = norm(&mut { differences });
        assert!(size > 0.0, "{} has no gradient", spec.name);
        assert!(difference < 1e-5 * size, "{}: {difference} of {size}", spec.name);
    }
}

/// Kernels of 2 and 3 taps, with and without conditioning.
fn configs() -> [Config; 4] {
    let base = Config {
        residual_channels: 12,
        gate_channels: 20,
        skip_channels: 24,
        end_channels: 28,
        dilations: vec![1, 2, 4, 8, 3, 16],
        ..Config::default()
    };
    let notes = Recipe::Note(NoteRecipe { partials: 3, ..NoteRecipe::default() });
    let classes: Vec<String> = vec!["robin".into(), "whale".into(), "piano".into()];
    [
        base.clone(),
        Config { kernel_size: 3, ..base.clone() },
        Config { conditioning: notes.clone(), ..base.clone() },
        Config { kernel_size: 3, conditioning: notes, classes, class_channels: 5, ..base },
    ]
}

#[test]
fn loss_and_gradient_equal_candles() {
    for config in configs() {
        let weights = lively_weights(config.clone(), 6);
        let segments: Vec<Segment> = (0..3).map(|index| segment(&config, index)).collect();
        let (expected_loss, expected) = oracle(&weights, &segments);

        let mut gradient = vec![0.0; weights.values().len()];
        let fill = |index: usize, into: &mut Segment| {
            *into = segments[index].clone();
            Ok(())
        };
        let loss = Network::new(&config, 2).gradient(&weights, 3, &fill, &mut gradient).unwrap();
        let loss = loss.nats / loss.samples as f64;
        assert!((loss - expected_loss).abs() < 1e-5 * expected_loss, "{loss} {expected_loss}");
        assert_same_gradient(&weights, &gradient, &expected);
    }
}

/// What `--device candle` computes: stretches from the middle of a clip too, whose warm-up does not count.
#[test]
fn the_graph_behind_the_trainers_interface_gives_the_same() {
    for config in configs() {
        let weights = lively_weights(config.clone(), 7);
        let fill = |index: usize, into: &mut Segment| {
            *into = segment(&config, index);
            if index == 1 {
                let cut = config.receptive_field() + 20;
                into.inputs.drain(..cut);
                into.targets.drain(..cut);
                into.local.drain(..cut * config.local_channels());
                (into.sound_from, into.counted_from) = (0, config.receptive_field());
            }
            Ok(())
        };
        let run = |device| {
            let mut network = Network::on(device, &config, 2).unwrap();
            // What was there before must not matter.
            let mut gradient = vec![1.0; weights.values().len()];
            let loss = network.gradient(&weights, 3, &fill, &mut gradient).unwrap();
            let alone = network.loss(&weights, 3, &fill).unwrap();
            assert!((loss.nats - alone.nats).abs() < 1e-6 * loss.nats);
            assert_eq!((loss.hits, loss.samples), (alone.hits, alone.samples));
            (loss, gradient)
        };
        let ((ours, gradient), (theirs, expected)) =
            (run(network::Device::Cpu), run(network::Device::Candle));
        assert!((ours.nats - theirs.nats).abs() < 1e-5 * ours.nats);
        assert_eq!((ours.hits, ours.samples), (theirs.hits, theirs.samples));
        assert!(theirs.samples > 900 - config.receptive_field() as u64);
        assert_same_gradient(&weights, &gradient, &expected);
    }
}

#[test]
fn a_device_that_was_not_built_says_how_to_build_it() {
    let Err(error) = Network::on(network::Device::Cuda, &Config::default(), 1) else {
        panic!("this test runs without the feature cuda");
    };
    let line = format!("{error:#}");
    assert!(line.contains("--features cuda") && !line.contains('\n'), "{line}");
}
