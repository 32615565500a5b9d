//! What users get stuck on is named, while training and in the report; a healthy run has no warning.

use crate::{Folder, RATE_HZ, TINY, tone, training, wav};

/// A training run that must say `expected` among its warnings, and in its report. Gives all that it said.
fn warns(folder: &Folder, options: &str, expected: &str) -> String {
    let (_, said) = folder.succeed(&training("x.safetensors", &format!("{options} --overwrite")));
    let warning =
        said.lines().find(|line| line.starts_with("warning: ") && line.contains(expected));
    assert!(warning.is_some(), "no `{expected}` in\n{said}");
    let html = String::from_utf8(folder.read("x.html")).unwrap();
    assert!(
        html.contains(expected) && html.contains("To look at"),
        "not in the report: {expected}"
    );
    said
}

/// Silence, then a tone.
fn late_tone(silence_s: f64, tone_s: f64) -> Vec<u8> {
    let (silence, tone) = [silence_s, tone_s].map(|s| (s * f64::from(RATE_HZ)) as u32).into();
    wav(hound::SampleFormat::Int, |writer| {
        (0..silence).for_each(|_| writer.write_sample(0_i16).unwrap());
        for at in 0..tone {
            let x = 0.5 * libm::sin(0.1 * f64::from(at));
            writer.write_sample((x * 32_767.0) as i16).unwrap();
        }
    })
}

/// Three seconds of a tone with a little noise on it, as every recording has: without it a model that
/// once leaves the tone finds no way back.
fn noisy_tone(hz: f64) -> Vec<u8> {
    let step = std::f64::consts::TAU * hz / f64::from(RATE_HZ);
    let draws = wavenet_engine::Philox::new(1, 2);
    wav(hound::SampleFormat::Int, |writer| {
        for at in 0..3 * RATE_HZ {
            let noise = f64::from(draws.draw(at.into())) / f64::from(u32::MAX) - 0.5;
            let x = 0.5 * libm::sin(step * f64::from(at)) + 0.04 * noise;
            writer.write_sample((x * 32_767.0) as i16).unwrap();
        }
    })
}

#[test]
fn a_healthy_run_has_nothing_to_look_at() {
    let folder = Folder::new();
    folder.write("one/long.wav", noisy_tone(163.7));
    folder.write("tiny.toml", TINY.to_owned() + "validation_steps = 50");
    let options = "--data one --steps 600";
    let (_, said) = folder.succeed(&training("x.safetensors", options));
    assert!(!said.contains("warning"), "{said}");
    let html = String::from_utf8(folder.read("x.html")).unwrap();
    assert!(html.contains("Nothing unusual was seen.") && !html.contains("To look at"));
    assert!(!html.contains("(once: "), "it was validated more than once");
}

#[test]
fn a_loss_that_stays_at_blind_guessing() {
    let folder = Folder::new();
    folder.write("tiny.toml", TINY.replace("0.01", "1e-9"));
    warns(&folder, "--steps 200", "guessing blindly costs 8");
}

#[test]
fn validation_that_rises_while_training_falls() {
    let folder = Folder::new();
    folder.write("low/a.wav", tone(150.0, 1.0));
    folder.write("high/a.wav", tone(2_500.0, 1.0));
    folder.write("tiny.toml", TINY.to_owned() + "validation_steps = 25");
    warns(&folder, "--data low --valid high --steps 400", "while training fell from");
}

#[test]
fn silence_and_noise_that_the_recordings_are_not() {
    let folder = Folder::new();
    warns(&folder, "--steps 4", "noise in the end, and the recordings are not");
    folder.write("late/a.wav", late_tone(20.0, 0.1));
    folder.write("late/b.wav", late_tone(20.0, 0.1));
    warns(&folder, "--data late --no-trim --steps 600", "the model plays is silence");
}

#[test]
fn a_run_that_ends_before_it_has_learned() {
    let folder = Folder::new();
    // Of notes the partials are told: they sound like no noise, however little was learned.
    for (name, hz) in [("A3", 220.0), ("C4", 261.6), ("E4", 329.6)] {
        folder.write(&format!("notes/{name}.wav"), noisy_tone(hz));
    }
    folder.write("tiny.toml", TINY.replace("0.01", "0.001"));
    warns(&folder, "--data notes --steps 20", "knows little more than how often each value occurs");
}

#[test]
fn too_little_to_learn_from() {
    let folder = Folder::new();
    let deep = TINY.replace("16]", "16, 32, 64, 128, 256, 512]");
    folder.write("tiny.toml", deep);
    warns(&folder, "--steps 2", "times the 64 ms that the model looks back on");
    folder.write("shorter/a.wav", tone(400.0, 0.08));
    warns(&folder, "--data shorter --steps 2", "to train on, less than twice the 64 ms that");
    for name in ["a", "b", "c"] {
        folder.write(&format!("short/{name}.wav"), tone(400.0, 0.04));
    }
    warns(&folder, "--data short --steps 2", "3 of 3 training files are shorter than the 64 ms");
}

#[test]
fn trimming_that_takes_most_of_it() {
    let folder = Folder::new();
    folder.write("late/a.wav", late_tone(3.0, 0.5));
    folder.write("late/b.wav", late_tone(3.0, 0.5));
    warns(&folder, "--data late --steps 2", "dropped 8");
}

#[test]
fn notes_that_sound_like_others() {
    let folder = Folder::new();
    for (name, hz) in [("A3", 220.5), ("A4", 220.0), ("C4", 261.6), ("E4", 329.6), ("G4", 392.0)] {
        folder.write(&format!("notes/{name}.wav"), tone(hz, 0.4));
    }
    let expected = "A4.wav sounds like A3, which is not the note that it is named after";
    let said = warns(&folder, "--data notes --steps 2", expected);
    assert!(said.lines().any(|line| line.ends_with("(it sounds like A3)")), "{said}");
    assert_eq!(said.matches("sounds like").count(), 2, "{said}");
    // Neither found near its name nor taken.
    folder.write("notes/G4.wav", tone(185.0, 0.4));
    let expected = "2 recordings sound like other notes than they are named after: A4.wav like A3, \
                    G4.wav like F#3; rename";
    warns(&folder, "--data notes --steps 2", expected);
}

#[test]
fn notes_of_some_files_only() {
    let folder = Folder::new();
    for (name, hz) in [("A3", 220.0), ("C4", 261.6), ("E4", 329.6), ("take 1", 300.0)] {
        folder.write(&format!("notes/{name}.wav"), tone(hz, 0.4));
    }
    let expected = "as nothing tells the notes of 1 file (take 1.wav): name it by its note";
    warns(&folder, "--data notes --steps 2", expected);
    for (n, hz) in (2..7).zip([310.0, 320.0, 330.0, 340.0, 350.0]) {
        folder.write(&format!("notes/take {n}.wav"), tone(hz, 0.4));
    }
    let expected = "6 files (take 1.wav, take 2.wav, take 3.wav, take 4.wav and 2 more): name them";
    warns(&folder, "--data notes --steps 2", expected);
    // Who says so wants none.
    let options = "--data notes --steps 2 --conditioning none --overwrite";
    let (_, said) = folder.succeed(&training("x.safetensors", options));
    assert!(!said.contains("no keys"), "{said}");
}
