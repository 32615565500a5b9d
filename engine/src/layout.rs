//! Which tensors a config has, in which order and shape, and where they lie in one flat vector
//! (docs/model-format.md is its prose twin).

use std::ops::Range;

use crate::config::Config;

/// One tensor's place in the flat vector.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// Name in the file.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Where its values lie in [`Weights::values`](crate::Weights::values).
    pub range: Range<usize>,
}

/// Filter or gate of one residual block.
#[derive(Debug, Clone)]
pub struct GateLayout {
    /// `[K, G, R]`, oldest tap first.
    pub taps: Range<usize>,
    /// `[G, H]`, absent where H = 0.
    pub conditioning: Option<Range<usize>>,
    /// `[G]`
    pub bias: Range<usize>,
}

/// A 1x1 convolution.
#[derive(Debug, Clone)]
pub struct AffineLayout {
    /// `[out, in]`
    pub weight: Range<usize>,
    /// `[out]`
    pub bias: Range<usize>,
}

/// One residual block.
#[derive(Debug, Clone)]
pub struct LayerLayout {
    /// The tanh half.
    pub filter: GateLayout,
    /// The sigmoid half.
    pub gate: GateLayout,
    /// `[R, G]`; the last block has none, as nothing would read it.
    pub residual: Option<AffineLayout>,
    /// `[S, G]`
    pub skip: AffineLayout,
}

/// Every tensor of a model and its place.
#[derive(Debug, Clone)]
pub struct Layout {
    /// All tensors in the order of the flat vector.
    pub specs: Vec<TensorSpec>,
    /// `[levels, R]`
    pub embedding: Range<usize>,
    /// `[classes, class_channels]`
    pub class_embedding: Option<Range<usize>>,
    /// Residual blocks, first to last.
    pub layers: Vec<LayerLayout>,
    /// `[A, S]`
    pub end1: AffineLayout,
    /// `[levels, A]`
    pub end2: AffineLayout,
    /// Number of parameters.
    pub len: usize,
}

impl Layout {
    /// The tensors of a valid config.
    pub fn new(config: &Config) -> Self {
        let mut specs: Vec<TensorSpec> = Vec::new();
        let mut len = 0;
        let mut add = |name: String, shape: &[usize]| {
            let range = len..len + shape.iter().product::<usize>();
            len = range.end;
            let shape = shape.to_vec();
            specs.push(TensorSpec { name, shape, range: range.clone() });
            range
        };
        let (r, g) = (config.residual_channels, config.gate_channels);
        let (s, a) = (config.skip_channels, config.end_channels);
        let (k, h) = (config.kernel_size, config.conditioning_channels());

        let embedding = add("embedding.weight".into(), &[config.levels, r]);
        let class_embedding = (!config.classes.is_empty()).then(|| {
            add("class_embedding.weight".into(), &[config.classes.len(), config.class_channels])
        });
        let mut layers = Vec::with_capacity(config.layers());
        for layer in 0..config.layers() {
            let mut gate = |half: &str| GateLayout {
                taps: add(format!("layers.{layer}.{half}.weight"), &[k, g, r]),
                conditioning: (h > 0)
                    .then(|| add(format!("layers.{layer}.{half}.conditioning.weight"), &[g, h])),
                bias: add(format!("layers.{layer}.{half}.bias"), &[g]),
            };
            let (filter, gate) = (gate("filter"), gate("gate"));
            let mut affine = |part: &str, out: usize| AffineLayout {
                weight: add(format!("layers.{layer}.{part}.weight"), &[out, g]),
                bias: add(format!("layers.{layer}.{part}.bias"), &[out]),
            };
            layers.push(LayerLayout {
                filter,
                gate,
                residual: (layer + 1 < config.layers()).then(|| affine("residual", r)),
                skip: affine("skip", s),
            });
        }
        let mut affine = |name: &str, out: usize, input: usize| AffineLayout {
            weight: add(format!("{name}.weight"), &[out, input]),
            bias: add(format!("{name}.bias"), &[out]),
        };
        let end1 = affine("end1", a, s);
        let end2 = affine("end2", config.levels, a);
        Self { specs, embedding, class_embedding, layers, end1, end2, len }
    }
}
