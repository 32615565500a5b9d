//! The shape of a model: everything that decides which tensors it has and how they are run.
//!
//! A config travels as JSON inside the model file and as TOML in the trainer's `--config`; absent
//! fields take the defaults below. [`Config::validate`] is the one place that says what is allowed,
//! so code behind it can rely on it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

mod recipe;

pub use recipe::{KeyTable, MAX_PARTIALS, NoteRecipe, Recipe, Told};

/// Names of the field's usual letters: R, G, S, A are residual, gate, skip and end channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Samples a second that the model speaks.
    pub sample_rate_hz: u32,
    /// Mu-law codes, and so classes of the softmax.
    pub levels: usize,
    /// R: width of the residual stream.
    pub residual_channels: usize,
    /// G: outputs of the filter, and as many of the gate.
    pub gate_channels: usize,
    /// S: width of the sum of skips.
    pub skip_channels: usize,
    /// A: width of the hidden layer after the skips.
    pub end_channels: usize,
    /// Taps of each dilated convolution: 2 or 3.
    pub kernel_size: usize,
    /// Distance between the taps of each layer, in samples; one entry a layer.
    pub dilations: Vec<usize>,
    /// Names of the sounds one model can make; empty when there is only one.
    pub classes: Vec<String>,
    /// Width of a class's embedding (used only where there are classes).
    pub class_channels: usize,
    /// How a played note becomes the local conditioning vector.
    pub conditioning: Recipe,
    /// The MIDI key at which a model without pitch conditioning sounds at its own speed.
    pub root_key: u8,
    /// How weights are stored and multiplied unless the player asks otherwise.
    pub default_dtype: Dtype,
}

/// How weights are stored and multiplied, from wide to narrow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats: the reference.
    #[default]
    F32,
    /// 16-bit brain floats, widened exactly.
    Bf16,
    /// 8-bit integers with exact sums.
    Int8,
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sample_rate_hz: 16_000,
            levels: 256,
            residual_channels: 64,
            gate_channels: 64,
            skip_channels: 256,
            end_channels: 256,
            kernel_size: 2,
            dilations: Self::cycled_dilations(10),
            classes: Vec::new(),
            class_channels: 16,
            conditioning: Recipe::None,
            root_key: 60,
            default_dtype: Dtype::F32,
        }
    }
}

impl Config {
    /// `layers` dilations cycling through 1, 2, 4 ... 512.
    pub fn cycled_dilations(layers: usize) -> Vec<usize> {
        (0..layers).map(|layer| 1 << (layer % 10)).collect()
    }

    /// Number of residual blocks.
    pub fn layers(&self) -> usize {
        self.dilations.len()
    }

    /// Samples that decide the next one: `1 + sum (kernel_size - 1) d`.
    pub fn receptive_field(&self) -> usize {
        1 + (self.kernel_size - 1) * self.dilations.iter().sum::<usize>()
    }

    /// C: channels of the local conditioning vector.
    pub fn local_channels(&self) -> usize {
        match &self.conditioning {
            Recipe::None => 0,
            Recipe::Note(note) => note.channels(),
        }
    }

    /// Width of the embedded class at the head of the conditioning vector, 0 without classes.
    pub fn class_width(&self) -> usize {
        if self.classes.is_empty() { 0 } else { self.class_channels }
    }

    /// H: the whole conditioning vector, embedded class first, local channels after it.
    pub fn conditioning_channels(&self) -> usize {
        self.class_width() + self.local_channels()
    }

    /// The index of a class by its name, in capitals or not.
    ///
    /// # Errors
    /// [`Error::Unknown`] naming the classes there are.
    pub fn class_index(&self, name: &str) -> Result<usize> {
        let is_it = |class: &String| class == name;
        let is_like_it = |class: &String| class.to_lowercase() == name.to_lowercase();
        let found = self.classes.iter().position(is_it);
        found.or_else(|| self.classes.iter().position(is_like_it)).ok_or_else(|| {
            Error::Unknown(if self.classes.is_empty() {
                format!("there is no class `{name}`: this model has no classes")
            } else {
                format!("there is no class `{name}`: this model knows {}", self.classes.join(", "))
            })
        })
    }

    /// The sampling temperature that suits the model unless the player asks otherwise. A model that is
    /// told nothing needs its chance to go on. Told where every partial is, a model of notes spends its
    /// chance on noise, and less of it is nearer to the recording: much less where it says the partials
    /// too, a little where it says what remains beside them (docs/built-in-models.md has the
    /// measurements).
    pub fn default_temperature(&self) -> f32 {
        match self.conditioning.told() {
            Told::Nothing => 1.0,
            Told::Phases | Told::Levels => 0.3,
            Told::Partials => 0.6,
        }
    }

    /// Checks every bound that the rest of the engine relies on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the field and what is allowed.
    pub fn validate(&self) -> Result<()> {
        let range = |name: &str, value: usize, low: usize, high: usize| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::Unsupported(format!(
                    "{name} = {value}; it must lie between {low} and {high}"
                )))
            }
        };
        range("sample_rate_hz", self.sample_rate_hz as usize, 1_000, 192_000)?;
        range("levels", self.levels, 2, 256)?;
        range("residual_channels", self.residual_channels, 1, 1024)?;
        range("gate_channels", self.gate_channels, 1, 1024)?;
        range("skip_channels", self.skip_channels, 1, 4096)?;
        range("end_channels", self.end_channels, 1, 4096)?;
        range("kernel_size", self.kernel_size, 2, 3)?;
        range("number of dilations", self.layers(), 1, 128)?;
        for &dilation in &self.dilations {
            range("a dilation", dilation, 1, 16_384)?;
        }
        range("receptive field", self.receptive_field(), 2, 1 << 20)?;
        range(
            "queue size (receptive field x residual channels)",
            self.receptive_field() * self.residual_channels,
            2,
            1 << 24,
        )?;
        range("number of classes", self.classes.len(), 0, 1024)?;
        if !self.classes.is_empty() {
            range("class_channels", self.class_channels, 1, 256)?;
        }
        for (index, class) in self.classes.iter().enumerate() {
            let unprintable = class.is_empty() || class.chars().any(char::is_control);
            if unprintable || self.classes[..index].contains(class) {
                return Err(Error::Unsupported(format!(
                    "class name {class:?} is empty, unprintable or stands twice"
                )));
            }
        }
        range("root_key", usize::from(self.root_key), 0, 127)?;
        match &self.conditioning {
            Recipe::None => Ok(()),
            Recipe::Note(note) => note.validate(self.classes.len()),
        }
    }
}

#[cfg(test)]
impl Config {
    /// A shape for tests that play: made in no time, and knowing no notes.
    pub(crate) fn tiny() -> Self {
        Self {
            residual_channels: 8,
            gate_channels: 8,
            skip_channels: 16,
            end_channels: 16,
            dilations: vec![1, 2, 4, 8],
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_documented_shape() {
        let config = Config::default();
        config.validate().unwrap();
        assert_eq!(config.layers(), 10);
        assert_eq!(config.receptive_field(), 1024);
        assert_eq!(config.conditioning_channels(), 0);
    }

    #[test]
    fn a_class_is_found_in_capitals_or_not() {
        let classes = ["String", "piano", "string"].map(String::from).to_vec();
        let config = Config { classes, ..Config::default() };
        let found = ["string", "String", "Piano", "STRING"].map(|name| config.class_index(name));
        assert_eq!(found.map(Result::unwrap), [2, 0, 1, 0]);
        assert!(config.class_index("organ").is_err());
    }

    #[test]
    fn json_round_trip_and_defaults_for_absent_fields() {
        let config = Config {
            conditioning: Recipe::Note(NoteRecipe::default()),
            classes: vec!["a".into(), "b".into()],
            ..Config::default()
        };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
        assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
        assert!(serde_json::from_str::<Config>(r#"{"residual_chanels": 3}"#).is_err());
        assert_eq!(config.conditioning_channels(), 16 + 2 + 3 + 64);
    }

    #[test]
    fn every_bound_is_named() {
        let wrong = [
            Config { kernel_size: 4, ..Config::default() },
            Config { levels: 257, ..Config::default() },
            Config { dilations: vec![], ..Config::default() },
            Config { dilations: vec![0], ..Config::default() },
            Config { classes: vec!["x".into(), "x".into()], ..Config::default() },
            Config { sample_rate_hz: 0, ..Config::default() },
        ];
        for config in wrong {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.starts_with("not supported: "), "{message}");
        }
    }
}
