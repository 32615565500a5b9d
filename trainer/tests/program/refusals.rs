//! Wrong input: one line on standard error, exit code 2, and no file left or changed.

use wavenet_engine::{Config, NoteRecipe, Recipe, Weights};

use crate::{Folder, tone, training, wav};

/// Refused without any other word.
fn refuses(folder: &Folder, arguments: &str, expected: &str) {
    let lines = folder.refuse(arguments, expected);
    assert_eq!(lines.len(), 1, "{arguments}: {lines:?}");
}

#[test]
fn command_lines_that_are_none() {
    let folder = Folder::new();
    let train = "train --data tones --out x.safetensors";
    for (arguments, expected) in [
        ("play", "unrecognized subcommand 'play'"),
        ("train --data tones", "--out"),
        ("train --out x.safetensors", "--data"),
        (&format!("{train} extra"), "extra"),
        (&format!("{train} --step 3"), "'--steps'"),
        (&format!("{train} --steps 0"), "--steps"),
        (&format!("{train} --steps -3"), "--steps"),
        (&format!("{train} --minutes -1"), "above 0"),
        (&format!("{train} --minutes 0"), "above 0"),
        (&format!("{train} --epochs nan"), "above 0"),
        (&format!("{train} --epochs inf"), "above 0"),
        (&format!("{train} --steps 3 --minutes 1"), "cannot be used with"),
        (&format!("{train} --checkpoint-steps 0"), "--checkpoint-steps"),
        (&format!("{train} --patience 0"), "--patience"),
        (&format!("{train} --threads 0"), "--threads"),
        (&format!("{train} --seed -1"), "--seed"),
        (&format!("{train} --valid-fraction 1.5"), "below 1"),
        (&format!("{train} --valid-fraction nan"), "below 1"),
        (&format!("{train} --conditioning loud"), "note"),
        ("prepare --data tones --out p --rate 999", "1000..=192000"),
        ("prepare --data tones --out p --rate 192001", "1000..=192000"),
        ("prepare --data tones --out p --rate 44.1k", "--rate"),
        ("bench --shape 1,2", "four whole numbers are needed, such as 32,64,256,10"),
        ("bench --shape 4,4,4,129", "128 layers"),
        ("bench --shape 0,4,4,4", "residual_channels = 0"),
        ("bench --shape 1024,4096,4096,128", "parameters"),
        ("bench --batch 0", "--batch"),
        ("bench --device cuda", "--release -p wavenet-trainer --features cuda"),
        ("train --data tones --out x.safetensors --device cuda", "--features cuda"),
        ("bench --precision bf16", "only --device cuda"),
        ("train --data tones --out x.safetensors --precision tf32", "only --device cuda"),
        ("bench --device gpu", "possible values: cpu, cuda"),
        ("bench --steps 0", "--steps"),
        ("eval --data tones", "--model"),
        ("synth --out s --seconds 0", "between 0.5 and 60"),
        ("synth --out s --seconds -1", "between 0.5 and 60"),
        ("synth --out s --seconds nan", "between 0.5 and 60"),
    ] {
        refuses(&folder, arguments, expected);
    }
}

#[test]
fn labels_that_are_none() {
    let folder = Folder::new();
    folder.write("tones/labels.csv", "file,key\nlow.wav,A4\nmiddle.wav,A11\n");
    let expected = "tones/labels.csv: line 3, column key: `A11` is no note";
    for command in [&training("x.safetensors", ""), "prepare --data tones --out p"] {
        refuses(&folder, command, expected);
    }
    // One that is given comes before one that lies there.
    folder.write("good.csv", "file\n");
    folder.succeed("prepare --data tones --out p --labels good.csv");
    let prepare = "prepare --data tones --out q --labels";
    for (labels, expected) in [
        ("tones", "cannot read the labels tones: it is not a file"),
        ("missing.csv", "cannot read the labels missing.csv"),
        ("tones/low.wav", "line 1"),
    ] {
        refuses(&folder, &format!("{prepare} {labels}"), expected);
    }
    folder.write("good.csv", "file,class\nhigher.wav,x\n");
    let expected = "good.csv for tones: line 2, column file: there is no recording higher.wav";
    refuses(&folder, &format!("{prepare} good.csv"), expected);
    let train = training("x.safetensors", "--labels good.csv").replace("tones", "p");
    refuses(&folder, &train, "p is prepared already, its labels too");
}

#[test]
fn configs_that_are_none() {
    let folder = Folder::new();
    for (text, expected) in [
        ("[model]\nskip = 1", "unknown field `skip`"),
        ("[training]\nbatches = 1", "unknown field `batches`"),
        ("[modell]", "unknown field `modell`"),
        ("[model]\nkernel_size = 9", "kernel_size = 9; it must lie between 2 and 3"),
        ("[model]\ndilations = []", "number of dilations"),
        ("[model]\nresidual_channels = -4", "-4"),
        ("[model]\nend_channels = \"many\"", "many"),
        ("model = 3", "[model]"),
        ("[training]\nbatch = 0", "batch must lie between 1 and 4096"),
        ("[training]\nlearning_rate = nan", "learning_rate"),
        ("[training]\nlearning_rate = 2.0", "learning_rate"),
        ("[training]\nclip_norm = 0.0", "clip_norm must be above 0"),
        ("[training]\nvalidation_steps = 0", "validation_steps must be at least 1"),
        ("[training]\nschedule = \"steep\"", "unknown variant `steep`"),
        ("[training]\nschedule = \"exponential\"\nfinal_share = 0", "final_share above 0"),
        ("[training.augmentation]\ngain_db = [3, 0]", "gain_db must list the lowest and"),
        ("[training.augmentation]\npitch_cents = 900", "pitch_cents must lie between 0 and 200"),
        ("[training]\nshifts = []", "shifts"),
        ("This is no TOML.", "wrong.toml"),
        ("[model", "wrong.toml"),
        ("\u{0}\u{7f}", "wrong.toml"),
    ] {
        folder.write("wrong.toml", text);
        refuses(&folder, &training("x.safetensors", "--config wrong.toml"), expected);
    }
    folder.write("wrong.toml", [0xff, 0xfe, 0x00]);
    refuses(&folder, &training("x.safetensors", "--config wrong.toml"), "wrong.toml");
    for missing in ["missing.toml", "tones"] {
        let expected = format!("cannot read the config {missing}");
        refuses(&folder, &training("x.safetensors", &format!("--config {missing}")), &expected);
    }
    // More than a model file may hold.
    folder.write(
        "wrong.toml",
        "[model]\nskip_channels = 4096\nend_channels = 4096\ngate_channels = 1024\n\
         dilations = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512,\
          1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512,\
          1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]",
    );
    refuses(
        &folder,
        &training("x.safetensors", "--config wrong.toml"),
        "the config wrong.toml: a model of",
    );
}

#[test]
fn places_that_cannot_be_written() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("inner.safetensors")).unwrap();
    std::fs::create_dir_all(folder.path("y.state")).unwrap();
    folder.write("z.prepared/diary.txt", "precious");
    folder.write("locked.safetensors", "precious");
    let mut permissions = folder.path("locked.safetensors").metadata().unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(folder.path("locked.safetensors"), permissions).unwrap();
    for (out, expected) in [
        ("missing/x.safetensors", "create the folder missing first"),
        ("tiny.toml/x.safetensors", "create the folder tiny.toml first"),
        ("inner.safetensors", "is a folder"),
        (".", "is a folder"),
        ("new/", "is a folder"),
        ("tones/..", "is a folder"),
        ("x.onnx", "did you mean x.safetensors?"),
        ("x.state", "did you mean x.safetensors?"),
        ("locked.safetensors", "write-protected"),
        ("y.safetensors", "y.state is a folder"),
        ("z.safetensors", "z.prepared exists and is not a prepared corpus"),
    ] {
        refuses(&folder, &training(out, "--steps 3"), expected);
        // That comes first: nobody waits for an hour of decoding to hear it.
        if out != "z.safetensors" {
            refuses(&folder, &training(out, "--steps 3 --data nowhere"), expected);
        }
    }
    for (arguments, expected) in [
        ("prepare --data tones --out z.prepared", "choose another folder"),
        ("prepare --data tones --out tones", "choose another folder"),
        ("prepare --data tones --out tiny.toml", "choose another folder"),
        ("prepare --data tones --out tiny.toml/p", "cannot write tiny.toml/p"),
        ("synth --out tones", "choose another"),
        ("synth --out tiny.toml", "choose another"),
        ("synth --out tiny.toml/s", "cannot write tiny.toml/s"),
    ] {
        refuses(&folder, arguments, expected);
    }
    if cfg!(target_os = "linux") {
        // Closed even to root.
        let train = training("/proc/x.safetensors", "--steps 3");
        refuses(&folder, &train, "choose another place");
        let lines = folder.refuse(&train, "");
        assert!(!lines[0].contains(".wavenet-"), "a name that nobody gave: {lines:?}");
        refuses(&folder, "prepare --data tones --out /proc/p", "cannot write /proc/p");
        refuses(&folder, "synth --out /proc/s", "cannot write /proc/s");
    }
    #[cfg(unix)]
    {
        // Something that is no file, but can be replaced without harm, unlike a device.
        let path = folder.path("socket.safetensors");
        let _socket = std::os::unix::net::UnixListener::bind(path).unwrap();
        let train = training("socket.safetensors", "--steps 3");
        refuses(&folder, &train, "not an ordinary file");
    }
}

#[test]
fn models_that_would_be_lost() {
    let folder = Folder::new();
    let model = folder.train("x.safetensors", "--steps 3");
    // Before anything is read, wherever the recordings are and whatever the config says.
    folder.write("wrong.toml", "This is no TOML.");
    for options in ["--steps 4", "--data nowhere", "--config wrong.toml", "--finetune missing"] {
        let expected = "x.safetensors exists; add --resume to go on with it, --overwrite to begin anew, or \
                        choose another --out";
        refuses(&folder, &training("x.safetensors", options), expected);
    }
    let both = training("x.safetensors", "--steps 4 --overwrite --resume");
    refuses(&folder, &both, "cannot be used with");
    // The state alone is worth as much.
    std::fs::rename(folder.path("x.safetensors"), folder.path("y.safetensors")).unwrap();
    let again = training("x.safetensors", "--steps 4");
    refuses(&folder, &again, "x.state exists; add --resume");
    std::fs::rename(folder.path("x.state"), folder.path("x.previous.state")).unwrap();
    refuses(&folder, &again, "x.previous.state exists; add --resume");
    // A model without one cannot be gone on with, and is no less lost.
    let expected = "y.safetensors exists, but there is no y.state to go on from; add --overwrite";
    refuses(&folder, &training("y.safetensors", "--steps 4 --resume"), expected);
    assert!(folder.train("y.safetensors", "--steps 4 --overwrite") != model);
    assert!(folder.train("y.safetensors", "--steps 3 --overwrite") == model);
}

#[test]
fn recordings_that_are_none() {
    let folder = Folder::new();
    Weights::random(Config::default(), 1).unwrap().save(&folder.path("m.safetensors")).unwrap();
    std::fs::create_dir(folder.path("empty")).unwrap();
    folder.write("text/readme.txt", "no recordings here");
    let not_a_number = wav(hound::SampleFormat::Float, |writer| {
        for n in 0..8_000 {
            writer.write_sample(if n == 4_000 { f32::NAN } else { 0.1 }).unwrap();
        }
    });
    let quiet = wav(hound::SampleFormat::Int, |writer| {
        (0..8_000).for_each(|_| writer.write_sample(0_i16).unwrap());
    });
    let nothing = wav(hound::SampleFormat::Int, |_| {});
    for name in ["one", "two", "three"] {
        folder.write(&format!("junk/{name}.wav"), "This is no recording.".repeat(99));
        folder.write(&format!("cut/{name}.wav"), &tone(300.0, 0.4)[..5_000]);
        folder.write(&format!("header/{name}.wav"), &tone(300.0, 0.4)[..20]);
        folder.write(&format!("nan/{name}.wav"), &not_a_number);
        folder.write(&format!("quiet/{name}.wav"), &quiet);
        folder.write(&format!("nothing/{name}.flac"), &nothing);
        folder.write(&format!("opus/{name}.opus"), "OggS");
    }
    for (data, expected) in [
        ("missing", "there is no folder missing"),
        ("tiny.toml", "give the folder that it lies in"),
        ("empty", "no recordings in empty: looked for .wav"),
        ("text", "no recordings in text: looked for .wav"),
        ("junk", "convert it to WAV"),
        ("cut", "is cut short or damaged"),
        ("header", "re-export it or remove it"),
        ("nan", "holds a sample that is no number (NaN or infinite) at 0.2 s"),
        ("quiet", "every recording in quiet is silence"),
        ("nothing", "nothing"),
        ("opus", "is an .opus file"),
    ] {
        for command in [
            "prepare --out p",
            "prepare --out new/folder/p",
            "train --out x.safetensors --config tiny.toml --steps 3",
            "eval --model m.safetensors",
        ] {
            refuses(&folder, &format!("{command} --data {data}"), expected);
        }
    }
    for valid in ["missing", "empty", "junk"] {
        refuses(&folder, &format!("prepare --out p --data tones --valid {valid}"), valid);
    }
    refuses(&folder, "prepare --out p --data tones --valid tones", "in the other");
}

#[test]
fn prepared_folders_that_are_damaged() {
    let folder = Folder::new();
    folder.succeed("prepare --data tones --out p");
    let (index, samples) = (folder.read("p/index.json"), folder.read("p/samples.f32"));
    let train = training("x.safetensors", "--steps 3 --data p");
    folder.write("p/samples.f32", &samples[1..]);
    refuses(&folder, &train, "p is damaged: delete it and prepare again");
    folder.write("p/samples.f32", vec![0xff; samples.len()]);
    folder.refuse(&train, "p is damaged: delete it and prepare again");
    folder.write("p/samples.f32", &samples);
    folder.write("p/index.json", &index[..index.len() / 2]);
    refuses(&folder, &train, "no recordings in p");
    folder.write("p/index.json", &index);
    folder.write("other.toml", "[model]\nsample_rate_hz = 22050");
    let other = train.replace("tiny.toml", "other.toml");
    refuses(&folder, &other, "prepared at 16000 Hz, but the model runs at 22050 Hz");
}

#[test]
fn models_that_are_none_or_do_not_suit() {
    let folder = Folder::new();
    let tiny = Config {
        residual_channels: 4,
        gate_channels: 4,
        skip_channels: 8,
        end_channels: 8,
        dilations: vec![1, 2, 4],
        ..Config::default()
    };
    let note = Recipe::Note(NoteRecipe { partials: 2, ..NoteRecipe::default() });
    let classes = || vec!["alice".into(), "bob".into()];
    for (name, config) in [
        ("drone", tiny.clone()),
        ("choir", Config { classes: classes(), ..tiny.clone() }),
        ("note", Config { conditioning: note, ..tiny }),
    ] {
        let path = folder.path(&format!("{name}.safetensors"));
        Weights::random(config, 1).unwrap().save(&path).unwrap();
    }
    let whole = folder.read("drone.safetensors");
    folder.write("cut", &whole[..whole.len() - 1]);
    folder.write("empty", "");
    folder.write("text", "This is no model.".repeat(9));
    folder.write("wrong", String::from_utf8_lossy(&whole).replace("end1.bia", "xnd1.bia"));
    let mut nan = whole.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    folder.write("nan", nan);
    // The cause is said once, whatever the system calls it.
    let [line] = &folder.refuse("eval --data tones --model robin", "")[..] else {
        panic!("not one line")
    };
    let said = "wavenet-trainer: cannot read the model: robin: ";
    let cause = line.strip_prefix(said).expect("another beginning");
    assert!(!cause.is_empty() && line.matches(cause).count() == 1, "{line}");
    assert_eq!(cause.matches("os error").count(), 1, "{line}");
    for (model, expected) in [
        ("bird", "the trainer takes files: that one is models/bird.safetensors in the repository"),
        ("missing.safetensors", "cannot read the model: missing.safetensors"),
        ("cut", "cut (get a fresh copy, or train it again): not a usable model"),
        ("empty", "empty (get a fresh copy"),
        ("text", "not a complete .safetensors"),
        ("wrong", "not a usable model"),
        ("nan", "NaN"),
        ("tones", "tones is not a file"),
    ] {
        for options in ["", " --json"] {
            let arguments = format!("eval --data tones --model {model}{options}");
            refuses(&folder, &arguments, expected);
        }
    }
    for voice in ["alice", "eve"] {
        for take in ["one", "two"] {
            folder.write(&format!("voices/{voice}/{take}.wav"), tone(200.0, 0.3));
        }
    }
    // The table of the recordings comes before these.
    for (arguments, expected) in [
        (
            "--model choir.safetensors --data tones",
            "the model has classes (alice, bob), but high.wav lies in no",
        ),
        ("--model choir.safetensors --data voices", "(alice, bob), but eve/one.wav lies in no"),
        ("--model note.safetensors --data tones", "nothing tells those of the recordings"),
    ] {
        folder.refuse(&format!("eval {arguments}"), expected);
    }
}

#[test]
fn conditioning_that_the_recordings_do_not_tell() {
    let folder = Folder::new();
    folder.succeed("prepare --data tones --out p");
    for (conditioning, expected) in
        [("note", "leave out --conditioning note"), ("class", "leave out --conditioning class")]
    {
        let options = format!("--steps 3 --conditioning {conditioning}");
        folder.refuse(&training("x.safetensors", &format!("{options} --data p")), expected);
        // Samples that had to be decoded for this are whole, and the next try finds them.
        folder.fail(&training("x.safetensors", &options), expected);
        wavenet_trainer::prepared::Prepared::open(&folder.path("x.prepared")).unwrap();
        folder.refuse(&training("x.safetensors", &options), expected);
        assert_eq!(folder.names(), ["p", "tiny.toml", "tones", "x.prepared"]);
    }
}

#[test]
fn notes_that_are_none() {
    let folder = Folder::new();
    let hiss = wav(hound::SampleFormat::Int, |writer| {
        let mut state = 1_u32;
        for _ in 0..6_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            writer.write_sample((state >> 18) as i16).unwrap();
        }
    });
    folder.write("hiss/A4.wav", &hiss);
    folder.write("hiss/C5.wav", &hiss);
    folder.succeed("prepare --data hiss --out p");
    let train = training("x.safetensors", "--steps 3 --data p");
    folder.refuse(&train, "--conditioning none trains without them");
    let both = training("x.safetensors", "--steps 3 --data p --conditioning none --valid hiss");
    folder.refuse(&both, "is prepared already");
    folder.succeed(&format!("{train} --conditioning none"));
}

#[test]
fn states_that_do_not_fit() {
    let folder = Folder::new();
    let train = |options: &str| training("x.safetensors", &format!("--steps 6 --resume {options}"));
    // Nothing to go on from is no mistake: a script may say --resume always.
    let (_, said) = folder.succeed(&train(""));
    let first = "warning: there is no x.state to resume from: starting afresh\n";
    assert!(said.starts_with(first), "{said}");
    let other = |differences: &str| {
        format!(
            "x.safetensors was trained with other settings ({differences}); use the same ones to go on, or \
             train with --overwrite"
        )
    };
    refuses(&folder, &train("--seed 2"), &other("--seed: 1, now 2"));
    for (setting, changed, differences) in [
        ("batch = 2", "batch = 3", "batch: 2, now 3"),
        ("gate_channels = 8", "gate_channels = 9", "gate_channels: 8, now 9"),
        ("[model]", "[model]\nsample_rate_hz = 15000", "sample_rate_hz: 16000, now 15000"),
    ] {
        folder.write("other.toml", crate::TINY.replace(setting, changed));
        // Before anything is decoded, so that the samples of the run stay what they are.
        refuses(&folder, &train("--config other.toml"), &other(differences));
    }
    // Recordings that tell more are other recordings, whatever follows from them.
    for (name, hz) in [("A3", 220.0), ("C4", 261.6), ("E4", 329.6)] {
        folder.write(&format!("notes/{name}.wav"), tone(hz, 0.4));
    }
    folder.succeed("prepare --data notes --out q");
    folder.refuse(&train("--data q"), "x.safetensors was trained on other recordings");
    for voice in ["alice", "bob"] {
        folder.write(&format!("voices/{voice}/one.wav"), tone(200.0, 0.3));
    }
    folder.succeed("prepare --data voices --out p");
    folder.refuse(&train("--data p"), "x.safetensors was trained on other recordings");
    let whole = folder.read("x.state");
    let mut not_a_number = whole.clone();
    let end = whole.len();
    not_a_number[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    for damaged in [
        &whole[..end - 1],
        &whole[..100],
        &[],
        b"This is no state.",
        &folder.read("x.safetensors"),
        &not_a_number,
    ] {
        folder.write("x.state", damaged);
        folder.refuse(&train(""), "x.state cannot be resumed from; train with --overwrite");
    }
    folder.write("x.state", whole);
    let notes = "--steps 3 --data q --resume";
    folder.train("y.safetensors", notes);
    let none = training("y.safetensors", &format!("{notes} --conditioning none"));
    let expected = "with other settings (--conditioning: note, now none); use the same ones";
    folder.refuse(&none, expected);
    let (_, said) = folder.succeed(&train(""));
    assert!(said.contains("going on after step 6"), "{said}");
}
