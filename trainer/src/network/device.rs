//! Where a training step is computed, and what must be built for it.

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// What computes losses and gradients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The processor, by the step written by hand
    #[default]
    Cpu,
    /// An NVIDIA card (a build with the feature `cuda`)
    Cuda,
    /// The processor, by candle's graph: what the others are compared with (feature `candle`)
    #[value(hide = true)]
    Candle,
}

impl Device {
    /// Whether this program was built for the device.
    ///
    /// # Errors
    /// One line that says how to build one that is.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Cuda if cfg!(not(feature = "cuda")) => bail!(
                "this program was built without CUDA: with its toolkit (nvcc) installed, `cargo build \
                 --release -p wavenet-trainer --features cuda` builds one that trains on the card"
            ),
            Self::Candle if cfg!(not(feature = "candle")) => bail!(
                "this program was built without candle: `cargo build --release -p wavenet-trainer \
                 --features candle` builds one with it"
            ),
            _ => Ok(()),
        }
    }
}

/// How the numbers of a step are rounded. The weights that learn, the optimizer and the loss are f32 in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats throughout
    #[default]
    F32,
    /// Factors of products rounded to 10 bits behind the point (`cuda` only)
    Tf32,
    /// Weights, activations and their gradients in 16-bit floats (`cuda` only)
    Bf16,
}

impl Precision {
    /// Whether a device computes so.
    ///
    /// # Errors
    /// One line.
    pub fn check(self, device: Device) -> Result<()> {
        ensure!(
            self == Self::F32 || device == Device::Cuda,
            "only --device cuda trains in another --precision than f32"
        );
        Ok(())
    }
}
