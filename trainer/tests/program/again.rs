//! Training where a model lies already: it goes on, or is refused; nothing is lost unasked.

use crate::{Folder, TINY, tone, training};

/// Adds a folder of three recorded notes.
fn with_notes() -> Folder {
    let folder = Folder::new();
    for (name, hz) in [("A3", 220.0), ("C4", 261.6), ("E4", 329.6)] {
        folder.write(&format!("notes/{name}.wav"), tone(hz, 0.3));
    }
    folder
}

#[cfg(unix)]
#[test]
fn the_same_command_goes_on_with_a_model_of_notes() {
    let folder = with_notes();
    let options = "--data notes --steps 120 --checkpoint-steps 1";
    let expected = folder.train("whole.safetensors", options);
    let train = training("parts.safetensors", options);
    let mut child = folder.command(&train).spawn().unwrap();
    crate::train::wait_until(&mut child, || folder.path("parts.safetensors").exists());
    let stopped = crate::train::interrupt(child, "-INT");
    assert_eq!(stopped.status.code(), Some(130), "it ended before it was stopped");
    let (_, said) = folder.succeed(&format!("{train} --resume"));
    assert!(said.contains("going on after step "), "{said}");
    assert!(folder.read("parts.safetensors") == expected);
}

#[test]
fn what_was_left_unsaid_is_what_it_became() {
    let folder = with_notes();
    let train = |options: &str| training("x.safetensors", &format!("--data notes {options}"));
    folder.succeed(&train("--steps 4"));
    let model = folder.read("x.safetensors");
    // A finished run stays as it is; saying what was unsaid is no change.
    folder.succeed(&train("--steps 4 --resume"));
    let noise = |db: &str| format!("{TINY}[training.augmentation]\npast_noise_db = {db}\n");
    folder.write("same.toml", noise("[-80, -36]"));
    folder.succeed(&train("--steps 4 --resume --config same.toml"));
    assert!(folder.read("x.safetensors") == model);
    folder.write("other.toml", noise("[-80, -40]"));
    let lines =
        folder.refuse(&train("--steps 4 --resume --config other.toml"), "with other settings");
    assert_eq!(lines.len(), 1, "before anything is read: {lines:?}");
    // A longer budget goes on, and so does one that another model began.
    let (_, said) = folder.succeed(&train("--steps 6 --resume"));
    assert!(said.contains("going on after step 4"), "{said}");
    let tuned = training("y.safetensors", "--data notes --finetune x.safetensors --steps 2");
    folder.succeed(&tuned);
    let (_, said) = folder.succeed(&format!("{tuned} --resume"));
    assert!(said.contains("going on after step 2"), "{said}");
    // Of what the recordings decide, the other choice is still another setting.
    folder.fail(&train("--steps 6 --resume --conditioning none"), "with other settings");
}

#[test]
fn no_model_is_replaced_unasked() {
    let folder = Folder::new();
    let model = folder.train("x.safetensors", "--steps 4");
    let hint = "x.safetensors exists; add --resume to go on with it, or --overwrite, or choose another --out";
    let refuses = |options: &str, expected: &str| {
        let lines = folder.refuse(&training("x.safetensors", options), expected);
        assert_eq!(lines.len(), 1, "{lines:?}");
    };
    // That comes first, whatever else is wrong: nothing has been read.
    for options in ["--steps 2", "--data nowhere", "--config nowhere", "--finetune nowhere"] {
        refuses(options, hint);
    }
    refuses("--resume --overwrite", "cannot be used with");
    assert!(folder.train("x.safetensors", "--steps 4 --overwrite --seed 2") != model);

    // A state is as good as a model; and a model without one is nothing to go on from.
    std::fs::remove_file(folder.path("x.safetensors")).unwrap();
    refuses("--steps 2", "x.state exists; add --resume");
    std::fs::remove_file(folder.path("x.state")).unwrap();
    folder.write("x.safetensors", &model);
    for options in ["--steps 2", "--steps 2 --resume"] {
        refuses(options, "x.safetensors exists, and there is no x.state to go on from");
    }
    folder.succeed(&training("x.safetensors", "--steps 2 --overwrite"));
}
