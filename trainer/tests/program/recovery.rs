//! What a run survives: being killed at any moment, a damaged state, a loss that explodes.

use wavenet_engine::{Dtype, Isa, Packed, Weights};
use wavenet_trainer::checkpoint;

use crate::{Folder, TINY, tone, training};

/// Learns faster and faster, until the loss explodes: between steps 552 and 646 with eight seeds. Its rate
/// does not depend on when it ends.
pub(crate) const EXPLODING: &str = "learning_rate = 1.0\nwarmup_steps = 3000\nfinal_share = 1.0";

/// Kills a run after each of some times, resumes it, and lets it end at last.
#[cfg(unix)]
fn kill_and_resume(folder: &Folder, out: &str, options: &str, delays_ms: &[u64]) -> String {
    let (mut said, state) = (String::new(), folder.path(&format!("{out}.state")));
    let train = &training(&format!("{out}.safetensors"), options);
    for &delay_ms in delays_ms {
        let mut child = folder.command(train).spawn().unwrap();
        // The first is let live until there is something to resume from.
        while !state.exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        let has_ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() || !has_ended, "{stderr}");
        said += &stderr;
    }
    let (_, end) = folder.succeed(train);
    said + &end
}

#[cfg(unix)]
#[test]
fn kills_at_any_moment_change_no_byte() {
    let folder = Folder::new();
    folder.write("tiny.toml", TINY.replace("batch = 2", "batch = 2\nvalidation_steps = 20"));
    let expected = folder.train("whole.safetensors", "--steps 1000");
    let options = "--steps 1000 --checkpoint-steps 7 --resume";
    let delays_ms = [30, 70, 110, 150, 90, 190, 130, 60, 170, 80];
    let said = kill_and_resume(&folder, "killed", options, &delays_ms);
    assert!(said.contains("going on after step "), "{said}");
    assert!(folder.read("killed.safetensors") == expected);
    let record =
        |name: &str| checkpoint::load(&folder.path(&format!("{name}.state"))).unwrap().run.record;
    assert_eq!(record("killed"), record("whole"));
    assert_eq!(record("whole").validated_step, Some(1000));
}

#[test]
fn the_two_last_states_play_and_the_older_serves_where_the_newest_is_damaged() {
    let folder = Folder::new();
    let expected = folder.train("x.safetensors", "--steps 20 --checkpoint-steps 8");
    let steps = ["x.state", "x.previous.state"]
        .map(|name| checkpoint::load(&folder.path(name)).unwrap().moments.step);
    assert_eq!(steps, [20, 16]);
    for state in ["x.state", "x.previous.state"] {
        folder.succeed(&format!(
            "export --model {state} --out now.safetensors --dtype f32 --overwrite"
        ));
        let weights = Weights::load(&folder.path("now.safetensors")).unwrap();
        let average = checkpoint::load(&folder.path(state)).unwrap().moments.average;
        assert_eq!(weights.values(), average);
        Packed::new(&weights, Dtype::F32, Isa::Auto).unwrap();
        folder.succeed(&format!("eval --model {state} --data tones"));
    }
    let train = training("x.safetensors", "--steps 20 --checkpoint-steps 8 --resume");
    let mut damaged = folder.read("x.state");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    folder.write("x.state", &damaged);
    let (_, said) = folder.succeed(&train);
    assert!(said.contains("x.state is damaged: going on from x.previous.state"), "{said}");
    assert!(said.contains("going on after step 16"), "{said}");
    assert!(folder.read("x.safetensors") == expected);
    // As where the power fails between two renamings.
    std::fs::remove_file(folder.path("x.state")).unwrap();
    let (_, said) = folder.succeed(&train);
    assert!(said.contains("x.state is missing: going on from x.previous.state"), "{said}");
    assert!(folder.read("x.safetensors") == expected);
    folder.write("x.state", "damaged");
    folder.write("x.previous.state", "damaged too");
    let expected = "x.state cannot be resumed from; train with --overwrite in place of --resume";
    folder.refuse(&train, expected);
}

#[test]
fn other_recordings_under_the_same_settings_are_noticed() {
    let folder = Folder::new();
    folder.train("x.safetensors", "--steps 5");
    folder.write("tones/low.wav", tone(155.0, 0.4));
    let train = training("x.safetensors", "--steps 9 --resume");
    folder.fail(&train, "x.safetensors was trained on other recordings, or these have changed");
    folder.write("x.prepared/index.json", "");
    std::fs::remove_dir_all(folder.path("x.prepared")).unwrap();
    folder.fail(&train, "trained on other recordings");
}

#[test]
fn a_loss_that_explodes_goes_back_and_learns_more_slowly() {
    let folder = Folder::new();
    let config = TINY.replace("learning_rate = 0.01\nwarmup_steps = 10", EXPLODING);
    assert_ne!(config, TINY);
    let config = config.replace("batch = 2", "batch = 4");
    folder.write("tiny.toml", config + "validation_steps = 10");
    let train = |out: &str, steps: u64| {
        let options = format!("--steps {steps} --checkpoint-steps 20 --resume");
        training(out, &options)
    };
    let (_, said) = folder.succeed(&train("whole.safetensors", 800));
    assert!(said.contains(" with half the learning rate (5.0e-1)"), "{said}");
    assert!(said.contains("the loss has exploded to "), "{said}");
    let run = checkpoint::load(&folder.path("whole.state")).unwrap().run;
    let times = said.lines().filter(|line| line.contains(": back to step ")).count();
    assert!((1..=3).contains(&times) && times == run.rollbacks as usize, "{said}");
    assert!(!said.contains("back to step 0,"), "{said}");
    let expected = folder.read("whole.safetensors");

    // Stopped wherever: going back, and what that costs, are part of the state.
    let went_back = said.lines().find(|line| line.contains(": back to step ")).unwrap();
    let step_after = |words: &str| -> u64 {
        let (_, rest) = went_back.split_once(words).unwrap();
        rest.split([':', ',']).next().unwrap().parse().unwrap()
    };
    let (exploded, back) = (step_after(" at step "), step_after("back to step "));
    for steps in [back + 10, (exploded - 1) / 10 * 10, exploded / 10 * 10 + 10, 800] {
        folder.succeed(&train("parts.safetensors", steps));
    }
    assert!(folder.read("parts.safetensors") == expected);
}

#[test]
fn a_loss_that_explodes_again_and_again_ends_the_run() {
    let folder = Folder::new();
    // No learning rate helps numbers that are not.
    let model = folder.train("x.safetensors", "--steps 4 --checkpoint-steps 4");
    let path = folder.path("x.state");
    let mut state = checkpoint::load(&path).unwrap();
    state.run.anchor_step = 4;
    state.moments.mean.fill(3e38);
    state.moments.square.fill(0.0);
    checkpoint::save(&path, &state).unwrap();
    let bytes = folder.read("x.state");
    for checkpoint_steps in [1, 100] {
        let options = format!("--steps 50 --resume --checkpoint-steps {checkpoint_steps}");
        let expected = "for the 4th time; x.safetensors is the best until then: start again with a \
                        learning_rate of 6.2e-4 or less";
        let lines = folder.refuse(&training("x.safetensors", &options), expected);
        let back = lines.iter().filter(|line| line.contains("at step 5: back to step 4,")).count();
        assert_eq!(back, 3, "{lines:?}");
        assert!(folder.read("x.safetensors") == model && folder.read("x.state") == bytes);
    }
    folder.succeed("eval --model x.safetensors --data tones");
}

#[test]
fn patience_ends_a_run_that_gains_nothing_and_the_best_is_kept() {
    let folder = Folder::new();
    // Of a few samples it knows all after a while, and then knows the others worse and worse.
    folder.write("tiny.toml", TINY.replace("batch = 2", "batch = 2\nvalidation_steps = 10"));
    folder.write("few/a.wav", tone(220.0, 0.05));
    folder.write("other/b.wav", tone(3_777.0, 0.05));
    let options = "--steps 3000 --data few --valid other --patience 3";
    let train = training("x.safetensors", options);
    let (text, _) = folder.succeed(&train);
    let run = checkpoint::load(&folder.path("x.state")).unwrap();
    let (bits, best_step) = run.run.record.best.unwrap();
    assert!(run.step() < 3000 && run.step() == best_step + 30, "{text}");
    assert!(
        text.contains(&format!("\nout of patience: the model is the best, of step {best_step}\n"))
    );
    let model = folder.read("x.safetensors");
    assert_eq!(Weights::from_bytes(&model).unwrap().values(), run.best.unwrap());
    assert!(text.contains(&format!("{bits:.3} bits a sample")), "{text} {bits}");
    // Resumed, it is out of patience still; with more of it, it goes on.
    folder.succeed(&format!("{train} --resume"));
    assert!(folder.read("x.safetensors") == model);
    folder.succeed(&train.replace("--patience 3", "--patience 4 --resume"));
    assert_eq!(checkpoint::load(&folder.path("x.state")).unwrap().step(), best_step + 40);
}
