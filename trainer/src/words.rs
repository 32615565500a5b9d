//! Numbers, names and settings as they stand in sentences.

use std::fmt::Display;

use serde_json::Value;

/// `1 step`, `2 steps`.
pub fn count(number: impl Display + PartialEq + From<u8>, what: &str) -> String {
    format!("{number} {what}{}", if number == 1.into() { "" } else { "s" })
}

/// At most `most` names; the rest is counted.
pub(crate) fn listed(names: impl Iterator<Item = String>, most: usize) -> String {
    let names: Vec<String> = names.collect();
    match names.get(most..) {
        Some(rest) if !rest.is_empty() => {
            format!("{} and {} more", names[..most].join(", "), rest.len())
        }
        _ => names.join(", "),
    }
}

/// The value of a setting.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        // What was an f32 should look like one.
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(String::new, |number| (number as f32).to_string())
        }
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let pairs = map
                .iter()
                .map(|(name, value)| format!("{}: {}", name.replace('_', " "), shown(value)));
            pairs.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        assert_eq!([count(1, "step"), count(0, "step")], ["1 step", "0 steps"]);
        assert_eq!([count(1.0, "minute"), count(0.5, "minute")], ["1 minute", "0.5 minutes"]);
    }

    #[test]
    fn settings_read_as_they_were_written() {
        let value = serde_json::json!({ "past_noise_db": [-80, 0.003_f32], "flip": null });
        assert_eq!(shown(&value), "flip: none; past noise db: -80, 0.003");
    }
}
