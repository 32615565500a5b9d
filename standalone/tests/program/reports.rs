//! What `inspect`, `bench` and the helps say.

use std::process::Stdio;

use serde_json::Value;

use crate::Folder;

fn json(folder: &Folder, arguments: &str) -> Value {
    serde_json::from_str(&folder.succeed(arguments)).unwrap()
}

#[test]
fn inspect_gives_the_promised_names() {
    let folder = Folder::new();
    let report = json(&folder, "inspect --json --model choir.safetensors");
    let file_bytes = std::fs::metadata(folder.path("choir.safetensors")).unwrap().len();
    for (name, expected) in [
        ("sample_rate_hz", Value::from(16_000)),
        ("layers", Value::from(4)),
        ("dilations", Value::from(vec![1, 2, 4, 8])),
        ("kernel_size", Value::from(2)),
        ("levels", Value::from(256)),
        ("residual_channels", Value::from(4)),
        ("gate_channels", Value::from(4)),
        ("skip_channels", Value::from(8)),
        ("end_channels", Value::from(8)),
        ("receptive_field_samples", Value::from(16)),
        ("receptive_field_ms", Value::from(1.0)),
        ("classes", Value::from(vec!["alice", "bob"])),
        ("root_key", Value::from(60)),
        ("default_dtype", Value::from("f32")),
        ("storage", Value::from("f32")),
        ("file_bytes", Value::from(file_bytes)),
    ] {
        assert_eq!(report[name], expected, "{name}");
    }
    assert_eq!(report["conditioning"]["kind"], "none");
    assert!(report["parameters"].as_u64().unwrap() * 4 < file_bytes);

    let report = json(&folder, "inspect --json --model note.safetensors");
    assert_eq!(report["conditioning"]["kind"], "note");
    assert_eq!(report["conditioning"]["partials"], 2);
    assert_eq!(report["conditioning"]["channels"], 2 + 3 + 4);
}

#[test]
fn inspect_has_a_table_for_people() {
    let folder = Folder::new();
    let table = folder.succeed("inspect --model choir.safetensors");
    for part in [
        "16,000 Hz",
        "alice, bob",
        "16 samples, 1.0 ms",
        "1 2 4 8",
        "it drones",
        "stored as f32, run as f32",
    ] {
        assert!(table.contains(part), "{table}");
    }
    assert_eq!(folder.succeed("inspect choir.safetensors"), table);
    assert!(folder.succeed("inspect").contains("built-in instruments"));
}

#[test]
fn a_sweep_has_a_row_for_every_kernel_of_this_machine() {
    let folder = Folder::new();
    let rows = json(&folder, "bench --sweep --json --seconds 0.001");
    let rows = rows.as_array().unwrap();
    for dtype in ["f32", "bf16", "int8"] {
        let scalar = |row: &&Value| row["dtype"] == dtype && row["isa"] == "scalar";
        assert_eq!(rows.iter().filter(scalar).count(), 8, "four models, one and eight voices");
    }
    assert!(rows.iter().all(|row| row["samples_per_second"].as_f64().unwrap() > 0.0));
    let table = folder.succeed("bench --sweep --seconds 0.001");
    assert_eq!(table.lines().count(), 1 + rows.len() / 2, "{table}");
}

#[test]
fn bench_gives_the_promised_names_and_they_agree() {
    let folder = Folder::new();
    for (options, shape, voices) in [
        ("--shape 8,16,12,3", "8,16,12,3", 1),
        ("--shape 8,16,12,3 --voices 3 --dtype f32 --isa scalar", "8,16,12,3", 3),
        ("--model note.safetensors --voices 2", "4,8,8,4", 2),
        ("--model choir.safetensors", "4,8,8,4", 1),
        ("--model choir.safetensors --threads 2", "4,8,8,4", 1),
    ] {
        let report = json(&folder, &format!("bench --json --seconds 0.05 {options}"));
        assert_eq!(report["shape"], shape, "{options}");
        assert_eq!(report["voices"], voices, "{options}");
        assert_eq!(report["threads"], if options.ends_with("--threads 2") { 2 } else { 1 });
        assert_eq!(report["dtype"], "f32");
        assert!(["auto", "scalar"].contains(&report["isa"].as_str().unwrap()));
        let number = |name: &str| report[name].as_f64().unwrap();
        let each = number("samples_per_second_per_voice");
        assert!(each > 0.0);
        assert!((number("samples_per_second") / each / f64::from(voices) - 1.0).abs() < 1e-9);
        assert!((number("realtime_factor") * 16_000.0 / each - 1.0).abs() < 1e-9);

        let share = number("share_of_roof");
        assert!(share > 0.0, "{share}");
        let best = number("best_steps_per_second");
        assert!(
            best >= each && (best / number("roof_steps_per_second") / share - 1.0).abs() < 1e-9
        );
        let read = number("weight_bytes_read_per_step");
        assert!(0.0 < read && read < number("weight_bytes"), "past taps are read now and then");
        // Each f32 is multiplied once a voice.
        let weights = number("weight_bytes") / 4.0;
        assert_eq!(number("multiply_adds_per_step"), weights * f64::from(voices));
        let bound = if number("weight_read_bytes_per_second") / read
            < number("multiply_adds_per_second") / number("multiply_adds_per_step")
        {
            "reads"
        } else {
            "multiply_adds"
        };
        assert_eq!(report["roof"], bound);
        assert!(number("l2_read_bytes_per_second") > 0.0);
    }
    let sentences = folder.succeed("bench --seconds 0.01");
    assert!(sentences.contains("samples a second") && sentences.contains("% of the roof"));
}

#[test]
fn helps_have_examples_and_go_where_they_belong() {
    let folder = Folder::new();
    for arguments in ["--help", "render --help", "bench --help"] {
        assert!(folder.succeed(arguments).contains("Examples:"), "{arguments}");
    }
    assert!(folder.succeed("--version").starts_with("wavenet "));
    // Without any argument the help is an answer to a mistake.
    let output = folder.run("");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Usage:"));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Folder::new().command("inspect").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.starts_with(b"wavenet: cannot write to standard output"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Folder::new();
    let mut child = folder.command("inspect").stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
