//! `--log`: a line for some steps and one for a validation, none of them twice.

use serde_json::Value;

use crate::recovery::EXPLODING;
use crate::{Folder, TINY, training};

/// The steps of all lines that have a field, in order.
fn steps(folder: &Folder, field: &str) -> Vec<u64> {
    let text = String::from_utf8(folder.read("runs/a/log.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines = lines.filter(|line| line.get(field).is_some());
    lines.map(|line| line["step"].as_u64().unwrap()).collect()
}

#[test]
fn a_resumed_log_has_every_step_once() {
    let folder = Folder::new();
    folder.write("tiny.toml", TINY.to_owned() + "validation_steps = 10");
    let options = "--log runs/a --log-steps 5 --checkpoint-steps 10";
    let train = |more: &str| training("x.safetensors", &format!("{options} {more}"));
    folder.succeed(&train("--steps 20"));
    let state = folder.read("x.state");
    assert_eq!(steps(&folder, "bits"), [5, 10, 15, 20]);
    assert_eq!(steps(&folder, "valid_bits"), [10, 20]);
    folder.succeed(&train("--steps 30 --resume"));
    // As though it had been killed before the last checkpoint.
    folder.write("x.state", state);
    folder.succeed(&train("--steps 40 --resume"));
    assert_eq!(steps(&folder, "bits"), [5, 10, 15, 20, 25, 30, 35, 40]);
    assert_eq!(steps(&folder, "valid_bits"), [10, 20, 30, 40]);

    let text = String::from_utf8(folder.read("runs/a/log.jsonl")).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    for field in ["bits", "learning_rate", "gradient_norm", "samples_per_s", "elapsed_s"] {
        assert!(first[field].as_f64().unwrap() > 0.0, "{field}: {first}");
    }
    let events = std::fs::read_dir(folder.path("runs/a")).unwrap().count() - 1;
    assert_eq!(events, 3, "an event file each time");
    // The report knows the run from its first step.
    let html = String::from_utf8(folder.read("x.html")).unwrap();
    assert!(html.contains("<dt>steps</dt><dd>40</dd>"), "{html}");
}

#[test]
fn a_run_that_goes_back_has_every_step_once_too() {
    let folder = Folder::new();
    let config = TINY.replace("learning_rate = 0.01\nwarmup_steps = 10", EXPLODING);
    folder.write("tiny.toml", config + "validation_steps = 10");
    let options = "--steps 800 --checkpoint-steps 20 --log runs/a --log-steps 1";
    let (_, said) = folder.succeed(&training("x.safetensors", options));
    assert!(said.contains(": back to step "), "{said}");
    assert_eq!(steps(&folder, "bits"), (1..=800).collect::<Vec<u64>>());
    assert_eq!(steps(&folder, "valid_bits"), (1..=80).map(|n| 10 * n).collect::<Vec<u64>>());
}

#[test]
fn a_log_of_another_run_and_places_that_take_none_are_refused() {
    let folder = Folder::new();
    folder.write("runs/a/log.jsonl", "");
    folder.write("file", "");
    for (options, expected) in [
        ("--log runs/a", "holds the log of an earlier run"),
        // There is nothing to resume, so it is another run's.
        ("--log runs/a --resume", "holds the log of an earlier run"),
        ("--log file", "is a file"),
        ("--log file/inside", "is a file"),
        ("--log-steps 3", "--log"),
    ] {
        folder.refuse(&training("x.safetensors", &format!("--steps 2 {options}")), expected);
    }
}
