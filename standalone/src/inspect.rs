//! `wavenet inspect`: what a model is, as a table for people or as JSON for programs.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use wavenet_engine::{Dtype, Recipe, cuda};

use crate::cli::{InspectArgs, Place};
use crate::model::Model;

/// Everything that is told; the JSON has these names in this order.
#[derive(Debug, Serialize)]
struct Report<'a> {
    model: &'a str,
    file_bytes: u64,
    parameters: usize,
    sample_rate_hz: u32,
    levels: usize,
    layers: usize,
    dilations: &'a [usize],
    kernel_size: usize,
    residual_channels: usize,
    gate_channels: usize,
    skip_channels: usize,
    end_channels: usize,
    receptive_field_samples: usize,
    receptive_field_ms: f64,
    classes: &'a [String],
    conditioning: Conditioning<'a>,
    root_key: u8,
    default_dtype: Dtype,
    storage: Dtype,
    /// The GPU, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    cuda: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Conditioning<'a> {
    None,
    Note {
        channels: usize,
        partials: usize,
        /// How many are in the sum, where the model is told levels.
        summed_partials: usize,
        /// Whether the partials are added to what the model says.
        remainder: bool,
        decays_ms: &'a [f32],
        velocity_range_db: f32,
        /// MIDI keys that were recorded.
        keys: BTreeSet<u8>,
    },
}

/// Describes the model that `args` name.
///
/// # Errors
/// If it cannot be loaded.
pub fn inspect(args: &InspectArgs) -> Result<String> {
    let model = Model::load(args.model.as_deref().or(args.option.as_deref()))?;
    let mut report = Report::new(&model);
    report.cuda = (args.device == Place::Cuda).then(cuda::describe);
    Ok(if args.json { serde_json::to_string_pretty(&report)? } else { report.table() })
}

impl<'a> Report<'a> {
    fn new(model: &'a Model) -> Self {
        let config = model.weights.config();
        let field = config.receptive_field();
        Self {
            model: &model.name,
            file_bytes: model.file_bytes,
            parameters: model.weights.layout().len,
            sample_rate_hz: config.sample_rate_hz,
            levels: config.levels,
            layers: config.layers(),
            dilations: &config.dilations,
            kernel_size: config.kernel_size,
            residual_channels: config.residual_channels,
            gate_channels: config.gate_channels,
            skip_channels: config.skip_channels,
            end_channels: config.end_channels,
            receptive_field_samples: field,
            receptive_field_ms: field as f64 * 1000.0 / f64::from(config.sample_rate_hz),
            classes: &config.classes,
            conditioning: match &config.conditioning {
                Recipe::None => Conditioning::None,
                Recipe::Note(note) => Conditioning::Note {
                    channels: config.local_channels(),
                    partials: note.partials,
                    decays_ms: &note.decays_ms,
                    velocity_range_db: note.velocity_range_db,
                    summed_partials: note.summed_partials,
                    remainder: note.remainder,
                    keys: note.keys.iter().map(|table| table.key).collect::<BTreeSet<u8>>(),
                },
            },
            root_key: config.root_key,
            default_dtype: config.default_dtype,
            storage: model.weights.storage(),
            cuda: None,
        }
    }

    fn table(&self) -> String {
        let classes = if self.classes.is_empty() { "none".into() } else { self.classes.join(", ") };
        let parameters = format!(
            "{}, stored as {}, run as {}",
            grouped(self.parameters as u64),
            self.storage,
            self.default_dtype
        );
        let mut rows = vec![
            ("model", self.model.to_owned()),
            ("file", format!("{} bytes", grouped(self.file_bytes))),
            ("parameters", parameters),
            ("sample rate", format!("{} Hz", grouped(self.sample_rate_hz.into()))),
            (
                "receptive field",
                format!(
                    "{} samples, {:.1} ms",
                    grouped(self.receptive_field_samples as u64),
                    self.receptive_field_ms
                ),
            ),
            ("layers", format!("{}, kernel of {} taps", self.layers, self.kernel_size)),
            ("dilations", dilations(self.dilations)),
            (
                "channels",
                format!(
                    "residual {}, gate {}, skip {}, end {}",
                    self.residual_channels,
                    self.gate_channels,
                    self.skip_channels,
                    self.end_channels
                ),
            ),
            ("output", format!("{} mu-law levels", self.levels)),
            ("classes", classes),
        ];
        match &self.conditioning {
            Conditioning::None => {
                rows.push(("notes", "none: it drones".into()));
                rows.push(("root key", self.root_key.to_string()));
            }
            Conditioning::Note {
                channels,
                partials,
                summed_partials,
                remainder,
                decays_ms,
                velocity_range_db,
                keys,
            } => {
                let recorded = match (keys.first(), keys.last()) {
                    (Some(low), Some(high)) => format!("{}, from {low} to {high}", keys.len()),
                    _ => "none".into(),
                };
                let decays: Vec<String> = decays_ms.iter().map(f32::to_string).collect();
                let sum = match summed_partials {
                    0 => String::new(),
                    sum => format!(", the sum of {}", sum.max(partials)),
                };
                let heard =
                    format!("{channels} channels: key, velocity, age, {partials} partials{sum}");
                rows.push(("notes", heard));
                if *remainder {
                    rows.push(("says", "what remains beside the partials, which are added".into()));
                }
                rows.push(("decays", format!("{} ms", decays.join(", "))));
                rows.push(("velocity range", format!("{velocity_range_db} dB")));
                rows.push(("recorded keys", recorded));
            }
        }
        if let Some(cuda) = &self.cuda {
            rows.push(("device", format!("cuda: {cuda}")));
        }
        let mut table = String::new();
        for (name, value) in rows {
            // Writing to a string does not fail.
            let _ = writeln!(table, "{name:>16}  {value}");
        }
        table.trim_end().to_owned()
    }
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 2 4 8`, or `3 times 1 2 4 8` where they repeat.
fn dilations(all: &[usize]) -> String {
    let repeats = |cycle: usize| all.chunks(cycle).all(|chunk| *chunk == all[..cycle]);
    let cycle = (1..all.len()).find(|&cycle| repeats(cycle)).unwrap_or(all.len());
    let names: Vec<String> = all[..cycle].iter().map(usize::to_string).collect();
    match all.len().checked_div(cycle) {
        Some(times) if times > 1 => format!("{times} times {}", names.join(" ")),
        _ => names.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dilations_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(dilations(&[1, 2, 4]), "1 2 4");
        assert_eq!(dilations(&[1, 2, 1, 2, 1, 2]), "3 times 1 2");
        assert_eq!(dilations(&[1, 2, 4, 1, 2]), "1 2 4 1 2");
        assert_eq!(dilations(&[5]), "5");
        assert_eq!(dilations(&[]), "");
    }
}
