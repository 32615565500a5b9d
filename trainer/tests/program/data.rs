//! What `synth`, `prepare`, `eval` and `bench` make and say.

use std::process::Stdio;

use serde_json::Value;

use crate::{Folder, tone, training};

fn json(folder: &Folder, arguments: &str) -> Value {
    serde_json::from_str(&folder.succeed(arguments).0).unwrap()
}

fn keys(report: &Value) -> Vec<&str> {
    report.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn synth_writes_the_same_recordings_for_the_same_seed() {
    let folder = Folder::new();
    let contents = |name: &str| {
        let files = folder.contents().into_iter();
        let below = files.filter_map(|(path, bytes)| {
            path.strip_prefix(folder.path(name)).ok().map(|path| (path.to_owned(), bytes))
        });
        below.collect::<Vec<_>>()
    };
    let (text, said) = folder.succeed("synth --out a --seconds 0.5");
    assert_eq!((text.as_str(), said.as_str()), ("121 recordings in a\n", ""));
    std::fs::create_dir(folder.path("b")).unwrap();
    folder.succeed("synth --out b --seconds 0.5 --seed 1 --timbre noise,pad");
    folder.succeed("synth --out new/c --seconds 0.5 --seed 2 --timbre noise --timbre pad");
    let some = contents("b");
    assert_eq!(some.iter().filter(|(_, bytes)| !bytes.is_empty()).count(), 6 + 44);
    assert!(contents("a").iter().filter(|file| some.contains(file)).count() == some.len());
    assert!(some != contents("new/c"));
}

#[test]
fn preparing_again_does_nothing_and_training_finds_it() {
    let folder = Folder::new();
    let (text, table) = folder.succeed("prepare --data tones --out new/p");
    assert_eq!(text, "prepared in new/p\n");
    assert!(table.contains("read      3 files"), "{table}");
    let written = || {
        let changed = |name: &str| folder.path(name).metadata().unwrap().modified().unwrap();
        (changed("new/p"), changed("new/p/index.json"), changed("new/p/samples.f32"))
    };
    let (before, first) = (folder.contents(), written());
    assert_eq!(folder.succeed("prepare --data tones --out new/p").1, table);
    assert!(folder.contents() == before && written() == first);

    let from_prepared = folder.train("a.safetensors", "--data new/p --steps 5");
    assert!(folder.train("b.safetensors", "--data tones --steps 5") == from_prepared);
    assert!(!folder.path("a.prepared").exists());
    let eval = |data: &str| folder.succeed(&format!("eval --model a.safetensors --data {data}")).0;
    assert_eq!(eval("new/p"), eval("tones"));
    assert!(written() == first);

    // Another file, another corpus.
    folder.write("tones/more.wav", tone(300.0, 0.4));
    let (_, table) = folder.succeed("prepare --data tones --out new/p");
    assert!(table.contains("read      4 files"), "{table}");
    assert!(written() != first);
}

#[test]
fn the_table_tells_notes_without_classes_from_no_labels_at_all() {
    let folder = Folder::new();
    let (_, table) = folder.succeed("prepare --data tones --out p");
    assert!(table.contains("\nlabels    none\nnotes     none\n"), "{table}");
    folder.write("notes/A3.wav", tone(220.0, 0.4));
    folder.write("notes/E4.wav", tone(330.0, 0.4));
    let (_, table) = folder.succeed("prepare --data notes --out q");
    assert!(table.contains("\nlabels    notes only, no classes\nnotes     A3 to E4,"), "{table}");
}

#[test]
fn files_that_cannot_be_read_are_named_and_the_others_taken() {
    let folder = Folder::new();
    folder.write("tones/cut.wav", &tone(300.0, 0.4)[..5_000]);
    let train = training("x.safetensors", "--steps 2");
    for command in
        ["prepare --data tones --out p", &train, "eval --model x.safetensors --data tones"]
    {
        let (_, table) = folder.succeed(command);
        assert!(table.contains("skipped   1 file\n            cut.wav is cut short"), "{table}");
    }
}

#[test]
fn eval_gives_the_promised_names_and_they_agree() {
    let folder = Folder::new();
    folder.train("x.safetensors", "--steps 20");
    let eval = |options: &str| {
        json(&folder, &format!("eval --json --model x.safetensors --data tones {options}"))
    };
    let all = eval("");
    assert_eq!(keys(&all), ["accuracy", "bits_per_sample", "samples", "unigram_bits_per_sample"]);
    let (train, valid) = (eval("--split train"), eval("--split valid"));
    let samples = |report: &Value| report["samples"].as_u64().unwrap();
    assert_eq!(samples(&all), samples(&train) + samples(&valid));
    let nats =
        |report: &Value| report["bits_per_sample"].as_f64().unwrap() * samples(report) as f64;
    assert!((nats(&all) / (nats(&train) + nats(&valid)) - 1.0).abs() < 1e-9);
    let share = all["accuracy"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&share));
    assert_eq!(eval("--threads 1"), eval("--threads 3"));
    let sentence = folder.succeed("eval --model x.safetensors --data tones").0;
    let bits = format!("{:.4} bits a sample", all["bits_per_sample"].as_f64().unwrap());
    assert!(sentence.starts_with(&bits) && sentence.lines().count() == 1, "{sentence}");
}

#[test]
fn eval_says_what_notes_a_model_is_not_told() {
    let folder = Folder::new();
    for (name, hz) in [("A3", 220.0), ("C4", 261.6), ("E4", 329.6)] {
        folder.write(&format!("notes/{name}.wav"), tone(hz, 0.4));
    }
    folder.train("none.safetensors", "--steps 2");
    folder.train("notes.safetensors", "--data notes --steps 2");
    let notes = |model: &str, data: &str| {
        let (_, said) = folder.succeed(&format!("eval --model {model}.safetensors --data {data}"));
        let notes: Vec<String> =
            said.lines().filter(|line| line.starts_with("note: ")).map(str::to_owned).collect();
        notes.join("\n")
    };
    assert_eq!(notes("none", "tones"), "");
    assert_eq!(notes("notes", "notes"), "");
    let none = "note: the recordings tell their notes, but this model knows none: ";
    assert!(notes("none", "notes").starts_with(none), "{}", notes("none", "notes"));
    folder.write("notes/take.wav", tone(300.0, 0.4));
    assert_eq!(notes("none", "notes"), "");
    let left = "note: this model plays notes, and nothing tells those of 1 of 4 recordings: ";
    assert!(notes("notes", "notes").starts_with(left), "{}", notes("notes", "notes"));
}

#[test]
fn bench_gives_the_promised_names_and_they_agree() {
    let folder = Folder::new();
    let bench = "bench --shape 4,8,6,3 --batch 2 --window 300 --threads 1 --steps 3";
    let report = json(&folder, &format!("{bench} --json"));
    let promised = [
        "batch",
        "device",
        "fastest_step_ms",
        "parameters",
        "precision",
        "roof_ms",
        "samples_per_second",
        "shape",
        "step_ms",
        "threads",
        "window",
    ];
    assert_eq!(keys(&report), promised);
    assert_eq!(report["device"], "cpu");
    assert_eq!(report["shape"], Value::from(vec![4, 8, 6, 3]));
    let number = |name: &str| report[name].as_f64().unwrap();
    let samples = number("samples_per_second") * number("step_ms") / 1e3;
    assert!((samples - 600.0).abs() < 1e-6, "{report}");
    assert!(number("fastest_step_ms") <= number("step_ms"), "{report}");
    assert!(number("roof_ms") > 0.0 && number("roof_ms") < number("fastest_step_ms"), "{report}");
    let (sentence, said) = folder.succeed(bench);
    assert!(sentence.contains(" ms a step, ") && said.is_empty(), "{sentence}{said}");
}

#[test]
fn helps_are_answers() {
    let folder = Folder::new();
    assert!(folder.succeed("--help").0.contains("Try it without recordings of your own"));
    assert!(folder.succeed("train --help").0.contains("Ctrl-C saves the model"));
    assert!(folder.succeed("--version").0.starts_with("wavenet-trainer "));
    // Without any argument the help is an answer to a mistake.
    let output = folder.run("");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Usage:"));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let bench = "bench --shape 1,1,1,1 --window 16 --steps 1";
    let output = Folder::new().command(bench).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.starts_with(b"wavenet-trainer: cannot write to standard output"));
}

#[test]
fn readers_that_go_away_are_no_error() {
    let folder = Folder::new();
    for (stdout, stderr) in [(true, false), (false, true)] {
        let pipe = |closed| if closed { Stdio::piped() } else { Stdio::null() };
        let mut command = folder.command(&training("x.safetensors", "--steps 2 --resume"));
        let mut child = command.stdout(pipe(stdout)).stderr(pipe(stderr)).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
