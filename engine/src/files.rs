//! Outputs are written beside their place and renamed there: a reader meets the old file or the new
//! one, never half of one, and an error leaves nothing behind.

use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// An empty file in the folder of `path`, to be written and then passed to [`finish`]. It vanishes
/// when dropped.
///
/// # Errors
/// [`Error::Io`] where the folder does not take files, or `path` is a folder itself.
pub fn beside(path: &Path) -> Result<NamedTempFile> {
    if path.is_dir() {
        let source = std::io::Error::other("it is a folder; name a file");
        return Err(Error::io(path, source));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    // The library's own choice is private to its owner; outputs are files like any other.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // Some encoders read the format from the name's end.
    let extension = path.extension().map_or_else(String::new, |e| format!(".{}", e.display()));
    let builder = builder.prefix(".wavenet-").suffix(&extension);
    builder.tempfile_in(folder).map_err(|source| Error::io(path, source))
}

/// Puts a finished file in its place.
///
/// # Errors
/// [`Error::Io`] where the disk refuses.
pub fn finish(file: NamedTempFile, path: &Path) -> Result<()> {
    let io = |source| Error::io(path, source);
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_appears_whole_and_readable_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut file = beside(&path).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(!path.exists());
        finish(file, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        drop(beside(&path).unwrap());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let made = std::fs::metadata(&path).unwrap().permissions().mode();
            std::fs::write(folder.path().join("plain"), b"").unwrap();
            let plain =
                std::fs::metadata(folder.path().join("plain")).unwrap().permissions().mode();
            assert_eq!(made, plain);
        }
    }

    #[test]
    fn a_folder_or_a_missing_one_is_an_error_that_names_the_path() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("missing/out")] {
            let message = beside(&path).unwrap_err().to_string();
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
    }
}
