//! Bad input: one line on standard error, exit code 2, and no file left or changed.

use crate::Folder;
use crate::midi::phrase;

fn refuses(folder: &Folder, arguments: &str, expected: &str) {
    let before = folder.contents();
    let output = folder.run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments}: {stderr}");
    assert!(stderr.starts_with("wavenet: ") && stderr.ends_with('\n'), "{arguments}: {stderr}");
    assert!(stderr.contains(expected), "{arguments}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments}");
    assert!(folder.contents() == before, "{arguments} left or changed a file");
}

/// Refused by `render --out x.wav` with these options.
fn refuses_render(folder: &Folder, cases: &[(&str, &str)]) {
    for (options, expected) in cases {
        refuses(folder, &format!("render --out x.wav {options}"), expected);
    }
}

#[test]
fn models_that_are_none() {
    let folder = Folder::new();
    let whole = std::fs::read(folder.path("note.safetensors")).unwrap();
    std::fs::write(folder.path("cut"), &whole[..whole.len() - 1]).unwrap();
    std::fs::write(folder.path("empty"), "").unwrap();
    std::fs::write(folder.path("text"), "This is no model.".repeat(9)).unwrap();
    let mut damaged = whole;
    // Names the tensors: one of them is now another.
    let at = damaged.windows(8).position(|bytes| bytes == b"end1.bia").unwrap();
    damaged[at] = b'x';
    std::fs::write(folder.path("damaged"), damaged).unwrap();
    for (model, expected) in [
        ("missing.safetensors", "or a built-in model: instruments, bird"),
        ("cut", "cut: not a usable model"),
        ("cut", "get a fresh copy"),
        ("empty", "empty (get a fresh copy"),
        ("text", "not a complete .safetensors"),
        ("damaged", "not a usable model"),
        (".", "is not a file"),
    ] {
        let expected = expected.replace("cut: not", "not");
        for command in ["render --out x.wav", "inspect", "inspect --json", "bench"] {
            refuses(&folder, &format!("{command} --model {model}"), &expected);
        }
    }
}

#[test]
fn numbers_out_of_range() {
    refuses_render(
        &Folder::new(),
        &[
            ("--seconds -1", "24 hours"),
            ("--seconds 0", "24 hours"),
            ("--seconds 86401", "24 hours"),
            ("--seconds 1e300", "24 hours"),
            ("--seconds nan", "24 hours"),
            ("--seconds five", "24 hours"),
            ("--seconds 0.000001", "shorter than one sample"),
            ("--voices 0", "1..=64"),
            ("--voices 65", "1..=64"),
            ("--block 0", "1..=16384"),
            ("--temperature -1", "0 to 10"),
            ("--top-p 2", "0 to 1"),
            ("--release-ms -5", "0 to 60000"),
            ("--seed -1", "--seed"),
            ("--note 128", "0..=127"),
            ("--note H4", "A4 = 440 Hz"),
            ("--velocity 0", "1..=127"),
            ("--rate 10", "1000 to 768000 Hz"),
            ("--rate 191999", "44100 or 48000"),
            ("--seconds 86400 --rate 768000", "holds 2796 seconds at most"),
            ("--seconds 86400 --png x.png", "--png draws 8388 seconds at most"),
        ],
    );
}

#[test]
fn places_that_cannot_be_written() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("inner")).unwrap();
    std::fs::copy(folder.path("drone.safetensors"), folder.path("bare")).unwrap();
    std::fs::write(folder.path("locked.wav"), "precious").unwrap();
    let mut permissions = std::fs::metadata(folder.path("locked.wav")).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(folder.path("locked.wav"), permissions).unwrap();
    for (options, expected) in [
        ("--out missing/x.wav", "create the folder missing first"),
        ("--out .", "is a folder"),
        ("--out inner", "inner/sound.wav"),
        ("--out new/", "is a folder"),
        ("--out x.mp3", "did you mean x.wav?"),
        ("--out locked.wav", "write-protected"),
        ("--out drone.safetensors/x.wav", "cannot write"),
        ("--out bare --model bare", "what --model reads"),
        ("--out x.wav --png missing/x.png", "create the folder missing first"),
        ("--out x.wav --png inner", "is a folder"),
        ("--out x.wav --png x.jpg", "did you mean x.png?"),
        ("--out x --png x", "the same file"),
    ] {
        refuses(&folder, &format!("render {options}"), expected);
    }
    if cfg!(target_os = "linux") {
        // Closed even to root.
        refuses(&folder, "render --out /proc/x.wav", "cannot write --out /proc/x.wav");
        refuses(&folder, "render --out x.wav --png /proc/x.png", "cannot write --png");
    }
    // Not a device of the machine: if this check ever broke, root would replace it.
    #[cfg(unix)]
    {
        let _socket = std::os::unix::net::UnixListener::bind(folder.path("socket.wav")).unwrap();
        refuses(&folder, "render --out socket.wav", "not an ordinary file");
    }
}

#[test]
fn midi_files_that_are_none() {
    let folder = Folder::new();
    let whole = phrase();
    std::fs::write(folder.path("cut.mid"), &whole[..whole.len() - 3]).unwrap();
    std::fs::write(folder.path("text.mid"), "not a score").unwrap();
    std::fs::write(folder.path("empty.mid"), "").unwrap();
    let mut endless = whole.clone();
    endless[12..14].fill(0);
    std::fs::write(folder.path("zero.mid"), endless).unwrap();
    std::fs::write(folder.path("whole.mid"), &whole).unwrap();
    refuses_render(
        &folder,
        &[
            ("--midi missing.mid", "cannot read the MIDI file missing.mid"),
            ("--midi .", "it is not a file"),
            ("--midi cut.mid", "cut short"),
            ("--midi text.mid", "text.mid: it is not a Standard MIDI File"),
            ("--midi empty.mid", "not a Standard MIDI File"),
            ("--midi zero.mid", "divides time by zero"),
            ("--midi whole.mid --note 60", "cannot be used with"),
        ],
    );
}

#[test]
fn options_that_do_not_fit_the_model() {
    let folder = Folder::new();
    refuses_render(
        &folder,
        &[
            ("--model drone.safetensors --class alice", "no classes"),
            ("--model choir.safetensors --class eve", "alice, bob"),
        ],
    );
    for (arguments, expected) in [
        ("bench --shape 4,4,4", "64,256,256,10"),
        ("bench --shape 0,4,4,4", "residual_channels = 0"),
        ("bench --shape 4,4,4,0", "number of dilations = 0"),
        ("bench --shape 1024,4096,4096,128", "parameters"),
        ("bench --threads 3", "3 is not in 1..=2"),
        ("bench --seconds -3", "24 hours"),
    ] {
        refuses(&folder, arguments, expected);
    }
}

#[test]
fn command_lines_that_are_none() {
    let folder = Folder::new();
    for (arguments, expected) in [
        ("render", "--out"),
        ("perform", "unrecognized subcommand 'perform'"),
        ("render --out x.wav --not 60", "--note"),
        ("render --out -", "`wavenet stream` writes to a pipe"),
        ("stream --out x.wav", "> x.wav"),
        ("render --out x.wav --isa mmx", "avx512"),
        ("render --out x.wav --dtype f64", "int8"),
        ("render --out x.wav extra", "extra"),
    ] {
        refuses(&folder, arguments, expected);
    }
}

#[test]
fn folders_of_streams_that_cannot_be() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("there")).unwrap();
    for (options, expected) in [
        ("--out there", "is there already"),
        ("--out drone.safetensors", "is there already"),
        ("--out missing/many", "create the folder missing first"),
        ("--out many.wav", "names a file"),
        ("--out many --midi missing.mid", "missing.mid"),
        ("--out many --threads 2", "leave it out"),
        ("--out many --png x.png", "cannot be used with"),
    ] {
        let arguments = format!("render --streams 3 --model drone.safetensors {options}");
        refuses(&folder, &arguments, expected);
    }
}

/// Also where `auto` would find a GPU: who asks for what only a GPU has asks for the GPU too.
#[test]
fn what_only_a_gpu_has() {
    let folder = Folder::new();
    for command in [
        "render --out x.wav",
        "render --out x.wav --device cpu",
        "render --out many --streams 2",
        "stream --seconds 0.1",
        "play --midi-in none",
        "bench",
    ] {
        for mode in ["--fast", "--pipeline"] {
            let arguments = format!("{command} --model drone.safetensors {mode}");
            let expected =
                format!("{mode} is the GPU's; add --device cuda (of play: --backend cuda)");
            refuses(&folder, &arguments, &expected);
        }
    }
}

/// Where there is no GPU, whoever asks for one is told why.
#[test]
fn a_gpu_that_is_not_there() {
    let folder = Folder::new();
    let told = folder.succeed("inspect --model drone.safetensors --device cuda");
    let line = told.lines().last().unwrap().trim();
    if !line.contains("cuda: not available (") {
        assert!(line.contains("compute capability"), "{line}");
        eprintln!("skipped: this machine has a GPU");
        return;
    }
    assert!(folder.succeed("devices").contains(line.trim_start_matches("device").trim()));
    for command in [
        "render --out x.wav",
        "render --out many --streams 2",
        "stream --seconds 0.1",
        "play --midi-in none",
        "bench",
        "bench --sweep",
        "bench --micro",
    ] {
        let model = if command.contains("--micro") { "" } else { "--model drone.safetensors" };
        // The place has two names, as the device of `play` is the sound's.
        let name = if command.starts_with("play") { "--backend" } else { "--device" };
        let arguments = format!("{command} {model} {name} cuda");
        refuses(&folder, &arguments, "cuda: not available (");
        if !command.contains("--micro") {
            refuses(&folder, &arguments, "; without cuda the processor does it");
        }
        if !command.contains("--sweep") && !command.contains("--micro") {
            for mode in ["--fast", "--pipeline"] {
                let arguments = format!("{command} {model} {name} cuda {mode}");
                refuses(&folder, &arguments, "cuda: not available (");
            }
        }
    }
    let by_other_name = "render --model drone.safetensors --out x.wav --backend cuda";
    refuses(&folder, by_other_name, "cuda: not available (");
    refuses(&folder, "play --midi-in none --threads 2 --backend cuda", "leave it out on the GPU");
    refuses(&folder, "bench --micro", "add --device cuda");
}
