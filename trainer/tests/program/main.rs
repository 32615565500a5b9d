//! The program `wavenet-trainer` from outside: exit codes, standard output and error, and the files
//! it leaves. Recordings last parts of a second and models are tiny, so that a run takes little.

mod data;
mod diagnosis;
mod export;
mod finetune;
mod log;
mod recovery;
mod refusals;
mod train;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use walkdir::WalkDir;

const RATE_HZ: u32 = 16_000;

/// A model of some hundred parameters, and steps of as little.
const TINY: &str = "
[model]
residual_channels = 8
gate_channels = 8
skip_channels = 16
end_channels = 16
dilations = [1, 2, 4, 8, 16]
[training]
batch = 2
window = 256
learning_rate = 0.01
warmup_steps = 10
average_decay = 0.9
";

/// A folder of its own for each test, in which `wavenet-trainer` runs.
struct Folder(TempDir);

impl Folder {
    /// Holds `tiny.toml`, and `tones`: three recordings without notes or labels.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("tiny.toml", TINY);
        for (name, hz) in [("low", 150.0), ("middle", 233.0), ("high", 410.0)] {
            folder.write(&format!("tones/{name}.wav"), tone(hz, 0.4));
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Writes a file, and the folders that it lies in.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// A command that runs here; arguments are parted by spaces.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wavenet-trainer"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs what must succeed and returns what it printed on standard output and on standard error.
    fn succeed(&self, arguments: &str) -> (String, String) {
        let output = self.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments}: {stderr}");
        assert!(!stderr.contains("wavenet-trainer: "), "{arguments}: {stderr}");
        (String::from_utf8(output.stdout).unwrap(), stderr)
    }

    /// Trains a tiny model on `tones` (or what the options say) and returns the bytes of its file.
    fn train(&self, out: &str, options: &str) -> Vec<u8> {
        self.succeed(&training(out, options));
        self.read(out)
    }

    /// Runs what must fail: with exit code 2, an error of one line as the last thing said, nothing
    /// on standard output, and no file left or changed. Returns all lines of standard error.
    fn refuse(&self, arguments: &str, expected: &str) -> Vec<String> {
        let before = self.contents();
        let lines = self.fail(arguments, expected);
        assert!(self.contents() == before, "{arguments} left or changed a file");
        lines
    }

    /// As [`Self::refuse`], but files may have changed.
    fn fail(&self, arguments: &str, expected: &str) -> Vec<String> {
        let output = self.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
        assert!(output.stdout.is_empty(), "{arguments}");
        assert!(stderr.ends_with('\n'), "{arguments}: {stderr}");
        let lines: Vec<String> = stderr.lines().map(str::to_owned).collect();
        let (last, earlier) = lines.split_last().unwrap();
        assert!(last.starts_with("wavenet-trainer: "), "{arguments}: {stderr}");
        assert!(last.contains(expected), "{arguments}: {last}");
        for line in earlier {
            assert!(!line.contains("wavenet-trainer") && !line.contains("panicked"), "{stderr}");
        }
        lines
    }

    /// Every file and folder here, hidden ones too, with its bytes.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = WalkDir::new(self.0.path()).sort_by_file_name().into_iter();
        entries
            .map(|entry| entry.unwrap().into_path())
            .map(|path| (path.clone(), bytes_of(&path)))
            .collect()
    }

    /// The names that lie directly here, hidden ones too.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn bytes_of(path: &Path) -> Vec<u8> {
    if path.is_file() { std::fs::read(path).unwrap() } else { Vec::new() }
}

/// Arguments that train a tiny model on `tones`, unless the options name others.
fn training(out: &str, options: &str) -> String {
    let mut arguments = format!("train --out {out} {options}");
    for (option, value) in [("--data", "tones"), ("--config", "tiny.toml")] {
        if !arguments.contains(option) {
            arguments += &format!(" {option} {value}");
        }
    }
    arguments
}

/// A 16-bit mono WAV file of a sine.
fn tone(hz: f64, seconds: f64) -> Vec<u8> {
    let frames = (seconds * f64::from(RATE_HZ)) as u32;
    let turns = |n: u32| f64::from(n) * hz / f64::from(RATE_HZ);
    wav(hound::SampleFormat::Int, |writer| {
        for n in 0..frames {
            let x = 0.5 * libm::sin(std::f64::consts::TAU * turns(n));
            writer.write_sample((x * 32_767.0) as i16).unwrap();
        }
    })
}

/// A mono WAV file of 16-bit integers or 32-bit floats.
fn wav(
    sample_format: hound::SampleFormat,
    write: impl FnOnce(&mut hound::WavWriter<&mut std::io::Cursor<Vec<u8>>>),
) -> Vec<u8> {
    let bits_per_sample = if sample_format == hound::SampleFormat::Int { 16 } else { 32 };
    let spec = hound::WavSpec { channels: 1, sample_rate: RATE_HZ, bits_per_sample, sample_format };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    write(&mut writer);
    writer.finalize().unwrap();
    bytes.into_inner()
}
