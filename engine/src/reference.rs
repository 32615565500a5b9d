//! The whole clip at once, in candle: the oracle that the kernels and the trainer's hand-written
//! backward pass are held to.
//!
//! Where a kernel walks sample by sample with queues, this computes one layer for all times and then
//! the next, as van den Oord et al. 2016 write it (equation 5; docs/model-format.md has every
//! symbol). Rows are times, columns are channels:
//!
//! ```text
//! X   = E[codes]                                                [T, R]
//! F   = sum over taps j of shift(X, (K-1-j) d) W_f[j]^T + H V_f^T + b_f     G likewise
//! Z   = tanh(F) . sigmoid(G)                                    [T, G]
//! X'  = X + Z W_r^T + b_r
//! S  += Z W_s^T + b_s
//! out = relu(relu(S) W_1^T + b_1) W_2^T + b_2                   [T, levels]
//! ```
//!
//! Every tap is a plain matrix product on an input shifted in time: candle's `conv1d` has wrong
//! gradients on the CPU. The parameters are candle variables, so [`Reference::gradient`] gives the
//! derivative of any loss by each of them, in the order of [`Weights::values`].

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::mulaw::MuLaw;
use crate::weights::{Layout, Weights};

/// A model whose parameters are candle tensors.
#[derive(Debug)]
pub struct Reference {
    config: Config,
    layout: Layout,
    tensors: BTreeMap<String, Tensor>,
    device: Device,
    dtype: DType,
}

impl Reference {
    /// A model from its tensors, named and shaped as in docs/model-format.md, all on one device and
    /// of one float type (f64 where rounding should not matter). Those that are variables
    /// (`Var::as_tensor`) can receive a gradient.
    ///
    /// # Errors
    /// [`Error::Shape`] naming a tensor that is missing or has another shape, [`Error::Format`] one
    /// that is not known, [`Error::Unsupported`] where config, types or devices do not fit.
    pub fn new(config: Config, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        config.validate()?;
        let layout = Layout::new(&config);
        for spec in &layout.specs {
            let got = tensors.get(&spec.name).map_or(&[][..], Tensor::dims);
            if got != spec.shape {
                let (tensor, expected) = (spec.name.clone(), spec.shape.clone());
                return Err(Error::Shape { tensor, expected, got: got.to_vec() });
            }
        }
        let known = |name: &String| layout.specs.iter().any(|spec| spec.name == *name);
        if let Some(name) = tensors.keys().find(|name| !known(name)) {
            return Err(Error::Format(format!("its config knows no tensor {name:?}")));
        }
        let embedding = &tensors["embedding.weight"];
        let (device, dtype) = (embedding.device().clone(), embedding.dtype());
        let fits =
            |tensor: &Tensor| tensor.dtype() == dtype && tensor.device().same_device(&device);
        if !dtype.is_float() || !tensors.values().all(fits) {
            return Err(Error::Unsupported(
                "tensors of several types or devices; give all as one float type on one device"
                    .into(),
            ));
        }
        Ok(Self { config, layout, tensors, device, dtype })
    }

    /// A model from its weights, every tensor a new f32 variable on `device`.
    ///
    /// # Errors
    /// [`Error::Device`] where the device refuses.
    pub fn from_weights(weights: &Weights, device: &Device) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for spec in &weights.layout().specs {
            let values = weights.get(&spec.range);
            let var = Var::from_slice(values, spec.shape.as_slice(), device)?;
            tensors.insert(spec.name.clone(), var.into_inner());
        }
        Self::new(weights.config().clone(), tensors)
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The parameters by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The whole conditioning vectors of a clip of one class: its embedding before the local
    /// channels in every row, so that the embedding receives a gradient. `local` has shape
    /// `[frames, C]`. Gives `[frames, H]`, or `None` where H = 0.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a class that does not exist or `local` of another shape.
    pub fn conditioning(
        &self,
        class: usize,
        local: Option<&Tensor>,
        frames: usize,
    ) -> Result<Option<Tensor>> {
        let mut parts = Vec::new();
        if let Some(embeddings) = self.tensors.get("class_embedding.weight") {
            if class >= self.config.classes.len() {
                return Err(Error::Unsupported(format!("class number {class}")));
            }
            let width = self.config.class_width();
            parts.push(embeddings.narrow(0, class, 1)?.broadcast_as((frames, width))?);
        }
        let channels = self.config.local_channels();
        check_rows("local conditioning", local, frames, channels)?;
        if let Some(local) = local.filter(|_| channels > 0) {
            parts.push(local.to_dtype(self.dtype)?);
        }
        Ok(if parts.is_empty() { None } else { Some(Tensor::cat(&parts, 1)?) })
    }

    /// The logits of a clip that begins after endless silence. Shape: `[T, levels]`.
    ///
    /// `codes[t]` is the sample *before* the one that row t predicts, as in `Packed::step`: for a
    /// new sound the first is the code of silence. `conditioning` has shape `[T, H]`, the embedded
    /// class first (see [`Reference::conditioning`]); `None` only where H = 0.
    ///
    /// Silence is a receptive field of the code of 0.0 under all-zero conditioning; its rows are
    /// computed and dropped, which equals the settled state that a kernel starts from.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a code or a conditioning that does not fit the config,
    /// [`Error::Device`] where candle fails.
    pub fn forward(&self, codes: &[u8], conditioning: Option<&Tensor>) -> Result<Tensor> {
        let (silent, frames) = (self.config.receptive_field(), codes.len());
        check_rows("conditioning", conditioning, frames, self.config.conditioning_channels())?;
        let mut all = vec![MuLaw::new(self.config.levels).silence(); silent];
        all.extend_from_slice(codes);
        let padded = conditioning.map(|rows| rows.pad_with_zeros(0, silent, 0)).transpose()?;
        Ok(self.forward_window(&all, padded.as_ref())?.narrow(0, silent, frames)?)
    }

    /// As [`Reference::forward`], but of a window cut out of a longer clip: nothing is put before
    /// it, so its first `receptive_field() - 1` rows did not hear their whole past. Mask them.
    ///
    /// # Errors
    /// As [`Reference::forward`].
    pub fn forward_window(&self, codes: &[u8], conditioning: Option<&Tensor>) -> Result<Tensor> {
        let h = self.config.conditioning_channels();
        check_rows("conditioning", conditioning, codes.len(), h)?;
        let conditioning =
            conditioning.filter(|_| h > 0).map(|rows| rows.to_dtype(self.dtype)).transpose()?;
        let codes = self.code_tensor(codes)?;

        let mut x = self.tensors["embedding.weight"].index_select(&codes, 0)?;
        let mut skips: Option<Tensor> = None;
        for (index, &dilation) in self.config.dilations.iter().enumerate() {
            let layer = format!("layers.{index}");
            let half = |half: &str| -> Result<Tensor> {
                let name = format!("{layer}.{half}");
                let taps = &self.tensors[&format!("{name}.weight")];
                let mut sum = None;
                for tap in 0..self.config.kernel_size {
                    let back = (self.config.kernel_size - 1 - tap) * dilation;
                    let product = shift(&x, back)?.matmul(&taps.get(tap)?.t()?)?;
                    sum = add(sum, product)?;
                }
                if let Some(rows) = &conditioning {
                    let weight = &self.tensors[&format!("{name}.conditioning.weight")];
                    sum = add(sum, rows.matmul(&weight.t()?)?)?;
                }
                let sum = sum.ok_or_else(|| Error::Unsupported("a kernel of no taps".into()))?;
                Ok(sum.broadcast_add(&self.tensors[&format!("{name}.bias")])?)
            };
            let z = (half("filter")?.tanh()? * candle_nn::ops::sigmoid(&half("gate")?)?)?;
            skips = add(skips, self.affine(&format!("{layer}.skip"), &z)?)?;
            // Nothing would read what the last block adds to the residual stream.
            if index + 1 < self.config.layers() {
                x = (x + self.affine(&format!("{layer}.residual"), &z)?)?;
            }
        }
        let skips = skips.ok_or_else(|| Error::Unsupported("a model of no layers".into()))?;
        let hidden = self.affine("end1", &skips.relu()?)?.relu()?;
        self.affine("end2", &hidden)
    }

    /// The mean cross-entropy of `targets` in nats, over the rows from `first_row` on: a scalar.
    /// `logits` has shape `[T, levels]` and `targets` length T; row t predicts `targets[t]`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no row is left or a target is not a code.
    pub fn loss(&self, logits: &Tensor, targets: &[u8], first_row: usize) -> Result<Tensor> {
        check_rows("logits", Some(logits), targets.len(), self.config.levels)?;
        let Some(rows) = targets.len().checked_sub(first_row).filter(|&rows| rows > 0) else {
            return Err(Error::Unsupported("a loss over no rows".into()));
        };
        let targets = self.code_tensor(&targets[first_row..])?;
        Ok(candle_nn::loss::cross_entropy(&logits.narrow(0, first_row, rows)?, &targets)?)
    }

    /// The derivative of a scalar by every parameter, flat, in the order of [`Weights::values`];
    /// 0 for parameters that it does not depend on.
    ///
    /// # Errors
    /// [`Error::Device`] where candle fails.
    pub fn gradient(&self, scalar: &Tensor) -> Result<Vec<f32>> {
        let gradients = scalar.backward()?;
        let mut flat = vec![0.0; self.layout.len];
        for spec in &self.layout.specs {
            if let Some(gradient) = gradients.get(&self.tensors[&spec.name]) {
                let values = gradient.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                flat[spec.range.clone()].copy_from_slice(&values);
            }
        }
        Ok(flat)
    }

    fn affine(&self, name: &str, input: &Tensor) -> Result<Tensor> {
        let weight = &self.tensors[&format!("{name}.weight")];
        let bias = &self.tensors[&format!("{name}.bias")];
        Ok(input.matmul(&weight.t()?)?.broadcast_add(bias)?)
    }

    fn code_tensor(&self, codes: &[u8]) -> Result<Tensor> {
        if let Some(code) = codes.iter().find(|&&code| usize::from(code) >= self.config.levels) {
            return Err(Error::Unsupported(format!(
                "code {code} in a model of {} levels",
                self.config.levels
            )));
        }
        let codes: Vec<u32> = codes.iter().map(|&code| u32::from(code)).collect();
        Ok(Tensor::new(codes, &self.device)?)
    }
}

/// `x` as it was `frames` rows earlier; rows before the first are zero.
fn shift(x: &Tensor, frames: usize) -> Result<Tensor> {
    let rows = x.dim(0)?;
    let frames = frames.min(rows);
    Ok(x.narrow(0, 0, rows - frames)?.pad_with_zeros(0, frames, 0)?)
}

fn add(sum: Option<Tensor>, term: Tensor) -> Result<Option<Tensor>> {
    Ok(Some(match sum {
        Some(sum) => (sum + term)?,
        None => term,
    }))
}

/// Refuses rows that are not `[frames, channels]`; absent rows are fine where `channels` is 0.
fn check_rows(what: &str, rows: Option<&Tensor>, frames: usize, channels: usize) -> Result<()> {
    let got = rows.map(Tensor::dims);
    if got.map_or(channels == 0, |got| got == [frames, channels]) {
        return Ok(());
    }
    Err(Error::Unsupported(format!("{what} of shape {got:?}; it must be {:?}", [frames, channels])))
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // candle may put a backtrace on the lines after the first.
        Self::Device(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NoteRecipe, Recipe};
    use crate::sampling::Philox;

    fn small(kernel_size: usize) -> Weights {
        let recipe = NoteRecipe { partials: 2, ..NoteRecipe::default() };
        let config = Config {
            levels: 8,
            residual_channels: 5,
            gate_channels: 4,
            skip_channels: 6,
            end_channels: 7,
            kernel_size,
            dilations: vec![1, 3, 2],
            classes: vec!["a".into(), "b".into()],
            class_channels: 2,
            conditioning: Recipe::Note(recipe),
            ..Config::default()
        };
        let mut weights = Weights::random(config, 7).unwrap();
        let draws = Philox::new(8, 8);
        for (index, value) in weights.values_mut().iter_mut().enumerate() {
            *value += 0.2 * (draws.uniform(index as u64) - 0.5);
        }
        weights
    }

    /// The same model in f64, so that finite differences are exact enough to judge.
    fn in_f64(weights: &Weights, changed: usize, by: f64) -> Reference {
        let mut tensors = BTreeMap::new();
        for spec in &weights.layout().specs {
            let mut values: Vec<f64> =
                weights.get(&spec.range).iter().copied().map(f64::from).collect();
            if spec.range.contains(&changed) {
                values[changed - spec.range.start] += by;
            }
            let shape = spec.shape.as_slice();
            let var = Var::from_vec(values, shape, &Device::Cpu).unwrap();
            tensors.insert(spec.name.clone(), var.into_inner());
        }
        Reference::new(weights.config().clone(), tensors).unwrap()
    }

    fn loss(model: &Reference) -> Tensor {
        let draws = Philox::new(3, 1);
        let codes: Vec<u8> = (0..13).map(|t| (draws.draw(t) % 8) as u8).collect();
        let channels = model.config().local_channels();
        let local: Vec<f32> = (0..12 * channels as u64).map(|t| draws.uniform(100 + t)).collect();
        let local = Tensor::from_vec(local, (12, channels), &Device::Cpu).unwrap();
        let h = model.conditioning(1, Some(&local), 12).unwrap();
        let logits = model.forward(&codes[..12], h.as_ref()).unwrap();
        model.loss(&logits, &codes[1..], 2).unwrap()
    }

    #[test]
    fn gradients_equal_finite_differences() {
        for kernel_size in [2, 3] {
            let weights = small(kernel_size);
            let model = in_f64(&weights, 0, 0.0);
            let gradient = model.gradient(&loss(&model)).unwrap();
            for spec in &weights.layout().specs {
                let largest = spec
                    .range
                    .clone()
                    .max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()))
                    .unwrap();
                for index in [spec.range.start, largest, spec.range.end - 1] {
                    let at =
                        |by: f64| loss(&in_f64(&weights, index, by)).to_scalar::<f64>().unwrap();
                    let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
                    let error = (f64::from(gradient[index]) - expected).abs();
                    assert!(error < 1e-7, "{} {index}: {error}", spec.name);
                }
                assert_ne!(gradient[largest], 0.0, "{}", spec.name);
            }
        }
    }

    #[test]
    fn f32_and_f64_agree() {
        let weights = small(3);
        let single = Reference::from_weights(&weights, &Device::Cpu).unwrap();
        let double = in_f64(&weights, 0, 0.0);
        let single = f64::from(loss(&single).to_scalar::<f32>().unwrap());
        assert!((single - loss(&double).to_scalar::<f64>().unwrap()).abs() < 1e-5);
    }

    #[test]
    fn all_zero_weights_predict_nothing_at_ln_levels_nats() {
        let weights = Weights::zeros(small(2).config().clone()).unwrap();
        let model = Reference::from_weights(&weights, &Device::Cpu).unwrap();
        let nats = loss(&model).to_scalar::<f32>().unwrap();
        assert!((nats - libm::logf(8.0)).abs() < 1e-6);
    }

    #[test]
    fn a_window_equals_the_clip_once_it_hears_its_whole_past() {
        let weights = small(3);
        let model = Reference::from_weights(&weights, &Device::Cpu).unwrap();
        let codes: Vec<u8> = (0..60).map(|t| (t * 5 % 8) as u8).collect();
        let (draws, width) = (Philox::new(1, 1), model.config().conditioning_channels());
        let h: Vec<f32> = (0..60 * width as u64).map(|t| draws.uniform(t)).collect();
        let h = Tensor::from_vec(h, (60, width), &Device::Cpu).unwrap();
        let clip = model.forward(&codes, Some(&h)).unwrap().to_vec2::<f32>().unwrap();
        let tail = h.narrow(0, 10, 50).unwrap();
        let window = model.forward_window(&codes[10..], Some(&tail)).unwrap();
        let window = window.to_vec2::<f32>().unwrap();
        let past = model.config().receptive_field() - 1;
        for (row, (clip, window)) in clip[10..].iter().zip(&window).enumerate().skip(past) {
            for (a, b) in clip.iter().zip(window) {
                assert!((a - b).abs() < 1e-6, "row {row}");
            }
        }
        assert_ne!(clip[10], window[0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let weights = small(2);
        let model = Reference::from_weights(&weights, &Device::Cpu).unwrap();
        let h = model.config().conditioning_channels();
        let rows = Tensor::zeros((2, h), DType::F32, &Device::Cpu).unwrap();
        assert!(model.forward(&[0, 1], None).is_err());
        assert!(model.forward(&[0, 1, 2], Some(&rows)).is_err());
        assert!(model.forward(&[0, 8], Some(&rows)).is_err());
        assert!(model.conditioning(2, None, 2).is_err());
        let logits = model.forward(&[0, 1], Some(&rows)).unwrap();
        assert!(model.loss(&logits, &[0, 1], 2).is_err());
        assert!(model.loss(&logits, &[0], 0).is_err());
        let mut tensors = model.tensors().clone();
        tensors.remove("end1.bias");
        let error = Reference::new(weights.config().clone(), tensors).unwrap_err().to_string();
        assert!(error.contains("end1.bias"), "{error}");
    }
}
