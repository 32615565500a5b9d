//! What a render writes, and that nothing else decides it than model, seed and options.

use crate::Folder;

#[test]
fn the_same_command_gives_the_same_bytes() {
    let folder = Folder::new();
    let note = "--model note.safetensors --seconds 0.3 --note 64";
    let first = folder.render(note);
    assert_eq!(folder.render(note), first);
    assert_eq!(folder.render(&format!("{note} --voices 64 --isa scalar")), first);
    assert_eq!(folder.render(&format!("{note} --threads 2")), first);
    for other in ["--seed 2", "--velocity 50", "--temperature 0.4", "--top-p 0.5"] {
        assert_ne!(folder.render(&format!("{note} {other}")), first, "{other}");
    }
}

#[test]
fn block_size_changes_no_byte() {
    let folder = Folder::new();
    std::fs::write(folder.path("phrase.mid"), crate::midi::phrase()).unwrap();
    for options in [
        "--model note.safetensors --midi phrase.mid --seconds 0.4",
        "--model note.safetensors --midi phrase.mid --seconds 0.4 --rate 44100",
        "--model drone.safetensors --seconds 0.2 --rate 8000",
    ] {
        let expected = folder.render(options);
        for block in [1, 64, 333, 4096] {
            assert_eq!(folder.render(&format!("{options} --block {block}")), expected, "{block}");
        }
    }
}

#[test]
fn every_rate_gives_the_length_that_was_asked() {
    let folder = Folder::new();
    for rate in [1_000, 8_000, 16_000, 22_050, 44_100, 48_000, 96_000] {
        for (seconds, frames) in
            [("0.1", rate / 10), ("0.002", rate / 500), ("0.35", rate * 35 / 100)]
        {
            let options = format!("--model drone.safetensors --seconds {seconds} --rate {rate}");
            let (rate_hz, samples) = folder.samples(&options);
            assert_eq!(rate_hz, rate);
            assert!((samples.len() as i64 - i64::from(frames)).abs() <= 1, "{options}");
        }
    }
}

#[test]
fn without_options_five_seconds_at_the_models_rate() {
    let folder = Folder::new();
    for model in ["note", "drone"] {
        let (rate_hz, samples) = folder.samples(&format!("--model {model}.safetensors"));
        assert_eq!((rate_hz, samples.len()), (16_000, 80_000));
    }
}

#[test]
fn a_note_fades_out_and_a_drone_does_not() {
    let folder = Folder::new();
    let loudest = |samples: &[i16]| samples.iter().map(|s| s.unsigned_abs()).max().unwrap();
    let note = "--model note.safetensors --seconds 0.5 --release-ms 250";
    let (_, samples) = folder.samples(note);
    let (start, end) = (loudest(&samples[..1_000]), loudest(&samples[7_900..]));
    assert!(start > 1_000 && end < start / 100, "{start} {end}");
    assert_eq!(samples[7_999], 0);
    let (_, samples) = folder.samples("--model drone.safetensors --seconds 0.5");
    assert!(loudest(&samples[7_900..]) > 1_000);
}

#[test]
fn classes_are_different_sounds_and_the_first_is_the_default() {
    let folder = Folder::new();
    let choir = "--model choir.safetensors --seconds 0.1";
    let alice = folder.render(&format!("{choir} --class alice"));
    assert_eq!(folder.render(choir), alice);
    assert_ne!(folder.render(&format!("{choir} --class bob")), alice);
}

#[test]
fn the_last_line_says_what_was_written() {
    let folder = Folder::new();
    let said = folder.succeed(
        "render --out x.wav --model drone.safetensors --seconds 0.25 --rate 48000 --png x.png",
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    for part in ["x.wav: 0.25 s at 48000 Hz, peak ", " dB", "times real time"] {
        assert!(said.contains(part), "{said}");
    }
    let png = std::fs::read(folder.path("x.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(folder.contents().len(), 3 + 2);
}

#[test]
fn an_older_file_is_replaced_and_permissions_are_ordinary() {
    let folder = Folder::new();
    std::fs::write(folder.path("made.wav"), "old").unwrap();
    let (_, samples) = folder.samples("--model drone.safetensors --seconds 0.1");
    assert_eq!(samples.len(), 1_600);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(folder.path("ordinary"), "").unwrap();
        let mode = |name| std::fs::metadata(folder.path(name)).unwrap().permissions().mode();
        assert_eq!(mode("made.wav"), mode("ordinary"));
    }
}

#[test]
fn the_built_in_model_plays() {
    let folder = Folder::new();
    let (rate_hz, samples) = folder.samples("--seconds 0.05 --release-ms 10");
    assert_eq!(samples.len() as u32, (rate_hz + 10) / 20);
}

#[cfg(unix)]
#[test]
fn an_interrupted_render_leaves_nothing() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    for signal in ["-INT", "-TERM"] {
        let folder = Folder::new();
        let before = folder.contents();
        let child = folder
            .command("render --out x.wav --model drone.safetensors --seconds 80000")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It is at work when its unfinished file is there and has grown.
        while folder.contents().iter().all(|(path, bytes)| {
            bytes.is_empty() || path.extension().is_some_and(|extension| extension == "safetensors")
        }) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!folder.path("x.wav").exists());
        let killed = Command::new("kill").arg(signal).arg(child.id().to_string()).status();
        assert!(killed.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        assert_eq!(output.stderr, b"wavenet: interrupted; nothing was written\n");
        assert!(folder.contents() == before);
    }
}

#[test]
fn streams_are_renders_with_seeds_of_their_own() {
    let folder = Folder::new();
    for options in [
        "--model note.safetensors --note 62 --seconds 0.2 --rate 22050",
        "--model choir.safetensors --class bob --seconds 0.1 --device cpu --dtype int8",
    ] {
        let alone = [8, 9, 10, 11].map(|seed| folder.render(&format!("{options} --seed {seed}")));
        let told = folder.succeed(&format!("render {options} --seed 8 --streams 4 --out many"));
        assert!(told.starts_with("many: 4 files of 0."), "{told}");
        for (name, alone) in ["08.wav", "09.wav", "10.wav", "11.wav"].iter().zip(alone) {
            assert!(std::fs::read(folder.path("many").join(name)).unwrap() == alone, "{name}");
        }
        assert_eq!(std::fs::read_dir(folder.path("many")).unwrap().count(), 4);
        std::fs::remove_dir_all(folder.path("many")).unwrap();
    }
}
