//! Training: the same settings give the same bytes, however often a run is stopped; and it learns.

use serde_json::Value;
use wavenet_engine::Weights;

use crate::{Folder, TINY, tone, training};

#[test]
fn the_seed_decides_every_byte_and_the_threads_none() {
    let folder = Folder::new();
    let first = folder.train("a.safetensors", "--steps 12 --threads 1");
    for same in ["--threads 1", "--threads 2", "--threads 3", "--threads 1 --checkpoint-steps 5"] {
        assert!(
            folder.train("b.safetensors", &format!("--steps 12 --overwrite {same}")) == first,
            "{same}"
        );
    }
    for other in ["--steps 12 --seed 2", "--steps 11"] {
        assert!(folder.train("c.safetensors", &format!("{other} --overwrite")) != first, "{other}");
    }
    assert_eq!(
        folder.names()[..4],
        ["a.html", "a.prepared", "a.safetensors", "a.state"].map(str::to_owned)
    );
}

#[test]
fn augmented_and_exponential_runs_are_the_same_bytes_too() {
    let folder = Folder::new();
    let plain = folder.train("plain.safetensors", "--steps 12");
    for change in [
        "schedule = \"exponential\"",
        "[training.augmentation]\ngain_db = [-6, 0]",
        "[training.augmentation]\nflip_polarity = true",
        "[training.augmentation]\npitch_cents = 30",
    ] {
        folder.write("tiny.toml", format!("{TINY}{change}"));
        let first = folder.train("a.safetensors", "--steps 12 --threads 1 --overwrite");
        assert!(first != plain, "{change}");
        // As though it had been killed after the last checkpoint.
        let options = "--steps 12 --threads 2 --checkpoint-steps 4 --overwrite";
        let second = folder.train("b.safetensors", options);
        assert!(second == first, "{change}");
        let state = folder.read("b.previous.state");
        folder.write("b.state", state);
        let resumed = folder.train("b.safetensors", "--steps 12 --checkpoint-steps 4 --resume");
        assert!(resumed == first, "{change}");
    }
}

#[test]
fn notes_and_classes_are_the_same_bytes_too() {
    let folder = Folder::new();
    for (name, hz) in
        [("piano/A3", 220.5), ("piano/E4", 330.0), ("flute/C4", 261.6), ("flute/G4", 391.0)]
    {
        folder.write(&format!("notes/{name}.wav"), tone(hz, 0.2));
    }
    folder.succeed("prepare --data notes --out p");
    let (text, said) = folder.succeed(&training("a.safetensors", "--data p --steps 6 --threads 1"));
    assert!(said.contains("notes by 16 partials, 2 classes"), "{said}");
    let heard =
        " render --model a.safetensors --note E4 --class flute --out sound.wav --png sound.png";
    assert!(text.trim_end().ends_with(heard), "{text}");
    let first = folder.read("a.safetensors");
    assert!(folder.train("b.safetensors", "--data p --steps 6 --threads 2") == first);
    let config = Weights::from_bytes(&first).unwrap().config().clone();
    assert_eq!(config.classes, ["flute", "piano"]);
    let class = folder.train("c.safetensors", "--data p --steps 2 --conditioning class");
    assert_eq!(Weights::from_bytes(&class).unwrap().config().conditioning_channels(), 16);
    let none = folder.train("d.safetensors", "--data p --steps 2 --conditioning none");
    assert_eq!(Weights::from_bytes(&none).unwrap().config().conditioning_channels(), 0);
}

#[test]
fn the_last_line_names_the_program_beside_this_one() {
    use std::env::consts::EXE_SUFFIX;
    let folder = Folder::new();
    let trainer = format!("my bin/wavenet-trainer{EXE_SUFFIX}");
    std::fs::create_dir(folder.path("my bin")).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_wavenet-trainer"), folder.path(&trainer)).unwrap();
    folder.write(&format!("my bin/wavenet{EXE_SUFFIX}"), "");
    let mut command = std::process::Command::new(folder.path(&trainer));
    let arguments = training("x.safetensors", "--steps 1");
    command.args(arguments.split_whitespace()).current_dir(folder.path("."));
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let last = format!(
        "To hear it: 'my bin/wavenet{EXE_SUFFIX}' render --model x.safetensors --out sound.wav --png sound.png"
    );
    assert!(text.starts_with("1 step: ") && text.trim_end().ends_with(&last), "{text}");
    let html = String::from_utf8(folder.read("x.html")).unwrap();
    assert!(html.contains(&last["To hear it: ".len()..]), "not in the report: {last}");
}

#[test]
fn a_finished_run_that_is_resumed_stays_as_it_is() {
    let folder = Folder::new();
    let first = folder.train("a.safetensors", "--steps 7");
    assert!(folder.train("a.safetensors", "--steps 7 --resume") == first);
    // A longer budget trains on.
    assert!(folder.train("a.safetensors", "--steps 9 --resume") != first);
}

#[cfg(unix)]
#[test]
fn a_killed_run_that_is_resumed_gives_the_bytes_of_one_that_was_not() {
    let folder = Folder::new();
    let expected = folder.train("whole.safetensors", "--steps 400");
    let killed = training("killed.safetensors", "--steps 400 --checkpoint-steps 1");
    let mut child = folder.command(&killed).spawn().unwrap();
    wait_until(&mut child, || folder.path("killed.safetensors").exists());
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "it ended before it was killed");
    // Whatever the moment, both files are whole.
    Weights::load(&folder.path("killed.safetensors")).unwrap();
    let (_, said) = folder.succeed(&format!("{killed} --resume --threads 2"));
    assert!(said.contains("going on after step "), "{said}");
    assert!(folder.read("killed.safetensors") == expected);
}

/// What a user leaves unsaid is decided by the recordings: the same command is the same run all the same.
#[cfg(unix)]
#[test]
fn a_run_on_notes_that_is_stopped_and_resumed_gives_the_bytes_of_one_that_was_not() {
    // The remainders of sines are soft, and a loss that explodes is no matter of this.
    let tiny = TINY.replace("learning_rate = 0.01", "learning_rate = 0.001");
    let phases_and_levels =
        "[model.conditioning]\nkind = \"note\"\npartials = 4\nages_ms = [0, 50]";
    for recipe in ["", phases_and_levels] {
        let folder = Folder::new();
        folder.write("tiny.toml", format!("{tiny}{recipe}"));
        for (name, hz) in [("A3", 220.5), ("C4", 261.6), ("E4", 330.0), ("G4", 391.0)] {
            folder.write(&format!("notes/{name}.wav"), tone(hz, 0.2));
        }
        let expected = folder.train("whole.safetensors", "--data notes --steps 100");
        let options = "--data notes --steps 100 --checkpoint-steps 10";
        let train = training("parts.safetensors", options);
        let mut child = folder.command(&train).spawn().unwrap();
        wait_until(&mut child, || folder.path("parts.safetensors").exists());
        assert_eq!(interrupt(child, "-INT").status.code(), Some(130), "{recipe}");
        // To its end, and once more after it.
        let resume = format!("{train} --resume");
        for _ in 0..2 {
            let (_, said) = folder.succeed(&resume);
            assert!(said.contains("going on after step "), "{recipe}: {said}");
            assert!(folder.read("parts.safetensors") == expected, "{recipe}");
        }
        // What is said is compared as ever.
        let noise = "[training.augmentation]\npast_noise_db = [-79, -36]";
        folder.write("tiny.toml", format!("{tiny}{noise}\n{recipe}"));
        folder.refuse(&resume, "parts.safetensors was trained with other settings");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    for signal in ["-INT", "-TERM"] {
        let folder = Folder::new();
        let train = training("x.safetensors", "--minutes 5 --checkpoint-steps 4");
        let mut child = folder.command(&train).spawn().unwrap();
        wait_until(&mut child, || folder.path("x.safetensors").exists());
        let output = interrupt(child, signal);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(output.stdout.is_empty());
        let last = stderr.lines().last().unwrap();
        assert!(last.starts_with("wavenet-trainer: interrupted after "), "{last}");
        assert!(last.ends_with("x.safetensors is saved, the same command with --resume goes on"));
        let mut names = folder.names();
        names.retain(|name| name != "x.previous.state");
        let expected = ["tiny.toml", "tones", "x.html", "x.prepared", "x.safetensors", "x.state"];
        assert_eq!(names, expected.map(str::to_owned));
        let (report, _) = folder.succeed("eval --json --model x.safetensors --data tones");
        assert!(report.contains("bits_per_sample"));
        // The time that was spent counts: with less than that the run is over at once.
        let (_, said) = folder
            .succeed(&training("x.safetensors", "--minutes 0.00001 --checkpoint-steps 4 --resume"));
        assert!(said.contains("going on after step "), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_while_files_are_decoded_keeps_them() {
    for command in ["prepare --out p", "train --out x.safetensors"] {
        let folder = Folder::new();
        // Minutes of work, from one file of ten seconds.
        folder.write("long.wav", tone(100.0, 10.0));
        std::fs::create_dir(folder.path("many")).unwrap();
        for n in 0..3_000 {
            let link = folder.path(&format!("many/take-{n}.wav"));
            std::os::unix::fs::symlink(folder.path("long.wav"), link).unwrap();
        }
        let before = folder.names();
        // At another rate than its own, which takes longer.
        folder.write("tiny.toml", "[model]\nsample_rate_hz = 15000");
        let rate =
            if command.starts_with("prepare") { "--rate 15000" } else { "--config tiny.toml" };
        let mut child =
            folder.command(&format!("{command} --data many --threads 1 {rate}")).spawn().unwrap();
        // Until the first of them is decoded.
        let out = command.split(' ').next_back().unwrap().replace("safetensors", "prepared");
        let journal = folder.path(&format!(".prepare-{out}/new/sources.jsonl"));
        wait_until(&mut child, || journal.metadata().is_ok_and(|file| file.len() > 0));
        let output = interrupt(child, "-INT");
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            "wavenet-trainer: interrupted; the same command goes on with the recordings that are left\n"
        );
        assert_eq!(output.status.code(), Some(130));
        let left: Vec<_> = folder.names().into_iter().filter(|n| !before.contains(n)).collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let journal = folder.read(&format!("{}/new/sources.jsonl", left[0]));
        assert!(journal.ends_with(b"}\n"), "nothing was kept");
    }
}

/// The program's own peak, as Linux keeps it, of whole runs: steps, checkpoints and validation.
#[cfg(target_os = "linux")]
#[test]
fn the_default_model_trains_within_500_mb() {
    let folder = Folder::new();
    folder.write("defaults.toml", "");
    for (name, hz) in [("A3", 220.0), ("E4", 330.0), ("A4", 440.0)] {
        folder.write(&format!("notes/{name}.wav"), tone(hz, 1.0));
    }
    for data in ["tones", "notes"] {
        let options =
            format!("--config defaults.toml --data {data} --steps 4 --threads 4 --overwrite");
        let mut child = folder.command(&training("x.safetensors", &options)).spawn().unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak_kb = 0;
        while child.try_wait().unwrap().is_none() {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            // A program that has just ended has no memory.
            if let Some(line) = line {
                peak_kb = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(child.wait().unwrap().success());
        eprintln!("{data}: {peak_kb} kB at most");
        assert!((10_000..500_000).contains(&peak_kb), "{data}: {peak_kb} kB");
    }
}

#[cfg(unix)]
fn interrupt(child: std::process::Child, signal: &str) -> std::process::Output {
    let kill = std::process::Command::new("kill").arg(signal).arg(child.id().to_string()).status();
    assert!(kill.unwrap().success());
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
fn wait_until(child: &mut std::process::Child, ready: impl Fn() -> bool) {
    while !ready() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was at work");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn a_few_hundred_steps_teach_it_a_sine() {
    let folder = Folder::new();
    let (text, _) = folder.succeed(&training("x.safetensors", "--steps 300"));
    assert!(text.starts_with("300 steps: "), "{text}");
    let (report, _) =
        folder.succeed("eval --json --model x.safetensors --data tones --split train");
    let report: Value = serde_json::from_str(&report).unwrap();
    let bits = report["bits_per_sample"].as_f64().unwrap();
    let unigram = report["unigram_bits_per_sample"].as_f64().unwrap();
    assert!(bits < 0.5 * unigram, "{bits} of {unigram}");
    assert!(report["accuracy"].as_f64().unwrap() > 0.5, "{report}");
}
