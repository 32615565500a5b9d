//! What is saved is loaded, two states are kept, and no bytes do harm.

use proptest::prelude::*;

use super::*;

fn example(step: u64) -> Checkpoint {
    let model = Config {
        residual_channels: 1,
        gate_channels: 1,
        skip_channels: 1,
        end_channels: 1,
        dilations: vec![1],
        levels: 2,
        ..Config::default()
    };
    let weights = Weights::random(model.clone(), 3).unwrap();
    let best = weights.values().iter().map(|value| value * 0.1).collect();
    let settings = RunSettings {
        seed: 1,
        model,
        training: Training::default(),
        corpus: "recordings".into(),
        finetuned_from: None,
    };
    let mut checkpoint = Checkpoint::start(weights, settings);
    checkpoint.moments.step = step;
    checkpoint.moments.square[1] = 0.25;
    checkpoint.run.record.best = Some((1.1, 2));
    checkpoint.best = Some(best);
    checkpoint
}

fn bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    file::write(&example(7), &mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_saved_is_loaded() {
    let (saved, loaded) = (example(7), file::from_bytes(&bytes()).unwrap());
    assert_eq!(loaded.run, saved.run);
    assert_eq!(loaded.moments, saved.moments);
    assert_eq!(loaded.weights.values(), saved.weights.values());
    assert_eq!(loaded.best, saved.best);
}

#[test]
fn counts_that_no_run_can_reach_are_damage() {
    for (step, elapsed_s) in [(u64::MAX, 1.0), ((1 << 48) + 1, 1.0), (7, -1.0)] {
        let mut checkpoint = example(step);
        checkpoint.run.elapsed_s = elapsed_s;
        let mut bytes = Vec::new();
        file::write(&checkpoint, &mut bytes).unwrap();
        assert!(file::from_bytes(&bytes).is_err());
    }
}

#[test]
fn every_bit_that_flips_is_noticed() {
    let whole = bytes();
    // Blanks that end the header belong to nothing.
    let header_end = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let blanks =
        1 + whole[..header_end].iter().rposition(|&byte| byte != b' ').unwrap()..header_end;
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        assert!(file::from_bytes(&bytes).is_err() || blanks.contains(&place), "byte {place}");
    }
}

#[test]
fn the_anchor_is_always_among_the_two() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("x.safetensors");
    let steps = || {
        [state_path(&model), previous_path(&model)]
            .map(|path| load(&path).map_or(0, |checkpoint| checkpoint.step()))
    };
    save(&previous_path(&model), &example(99)).unwrap();
    let mut checkpoints = Checkpoints::new(&model);
    let mut now = example(0);
    for (step, is_anchor, expected) in [
        // An earlier run's state goes.
        (3, false, [3, 0]),
        (50, true, [50, 0]),
        (100, true, [100, 50]),
        (120, false, [120, 100]),
        (130, false, [130, 100]),
        (150, true, [150, 100]),
        (200, true, [200, 150]),
        (200, true, [200, 150]),
    ] {
        now.moments.step = step;
        checkpoints.save(&mut now, is_anchor).unwrap();
        assert_eq!(steps(), expected);
        let anchor = now.run.anchor_step;
        assert!(anchor == 0 || checkpoints.load_step(anchor).is_ok());
        // As a session that resumes here would go on.
        checkpoints = Checkpoints::new(&model);
        let (resumed, remark) = checkpoints.resume().unwrap().unwrap();
        assert_eq!((resumed.step(), remark), (step, None));
    }
    std::fs::write(state_path(&model), b"damage").unwrap();
    let mut checkpoints = Checkpoints::new(&model);
    let (mut resumed, remark) = checkpoints.resume().unwrap().unwrap();
    assert_eq!(resumed.step(), 150);
    assert!(remark.unwrap().contains("x.state is damaged: going on from"));
    checkpoints.save(&mut resumed, true).unwrap();
    assert_eq!(steps(), [150, 150]);
}

#[test]
fn places_that_take_no_model_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("y.state")).unwrap();
    check_out(&at("x.safetensors")).unwrap();
    for (name, expected) in [
        (".", "is a folder"),
        ("new/", "is a folder"),
        ("missing/x.safetensors", "create the folder"),
        ("x.state", "did you mean"),
        ("x", "x.safetensors?"),
        ("x.previous.safetensors", "choose another one"),
        ("y.safetensors", "y.state is a folder"),
    ] {
        let error = format!("{:#}", check_out(&at(name)).unwrap_err());
        assert!(error.contains(expected), "{name}: {error}");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn damaged_bytes_never_panic(place in 0_usize..10_000, value: u8, cut in 0_usize..10_000) {
        let mut bytes = bytes();
        let place = place % bytes.len();
        bytes[place] = value;
        bytes.truncate(bytes.len() - cut % 8 * bytes.len() / 8);
        let _ = file::from_bytes(&bytes);
    }
}
