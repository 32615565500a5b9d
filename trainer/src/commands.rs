//! Commands for the user to copy into a shell.

use std::env::{self, consts::EXE_SUFFIX};
use std::path::{Component, Path, PathBuf};

use wavenet_engine::{Config, Recipe};

use crate::corpus::notes::key_name;

/// Another of our programs as a shell here finds it: beside the one that runs, where both were built together.
pub fn program(name: &str) -> String {
    let beside = || -> Option<PathBuf> {
        let path = env::current_exe().ok()?.with_file_name(format!("{name}{EXE_SUFFIX}"));
        path.is_file().then(|| from_here(&path).unwrap_or(path))
    };
    beside().map_or_else(|| name.to_owned(), |path| quoted(&path.to_string_lossy()))
}

/// A path that lies below the current folder, from there.
fn from_here(path: &Path) -> Option<PathBuf> {
    // Whatever links led to either.
    let folder = path.parent()?.canonicalize().ok()?;
    let here = env::current_dir().ok()?.canonicalize().ok()?;
    below(&folder.join(path.file_name()?), &here)
}

/// The path below a folder; with `./` where a shell would look elsewhere.
fn below(path: &Path, folder: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(folder).ok()?;
    let is_bare = below.components().count() == 1;
    Some(if is_bare { Path::new(".").join(below) } else { below.to_owned() })
}

/// How to hear a model: its middle note and its first class, where it has such.
pub fn render(model: &Path, config: &Config) -> String {
    let note = match config.conditioning {
        Recipe::None => String::new(),
        Recipe::Note(_) => format!(" --note {}", key_name(config.root_key)),
    };
    let class =
        config.classes.first().map_or(String::new(), |class| format!(" --class {}", quoted(class)));
    format!(
        "{} render --model {}{note}{class} --out sound.wav --png sound.png",
        program("wavenet"),
        quoted_path(model)
    )
}

/// A path for a shell, which must not take it for an option.
pub fn quoted_path(path: &Path) -> String {
    let begins = path.components().next();
    let is_option =
        matches!(begins, Some(Component::Normal(name)) if name.to_string_lossy().starts_with('-'));
    let path = if is_option { Path::new(".").join(path) } else { path.to_owned() };
    quoted(&path.to_string_lossy())
}

/// A word for a shell.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./,+:@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_as_a_shell_finds_them() {
        let shown = |here| below(Path::new("/music/target/release/wavenet"), Path::new(here));
        assert_eq!(shown("/music"), Some("target/release/wavenet".into()));
        assert_eq!(shown("/music/target/release"), Some("./wavenet".into()));
        assert_eq!(shown("/music/demo"), None);
        // Nothing of that name lies beside a test.
        assert_eq!(program("no-such-program"), "no-such-program");
        let own = env::current_exe().unwrap();
        let name = own.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(program(&name).ends_with(&name) && program(&name).len() > name.len());
    }

    #[test]
    fn a_model_is_told_how_it_is_heard() {
        let classes = vec!["alto sax".to_owned(), "b".to_owned()];
        let config = Config { classes, ..Config::default() };
        let command = render(Path::new("it's.safetensors"), &config);
        let end = r"render --model 'it'\''s.safetensors' --class 'alto sax' --out sound.wav --png sound.png";
        assert!(command.ends_with(end), "{command}");
        let note = Recipe::Note(wavenet_engine::NoteRecipe::default());
        let config = Config { conditioning: note, root_key: 43, ..Config::default() };
        let command = render(Path::new("-x.safetensors"), &config);
        assert!(command.contains(" --model ./-x.safetensors --note G2 --out"), "{command}");
    }
}
