//! `wavenet play` through a device that is one but for the air: a JACK server of our own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::Folder;
use crate::jack::{self, Guarded, Jack, terminate, wait_for};
use crate::midi::phrase;

/// Tests that need their time in time run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// `wavenet play` with these options, through a JACK server.
fn play(folder: &Folder, jack: &str, options: &str) -> Command {
    let mut command = folder.command(&format!("play --host jack {options}"));
    command.env("JACK_DEFAULT_SERVER", jack).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a child writes until it ends.
fn all_of(stream: Option<impl Read>) -> String {
    let mut text = String::new();
    stream.unwrap().read_to_string(&mut text).unwrap();
    text
}

/// Lines that a child writes to standard error, as they come.
fn errors_of(child: &mut Child) -> Arc<Mutex<String>> {
    let lines = Arc::new(Mutex::new(String::new()));
    let (into, from) = (Arc::clone(&lines), child.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().unwrap().push_str(&format!("{line}\n"));
        }
    });
    lines
}

#[test]
fn for_a_minute_a_device_gets_the_samples_of_a_render_without_an_underrun() {
    if !jack::is_there() {
        return;
    }
    let (_turn, folder, jack) = (alone(), Folder::new(), Jack::start());
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/phrase.mid");
    let sound = format!("--midi {demo} --rate 48000");
    let rendered = folder.samples(&sound).1;

    let options = format!("{sound} --loop --seconds 60 --buffer-ms 20");
    let mut player = Guarded(play(&folder, &jack.name, &options).spawn().unwrap());
    let port = jack.port_of(player.0.id());
    let recorded = jack.record(&port, 8, &folder.path("recorded.wav"));
    let told = all_of(player.0.stdout.take());
    let errors = all_of(player.0.stderr.take());
    assert_eq!(player.0.wait().unwrap().code(), Some(0), "{errors}");
    assert!(errors.is_empty() || errors.starts_with("note: "), "{errors}");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(
        lines[0].starts_with("playing built-in instruments through JACK Output (JACK) at 48000 Hz"),
        "{told}"
    );
    let expected =
        "played 60.0 s (2880000 frames): 0 underruns, 0 missing frames, 0 dropped events";
    assert!(lines[1].starts_with(expected), "{told}");

    // The recorder came in somewhere: a loud bit of what it heard tells where.
    let loud = recorded.iter().position(|sample| sample.unsigned_abs() > 1 << 26).unwrap();
    let probe = &recorded[loud..loud + 400];
    // A render is rounded to 16 bits.
    let same = |(&recorded, &rendered): (&i32, &i16)| {
        let rendered = f64::from(rendered) / 32_767.0;
        (f64::from(recorded) / 2_147_483_648.0 - rendered).abs() <= 1.0 / 32_767.0
    };
    let places: Vec<usize> = (0..rendered.len() - probe.len())
        .filter(|&place| probe.iter().zip(&rendered[place..]).all(same))
        .collect();
    assert_eq!(places.len(), 1, "the recording is none of the render");
    let (from, skipped) = (places[0].saturating_sub(loud), loud.saturating_sub(places[0]));
    let silence = &recorded[..skipped];
    assert!(silence.iter().all(|&sample| sample == 0), "something before the beginning");
    let (heard, expected) = (&recorded[skipped..], &rendered[from..]);
    let different = heard.iter().zip(expected).position(|pair| !same(pair));
    assert_eq!(different, None, "of {} samples", heard.len().min(expected.len()));
    assert!(heard.len().min(expected.len()) > 5 * 48_000);
}

#[test]
fn a_device_that_dies_is_waited_for() {
    if !jack::is_there() {
        return;
    }
    let (_turn, folder, jack) = (alone(), Folder::new(), Jack::start());
    let name = jack.name.clone();
    let drone = "--model drone.safetensors --drone --voices 1";
    let mut player = Guarded(play(&folder, &name, drone).spawn().unwrap());
    let errors = errors_of(&mut player.0);
    let heard = |jack: &Jack, file: &str| {
        let port = jack.port_of(player.0.id());
        jack.record(&port, 1, &folder.path(file)).iter().any(|&sample| sample != 0)
    };
    assert!(heard(&jack, "before.wav"));
    jack.kill();
    wait_for("the news", || errors.lock().unwrap().contains("JACK Output is gone ("));
    let jack = Jack::named(&name);
    wait_for("more news", || errors.lock().unwrap().contains("playing again through JACK Output"));
    assert!(heard(&jack, "after.wav"), "silence after the device came back");

    terminate(&player.0);
    let told = all_of(player.0.stdout.take());
    assert_eq!(player.0.wait().unwrap().code(), Some(0), "{told}");
    let errors = errors.lock().unwrap();
    assert_eq!(errors.lines().count(), 2, "{errors}");
    assert!(told.lines().last().unwrap().starts_with("played "), "{told}");
}

/// A `wavenet play` at a terminal of its own, whose screen is kept.
fn at_a_terminal(folder: &Folder, jack: &Jack, line: &str) -> (Guarded, Arc<Mutex<Vec<u8>>>) {
    let terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", line, "typescript"])
        .current_dir(folder.path("."))
        .env("JACK_DEFAULT_SERVER", &jack.name)
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut terminal = Guarded(terminal.unwrap());
    let screen = Arc::new(Mutex::new(Vec::new()));
    let (into, mut from) = (Arc::clone(&screen), terminal.0.stdout.take().unwrap());
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            into.lock().unwrap().extend(&bytes[..count]);
        }
    });
    (terminal, screen)
}

fn wait_until_it_shows(screen: &Mutex<Vec<u8>>, text: &str) {
    wait_for(text, || String::from_utf8_lossy(&screen.lock().unwrap()).contains(text));
}

#[test]
fn keys_play_in_a_terminal_and_leave_it_as_it_was() {
    if !jack::is_there() {
        return;
    }
    let (folder, jack) = (Folder::new(), Jack::start());
    let line = format!(
        "stty -a > before; {} play --host jack --model choir.safetensors --midi-in all; \
         echo code $?; stty -a > after",
        env!("CARGO_BIN_EXE_wavenet")
    );
    let (mut terminal, screen) = at_a_terminal(&folder, &jack, &line);
    let shows = |text: &str| wait_until_it_shows(&screen, text);
    let mut keys = terminal.0.stdin.take().unwrap();
    let mut press = |bytes: &[u8]| std::io::Write::write_all(&mut keys, bytes).unwrap();
    shows("all notes off");
    press(b"h");
    shows("voices");
    press(b"\t");
    shows("bob");
    press(b"\x1b[A");
    shows("1.05");
    press(b"\x1b");
    shows("played ");
    shows("code 0");
    assert!(terminal.0.wait().unwrap().success());
    let stty = |name: &str| std::fs::read_to_string(folder.path(name)).unwrap();
    assert_eq!(stty("before"), stty("after"));
}

#[test]
fn a_terminal_that_is_closed_ends_the_program() {
    if !jack::is_there() {
        return;
    }
    let (folder, jack) = (Folder::new(), Jack::start());
    let wavenet = env!("CARGO_BIN_EXE_wavenet");
    let line = format!("echo $$ > pid; exec {wavenet} play --host jack --model choir.safetensors");
    let (mut terminal, screen) = at_a_terminal(&folder, &jack, &line);
    wait_until_it_shows(&screen, "all notes off");
    let pid = std::fs::read_to_string(folder.path("pid")).unwrap();
    let process = std::path::Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    terminal.0.kill().unwrap();
    wait_for("its end", || !process.exists());
}

/// Without any device: no ALSA, and a JACK server that does not exist.
fn deaf(folder: &Folder, arguments: &str) -> Command {
    let mut command = folder.command(arguments);
    command.env("ALSA_CONFIG_PATH", folder.path("no-alsa"));
    command.env("JACK_DEFAULT_SERVER", "wavenet-test-none").env("JACK_NO_START_SERVER", "1");
    command
}

#[test]
fn devices_are_listed_even_where_there_is_none() {
    let folder = Folder::new();
    let output = deaf(&folder, "devices").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Outputs:\n  none (looked for ALSA and JACK)"), "{text}");
    assert!(text.contains("MIDI inputs:\n"), "{text}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = deaf(&folder, "devices --json").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["hosts"][0]["name"], "ALSA");
    assert_eq!(json["hosts"][1]["outputs"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_played_is_refused_in_one_line() {
    let folder = Folder::new();
    std::fs::write(folder.path("phrase.mid"), phrase()).unwrap();
    std::fs::write(folder.path("text.mid"), "la la la").unwrap();
    for (options, expected) in [
        ("", "no sound device can be opened (ALSA: "),
        ("", "make a file with `wavenet render`"),
        ("--device Speaker", "no sound device is called \"Speaker\"; there is none at all"),
        ("--host asio", "no sound system is called \"asio\"; there is ALSA, JACK"),
        ("--midi text.mid", "it is not a Standard MIDI File"),
        ("--midi missing.mid", "missing.mid"),
        ("--midi phrase.mid --drone", "cannot be used with"),
        ("--loop", "--midi"),
        ("--class bob", "class"),
        ("--buffer-ms 1001", "from 0 to 1000"),
        ("--rate 5", "1000 to 768000 Hz"),
        ("--seconds 0", "24 hours"),
    ] {
        let output = deaf(&folder, &format!("play {options}")).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{options}: {error}");
        assert_eq!(error.lines().count(), 1, "{options}: {error}");
        assert!(error.starts_with("wavenet: ") && error.contains(expected), "{options}: {error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_midi_input_that_is_not_there_is_refused() {
    if !jack::is_there() {
        return;
    }
    let (folder, jack) = (Folder::new(), Jack::start());
    let output = play(&folder, &jack.name, "--midi-in NoSuchKeyboard").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.starts_with("wavenet: no MIDI input is called \"NoSuchKeyboard\"; there is "));
    assert_eq!(error.lines().count(), 1, "{error}");
}
