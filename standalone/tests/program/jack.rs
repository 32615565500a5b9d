//! A sound card for tests: a JACK server of our own with a dummy back-end, and its recorder.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static SERVERS: AtomicU32 = AtomicU32::new(0);

/// Whether the programs are there; says so where they are not.
pub(crate) fn is_there() -> bool {
    let runs = |program| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    let there = ["jackd", "jack_lsp", "jack_rec"].iter().all(runs);
    if !there {
        eprintln!("skipped: there is no JACK (Debian: jackd2)");
    }
    there
}

/// A server that lives as long as this value.
pub(crate) struct Jack {
    /// The value of `JACK_DEFAULT_SERVER` for its clients.
    pub(crate) name: String,
    server: Child,
}

impl Jack {
    pub(crate) fn start() -> Self {
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("wavenet-test-{}-{number}", std::process::id()))
    }

    /// A server of this name, ready to be played through.
    pub(crate) fn named(name: &str) -> Self {
        let server = Command::new("jackd")
            .args(["-n", name, "--realtime-priority", "20", "--sync", "-d", "dummy"])
            .args(["-r", "48000", "-p", "256"])
            // Else it asks D-Bus for devices that it does not need.
            .env("JACK_NO_AUDIO_RESERVATION", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let jack = Self { name: name.into(), server };
        wait_for("a JACK server", || jack.ports().iter().any(|port| port.contains("playback_1")));
        jack
    }

    /// A command for one of its clients.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("JACK_DEFAULT_SERVER", &self.name).env("JACK_NO_START_SERVER", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub(crate) fn ports(&self) -> Vec<String> {
        let output = self.client("jack_lsp").stdout(Stdio::piped()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// The first output of `wavenet` with this process id, as soon as it is there.
    pub(crate) fn port_of(&self, process: u32) -> String {
        let part = format!("_{process}_out:out_0");
        let mut found = None;
        wait_for("the port of wavenet", || {
            found = self.ports().into_iter().find(|port| port.contains(&part));
            found.is_some()
        });
        found.unwrap()
    }

    /// Records a port: 32-bit samples.
    pub(crate) fn record(&self, port: &str, seconds: u32, path: &Path) -> Vec<i32> {
        let seconds = seconds.to_string();
        // A port that is registered may not be ready to be connected yet.
        wait_for("a recording", || {
            let mut recorder = self.client("jack_rec");
            recorder.arg("-f").arg(path).args(["-d", &seconds, "-b", "32", port]);
            recorder.status().unwrap().success()
        });
        let mut reader = hound::WavReader::open(path).unwrap();
        assert_eq!((reader.spec().channels, reader.spec().sample_rate), (1, 48_000));
        reader.samples().map(|sample| sample.unwrap()).collect()
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

impl Drop for Jack {
    fn drop(&mut self) {
        // Politely, so that it takes its shared memory along.
        terminate(&self.server);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            if !matches!(self.server.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A child that does not outlive its test, even one that fails.
pub(crate) struct Guarded(pub(crate) Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks a process to end.
pub(crate) fn terminate(child: &Child) {
    let _ = Command::new("kill").arg(child.id().to_string()).stderr(Stdio::null()).status();
}

/// Waits until something is so.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
