//! What went wrong, in one line.

/// An error and its causes, each once: the words of some end with those of what caused them.
pub fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text += &format!(": {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, Result, anyhow};
    use wavenet_engine::Error;

    use super::*;

    #[test]
    fn every_cause_is_said_once() {
        let system = std::io::Error::from_raw_os_error(2);
        let cause = system.to_string();
        let error = Error::io(std::path::Path::new("a/b"), system);
        let outer = Result::<()>::Err(error.into()).context("cannot read the model").unwrap_err();
        assert_eq!(with_causes(&outer), format!("cannot read the model: a/b: {cause}"));
        let two = anyhow!("too short").context("a.wav is left out").context("no recordings");
        assert_eq!(with_causes(&two), "no recordings: a.wav is left out: too short");
    }
}
