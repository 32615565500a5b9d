//! The JSON lines.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use wavenet_engine::files;

use super::Line;

/// The file of lines, open at its end.
#[derive(Debug)]
pub(super) struct Lines {
    file: File,
}

impl Lines {
    /// Opens the file of a run that goes on after `step`, without the lines of later steps.
    pub(super) fn open(path: &Path, step: u64) -> Result<Self> {
        let shown = path.display();
        if path.exists() {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
            let kept = kept(&bytes, step);
            if kept.len() < bytes.len() {
                let mut file = files::beside(path)?;
                file.write_all(&kept).with_context(|| format!("cannot write {shown}"))?;
                files::finish(file, path)?;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { file: file.with_context(|| format!("cannot write {shown}"))? })
    }

    /// Appends a line, in one piece.
    pub(super) fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).context("the log cannot be written")
    }
}

/// The lines up to a step: a line that was torn, or is none of ours, ends a run that was killed.
fn kept(bytes: &[u8], step: u64) -> Vec<u8> {
    let is_kept = |line: &&[u8]| {
        line.ends_with(b"\n")
            && serde_json::from_slice::<Line>(line).is_ok_and(|line| line.step() <= step)
    };
    bytes.split_inclusive(|byte| *byte == b'\n').filter(is_kept).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(step: u64) -> Line {
        Line::Validated { step, valid_bits: 2.5, elapsed_s: 0.25 }
    }

    fn written(steps: &[u64]) -> Vec<u8> {
        let lines = steps.iter().map(|&step| serde_json::to_string(&line(step)).unwrap() + "\n");
        lines.collect::<String>().into_bytes()
    }

    #[test]
    fn a_resumed_run_repeats_no_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        let mut torn = written(&[1, 2, 3, 4]);
        torn.extend(b"{\"step\":5,\"val");
        std::fs::write(&path, torn).unwrap();
        Lines::open(&path, 2).unwrap().write(&line(3)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), written(&[1, 2, 3]));
        Lines::open(&path, 9).unwrap().write(&line(10)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), written(&[1, 2, 3, 10]));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn both_kinds_of_line_are_read_as_what_they_are() {
        let trained = Line::Trained {
            step: 7,
            bits: 3.0,
            learning_rate: 0.5,
            gradient_norm: 1.0,
            samples_per_s: 9.0,
            elapsed_s: 1.0,
        };
        for line in [line(7), trained] {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_lines_never_panic(place in 0_usize..10_000, value: u8, step: u64) {
            let mut bytes = written(&[1, 2, 3]);
            let place = place % bytes.len();
            bytes[place] = value;
            prop_assert!(kept(&bytes, step).len() <= bytes.len());
        }
    }
}
