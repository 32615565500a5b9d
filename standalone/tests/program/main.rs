//! The program `wavenet` from outside: exit codes, standard output and error, and the files it
//! leaves. Models are tiny and random, so that a render takes milliseconds.

mod jack;
mod midi;
mod play;
mod refusals;
mod render;
mod reports;
mod stream;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use wavenet_engine::{Config, NoteRecipe, Recipe, Weights};

/// A folder of its own for each test, in which `wavenet` runs.
struct Folder(TempDir);

impl Folder {
    /// Holds three models: `note.safetensors`, `drone.safetensors`, and `choir.safetensors` with
    /// the classes alice and bob.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let tiny = Config {
            residual_channels: 4,
            gate_channels: 4,
            skip_channels: 8,
            end_channels: 8,
            dilations: vec![1, 2, 4, 8],
            class_channels: 2,
            ..Config::default()
        };
        let note = Recipe::Note(NoteRecipe { partials: 2, ..NoteRecipe::default() });
        let classes = vec!["alice".into(), "bob".into()];
        for (name, config) in [
            ("drone", tiny.clone()),
            ("choir", Config { classes, ..tiny.clone() }),
            ("note", Config { conditioning: note, ..tiny }),
        ] {
            let path = folder.path(&format!("{name}.safetensors"));
            Weights::random(config, 1).unwrap().save(&path).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command that runs here; arguments are parted by spaces.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wavenet"));
        command.args(arguments.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs what must succeed, without a word on standard error, and returns its output.
    fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments}: {stderr}");
        // Only a machine without a fused multiply-add has something to say.
        assert!(stderr.is_empty() || stderr.starts_with("note: "), "{arguments}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Renders a file and returns its bytes.
    fn render(&self, options: &str) -> Vec<u8> {
        self.succeed(&format!("render --out made.wav {options}"));
        std::fs::read(self.path("made.wav")).unwrap()
    }

    /// Renders a file and returns its rate and samples.
    fn samples(&self, options: &str) -> (u32, Vec<i16>) {
        let bytes = self.render(options);
        let mut reader = hound::WavReader::new(&bytes[..]).unwrap();
        let rate_hz = reader.spec().sample_rate;
        (rate_hz, reader.samples().map(|sample| sample.unwrap()).collect())
    }

    /// Every file here, hidden ones too, with its bytes.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let read = |path: PathBuf| (path.clone(), read_if_file(&path));
        files.into_iter().map(read).collect()
    }
}

fn read_if_file(path: &Path) -> Vec<u8> {
    if path.is_file() { std::fs::read(path).unwrap() } else { Vec::new() }
}
