//! Where files may be written. Everything that can be known is checked before the first sample is
//! made, so that an hour's render does not end in "permission denied".

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use wavenet_engine::files;

/// Checks that `path`, the value of `option`, can become a file of this kind, and returns it with
/// its folder spelt out in full.
///
/// # Errors
/// If it is a folder or a device, has the extension of something else, is write-protected, or its
/// folder is missing or closed to us.
pub fn check(option: &str, path: &Path, extension: &str) -> Result<PathBuf> {
    let shown = format!("{option} {}", path.display());
    if path.as_os_str() == "-" {
        bail!("{shown}: only a file is written; `wavenet stream` writes to a pipe");
    }
    let folder_like = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return a_folder(&shown, path, extension),
        Ok(metadata) if !metadata.is_file() => bail!("{shown} is not an ordinary file"),
        Ok(metadata) if metadata.permissions().readonly() => {
            bail!("{shown} is write-protected; choose another name")
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot write {shown}"));
        }
        _ if folder_like => return a_folder(&shown, path, extension),
        _ => {}
    }
    let Some(name) = path.file_name() else {
        bail!("{shown} names no file");
    };
    if path.extension().is_some_and(|given| !given.eq_ignore_ascii_case(extension)) {
        let better = path.with_extension(extension);
        bail!("{shown}: only .{extension} files are written; did you mean {}?", better.display());
    }
    let full = full_folder_of(&shown, path)?;
    files::beside(&full.join(name)).with_context(|| format!("cannot write {shown}"))?;
    Ok(full.join(name))
}

fn a_folder(shown: &str, path: &Path, extension: &str) -> Result<PathBuf> {
    let inside = path.join("sound").with_extension(extension);
    bail!("{shown} is a folder; name a file in it, such as {}", inside.display())
}

/// The folder that something shall lie in, spelt out in full.
///
/// # Errors
/// If it is missing or closed to us.
pub fn full_folder_of(shown: &str, path: &Path) -> Result<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match folder.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("cannot write {shown}: create the folder {} first", folder.display())
        }
        found => found.with_context(|| format!("cannot write {shown}: {}", folder.display())),
    }
}

/// Whether two paths lead to one file, as far as it exists.
pub fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_written_passes_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["x.wav", "x.WAV", "x"] {
            let path = check("--out", &folder.path().join(name), "wav").unwrap();
            assert!(path.ends_with(name));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let locked = folder.path().join("locked.wav");
        std::fs::write(&locked, "x").unwrap();
        let mut permissions = std::fs::metadata(&locked).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&locked, permissions).unwrap();
        for (path, expected) in [
            (folder.path().to_owned(), "is a folder"),
            (folder.path().join("new/"), "is a folder"),
            (folder.path().join("missing/x.wav"), "create the folder"),
            (folder.path().join("x.mp3"), "only .wav files"),
            (locked, "write-protected"),
            (folder.path().join("a".repeat(400)), "cannot write"),
            (PathBuf::from(".."), "is a folder"),
            (PathBuf::from("-"), "wavenet stream"),
            (PathBuf::from("/dev/null"), "not an ordinary file"),
        ] {
            let error = format!("{:#}", check("--out", &path, "wav").unwrap_err());
            assert!(error.contains(expected), "{}: {error}", path.display());
        }
    }
}
