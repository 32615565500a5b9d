//! Sound on a pipe.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::Folder;

fn streamed(folder: &Folder, options: &str) -> Vec<u8> {
    let output = folder.run(&format!("stream --out - {options}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_stream_holds_the_samples_of_a_render() {
    let folder = Folder::new();
    for model in ["drone", "note"] {
        let sound =
            format!("--model {model}.safetensors --seconds 0.4 --rate 22050 --temperature 0.9");
        let wav = streamed(&folder, &format!("{sound} --no-pace"));
        let raw = streamed(&folder, &format!("{sound} --no-pace --format s16le"));
        assert_eq!(raw.len(), 2 * 8_820);
        assert!(wav.ends_with(&raw) && wav.starts_with(b"RIFF"));
        // Its end is known, so a file of it is one like others.
        assert_eq!(hound::WavReader::new(&wav[..]).unwrap().len(), 8_820);
        if model == "drone" {
            folder.succeed(&format!("render --out x.wav {sound}"));
            let mut reader = hound::WavReader::open(folder.path("x.wav")).unwrap();
            let rendered: Vec<u8> =
                reader.samples::<i16>().flat_map(|sample| sample.unwrap().to_le_bytes()).collect();
            assert_eq!(raw, rendered);
        }
        let float = streamed(&folder, &format!("{sound} --no-pace --format f32le"));
        assert_eq!(float.len(), 4 * 8_820);
    }
}

#[test]
fn a_piece_comes_round_again() {
    let folder = Folder::new();
    std::fs::write(folder.path("phrase.mid"), crate::midi::phrase()).unwrap();
    let bytes = streamed(
        &folder,
        "--model note.safetensors --midi phrase.mid --seconds 4 --no-pace --format s16le --rate 8000",
    );
    assert_eq!(bytes.len(), 2 * 4 * 8_000);
    let sounds = |from_s: f64, to_s: f64| {
        let byte = |s: f64| 2 * (s * 8_000.0) as usize;
        bytes[byte(from_s)..byte(to_s)].iter().any(|&byte| byte != 0)
    };
    // Notes from 0.25 to 0.625 s, 150 ms of release, and 2 s of rest: then again.
    assert!(sounds(0.3, 0.6) && !sounds(1.0, 2.8) && sounds(2.9, 3.2));
}

#[test]
fn a_reader_that_goes_away_is_the_end() {
    let folder = Folder::new();
    let mut child = folder
        .command("stream --out - --model drone.safetensors")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 4096];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A terminal would show its bytes.
#[test]
fn a_stream_does_not_go_to_a_terminal() {
    let folder = Folder::new();
    let line = format!("{} stream --seconds 0.1", env!("CARGO_BIN_EXE_wavenet"));
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "typescript"])
        .current_dir(folder.path("."))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.starts_with("wavenet: a terminal cannot play"), "{told}");
}
