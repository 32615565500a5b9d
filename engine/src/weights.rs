//! The trained numbers: named tensors in one flat vector, and the file they live in.
//!
//! [`Layout`] says which tensors a config has. [`Weights`] holds the values. A model file is one `.safetensors` whose
//! metadata carries the format version and the config (`storage.rs` says how the numbers lie in it); reading
//! any bytes gives either valid weights or an error that says what is wrong.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::{Dtype as FileDtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Dtype, Told};
use crate::error::{Error, Result};
use crate::files;
pub use crate::layout::{AffineLayout, GateLayout, LayerLayout, Layout, TensorSpec};
use crate::sampling::Philox;
use crate::storage;

/// The newest version. A file has the oldest that can say what is in it, so that older programs read what
/// they can; a reader refuses newer ones.
pub const FORMAT_VERSION: u32 = 4;

/// The single key of the file's metadata: one key, so that equal models are equal bytes.
const METADATA_KEY: &str = "wavenet";

/// Larger files are refused before they are read.
const MAX_FILE_BYTES: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct Header {
    format_version: u32,
    config: Config,
}

/// A model: its config and its numbers, always consistent and finite.
#[derive(Debug, Clone)]
pub struct Weights {
    config: Config,
    layout: Layout,
    values: Vec<f32>,
    storage: Dtype,
}

impl Weights {
    /// All zeros: every next sample is equally likely.
    ///
    /// # Errors
    /// Where [`Config::validate`] refuses the config.
    pub fn zeros(config: Config) -> Result<Self> {
        config.validate()?;
        let layout = Layout::new(&config);
        let values = vec![0.0; layout.len];
        Ok(Self { config, layout, values, storage: Dtype::F32 })
    }

    /// The weights that training starts from: uniform with variance 1 / fan-in (LeCun), biases zero.
    ///
    /// # Errors
    /// Where [`Config::validate`] refuses the config.
    pub fn random(config: Config, seed: u64) -> Result<Self> {
        let mut weights = Self::zeros(config)?;
        let specs = weights.layout.specs.clone();
        for (stream, spec) in specs.iter().enumerate() {
            if spec.name.ends_with(".bias") {
                continue;
            }
            let taps = if spec.shape.len() == 3 { spec.shape[0] } else { 1 };
            let fan_in = match spec.name.as_str() {
                "embedding.weight" | "class_embedding.weight" => 1,
                _ => taps * spec.shape[spec.shape.len() - 1],
            };
            let bound = (3.0 / fan_in as f32).sqrt();
            let draws = Philox::new(seed, stream as u64);
            for (index, value) in weights.values[spec.range.clone()].iter_mut().enumerate() {
                *value = (draws.uniform(index as u64) * 2.0 - 1.0) * bound;
            }
        }
        Ok(weights)
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where each tensor lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Every parameter. Shape: `[layout().len]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Every parameter, for the optimizer. Keep them finite: [`Weights::save`] checks.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The values of one tensor.
    pub fn get(&self, range: &Range<usize>) -> &[f32] {
        &self.values[range.clone()]
    }

    /// How the file keeps its numbers: the narrowest type in it.
    pub fn storage(&self) -> Dtype {
        self.storage
    }

    /// Makes files of this type from now on, which players run in this type unless told otherwise.
    /// They play the same bytes in it as the wider file would; in a wider type they do not, as the
    /// file has lost what the narrower one rounds. The values here stay what they are.
    pub fn store_as(&mut self, dtype: Dtype) {
        self.storage = dtype;
        self.config.default_dtype = dtype;
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// [`Error::Io`], or as [`Weights::from_bytes`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_bytes(&Self::read_file(path)?)
    }

    /// Reads the bytes of a model file, where it may be one.
    ///
    /// # Errors
    /// [`Error::Io`] for what is missing or no file (a pipe would never end), [`Error::Unsupported`]
    /// for what is too large.
    pub fn read_file(path: &Path) -> Result<Vec<u8>> {
        let io = |source| Error::io(path, source);
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            return Err(io(std::io::Error::other("it is not a file")));
        }
        let bytes = metadata.len();
        if bytes > MAX_FILE_BYTES {
            return Err(Error::Unsupported(format!("a model of {bytes} bytes; at most 1 GiB")));
        }
        std::fs::read(path).map_err(io)
    }

    /// Reads a model from memory.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::Shape`] or [`Error::Unsupported`]; never a panic.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let format = |what: String| Error::Format(one_line(&what));
        let (_, metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|error| format(format!("it is not a complete .safetensors file ({error})")))?;
        let header = metadata.metadata().as_ref().and_then(|map| map.get(METADATA_KEY));
        let header = header.ok_or_else(|| {
            format(
                "its metadata has no `wavenet` entry; it was not written by wavenet-trainer".into(),
            )
        })?;
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let unreadable = |error| format(format!("its `wavenet` metadata is unreadable ({error})"));
        let version: Version = serde_json::from_str(header).map_err(unreadable)?;
        let version = version.format_version;
        if !(1..=FORMAT_VERSION).contains(&version) {
            return Err(Error::Unsupported(format!(
                "model format version {version}; this program reads 1 to {FORMAT_VERSION}, so update it"
            )));
        }
        let header: Header = serde_json::from_str(header).map_err(unreadable)?;
        header.config.validate()?;
        let oldest = oldest_version(&header.config);
        if version < oldest {
            return Err(format(format!("its notes are of version {oldest}, not {version}")));
        }
        // A config that asks for more than the file holds is refused before memory is taken for it.
        let layout = Layout::new(&header.config);
        if layout.len > bytes.len() {
            return Err(format(format!(
                "its config asks for {} parameters, more than its {} bytes can hold",
                layout.len,
                bytes.len()
            )));
        }
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| format(format!("its tensors are damaged ({error})")))?;
        let mut weights = Self::zeros(header.config)?;
        let mut known = BTreeSet::new();
        for spec in &layout.specs {
            let values = &mut weights.values[spec.range.clone()];
            let dtype = storage::decode(&tensors, version, spec, values)?;
            if !values.iter().all(|value| value.is_finite()) {
                return Err(format(format!("tensor `{}` holds NaN or infinity", spec.name)));
            }
            weights.storage = weights.storage.max(dtype);
            known.insert(spec.name.clone());
            if dtype == Dtype::Int8 {
                known.insert(storage::scale_name(&spec.name));
            }
        }
        if let Some(name) = tensors.names().into_iter().find(|&name| !known.contains(name)) {
            return Err(format(format!("it has a tensor `{name}` that its config does not know")));
        }
        Ok(weights)
    }

    /// The model as the bytes of its file, of [`Weights::storage`]; equal models give equal bytes.
    ///
    /// # Errors
    /// [`Error::Format`] where a value is not finite.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        if !self.values.iter().all(|value| value.is_finite()) {
            return Err(Error::Format("a weight is NaN or infinite; it is not saved".into()));
        }
        let tensors = storage::encode(&self.config, &self.layout, &self.values, self.storage);
        let has_int8 = tensors.iter().any(|tensor| tensor.dtype == FileDtype::I8);
        let format_version = oldest_version(&self.config).max(1 + u32::from(has_int8));
        let header = Header { format_version, config: self.config.clone() };
        let header = serde_json::to_string(&header).map_err(|e| Error::Format(e.to_string()))?;
        let mut views = Vec::with_capacity(tensors.len());
        for tensor in &tensors {
            let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)
                .map_err(|error| Error::Format(error.to_string()))?;
            views.push((&tensor.name, view));
        }
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), header)]);
        safetensors::serialize(views, Some(metadata)).map_err(|e| Error::Format(e.to_string()))
    }

    /// Writes the model file beside its place and renames it there: a reader meets the old file or
    /// the new one, never half of one.
    ///
    /// # Errors
    /// [`Error::Io`], or as [`Weights::to_bytes`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = self.to_bytes()?;
        let mut file = files::beside(path)?;
        file.write_all(&bytes).map_err(|source| Error::io(path, source))?;
        files::finish(file, path)
    }
}

/// The oldest version whose readers know all that a config says.
fn oldest_version(config: &Config) -> u32 {
    match config.conditioning.told() {
        Told::Nothing | Told::Phases => 1,
        Told::Levels => 3,
        Told::Partials => 4,
    }
}

/// Names out of the file may hold anything; a message stays one line of bearable length.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}
