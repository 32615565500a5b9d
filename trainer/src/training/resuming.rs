//! Whether a run goes on as it began; if not, what is another now.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value};

use crate::checkpoint::RunSettings;
use crate::words::shown;

/// So many differences are listed; the rest is counted.
const LISTED: usize = 4;
/// A longer value (in characters) says less than its name.
const LONGEST_VALUE: usize = 40;

/// Checks that the settings of a run, and its recordings, are those that it began with.
///
/// # Errors
/// One line naming what differs.
pub(super) fn check(known: &RunSettings, asked: &RunSettings, model: &Path) -> Result<()> {
    let model = model.display();
    ensure!(
        known.corpus == asked.corpus,
        "{model} was trained on other recordings, or these have changed since, or others of them are set \
         aside; train with --overwrite in place of --resume to start afresh, or with --finetune to learn \
         these too"
    );
    if known == asked {
        return Ok(());
    }
    let mut differences = differences(known, asked)?;
    if differences.len() > LISTED {
        let more = differences.len() - LISTED;
        differences.truncate(LISTED);
        differences.push(format!("{more} more"));
    }
    bail!(
        "{model} was trained with other settings ({}); use the same ones to go on, or train with \
         --overwrite in place of --resume to start afresh",
        differences.join("; ")
    )
}

/// What differs, as users call it, and both values where they are short.
fn differences(known: &RunSettings, asked: &RunSettings) -> Result<Vec<String>> {
    // By way of text: there an f32 looks like one.
    let value = |settings: &RunSettings| -> Result<Value> {
        Ok(serde_json::from_str(&serde_json::to_string(settings)?)?)
    };
    let (known, asked) = (value(known)?, value(asked)?);
    let mut lines = Vec::new();
    let kinds = [&known, &asked].map(|settings| settings.pointer("/model/conditioning/kind"));
    if kinds[0] == kinds[1] {
        compare("", &known, &asked, &mut lines);
    } else {
        // All else that differs follows from that.
        let [known, asked] = kinds.map(|kind| kind.unwrap_or(&Value::Null));
        compare("kind", known, asked, &mut lines);
    }
    Ok(lines)
}

fn compare(name: &str, known: &Value, asked: &Value, lines: &mut Vec<String>) {
    if let (Value::Object(known), Value::Object(asked)) = (known, asked) {
        return compare_all(known, asked, lines);
    }
    if known == asked {
        return;
    }
    let name = match name {
        "seed" => "--seed",
        "kind" => "--conditioning",
        "keys" => "what is measured on the notes",
        // A fingerprint tells nobody anything.
        "finetuned_from" => return lines.push("the model of --finetune".into()),
        other => other,
    };
    let (known, asked) = (shown(known), shown(asked));
    let is_short = known.len().max(asked.len()) <= LONGEST_VALUE;
    lines.push(if is_short { format!("{name}: {known}, now {asked}") } else { name.into() });
}

fn compare_all(known: &Map<String, Value>, asked: &Map<String, Value>, lines: &mut Vec<String>) {
    let only_asked = asked.keys().filter(|name| !known.contains_key(*name));
    for name in known.keys().chain(only_asked) {
        let [known, asked] = [known, asked].map(|all| all.get(name).unwrap_or(&Value::Null));
        compare(name, known, asked, lines);
    }
}

#[cfg(test)]
mod tests {
    use wavenet_engine::{Config, NoteRecipe, Recipe};

    use super::*;
    use crate::settings::Training;

    fn settings() -> RunSettings {
        RunSettings {
            seed: 1,
            model: Config::default(),
            training: Training::default(),
            corpus: "a".into(),
            finetuned_from: None,
        }
    }

    fn refusal(asked: &RunSettings) -> String {
        let error = check(&settings(), asked, Path::new("x.safetensors")).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn what_differs_is_named() {
        assert!(check(&settings(), &settings(), Path::new("x.safetensors")).is_ok());
        let training = Training { batch: 9, learning_rate: 0.01, ..Training::default() };
        let asked = RunSettings { seed: 2, training, ..settings() };
        let expected =
            "(--seed: 1, now 2; batch: 4, now 9; learning_rate: 0.003, now 0.01); use the same";
        assert!(refusal(&asked).contains(expected), "{}", refusal(&asked));
        let model = Config { dilations: vec![1; 60], ..Config::default() };
        let asked = RunSettings { model, finetuned_from: Some("b".into()), ..settings() };
        let expected = "(the model of --finetune; dilations)";
        assert!(refusal(&asked).contains(expected), "{}", refusal(&asked));
        let conditioning = Recipe::Note(NoteRecipe::default());
        let model = Config { conditioning, root_key: 48, ..Config::default() };
        let asked = RunSettings { model, ..settings() };
        let expected = "(--conditioning: none, now note)";
        assert!(refusal(&asked).contains(expected), "{}", refusal(&asked));
        // Other recordings come first: much follows from them.
        let asked = RunSettings { corpus: "b".into(), seed: 2, ..settings() };
        assert!(refusal(&asked).contains("trained on other recordings"));
    }
}
