//! The second backend: lanes of a model on an NVIDIA GPU, many or few, with the processor's bytes.
//!
//! The kernels lie in `cuda/kernels/`: the text for any shape is `general/general.cu` and the headers of its phases;
//! `single/`, `batch/`, `pipeline_int8/` and `pipeline_bf16/` are for shapes that the compiler knows. Compiled ahead to
//! PTX (`cuda/ptx/`, made by `tests/peers/nvrtc.py`) they are part of the program, so that a player needs the driver
//! alone; compiled as C++ over a small shim they run in every test, and all but the fast mode must equal the scalar
//! kernel. Nothing of CUDA is touched until [`card`] or [`lanes`] is called: without a GPU, a driver or CUDA a
//! program starts as ever, and is told why there is none.
//!
//! [`Lanes`] is what the rest of the engine sees: orders of so many samples a lane, and codes. `session.rs` feeds the
//! kernel, `choice.rs` says which kernels play a model, `plan.rs` shares voices out among their blocks, `image.rs` is
//! the model as the device reads it, `driver.rs` the boundary to a device and `card.rs` the real one.

#[cfg(feature = "cuda")]
mod card;
mod choice;
mod cluster;
mod driver;
mod image;
mod int8_tiles;
mod lanes;
#[cfg(feature = "cuda")]
mod micro;
mod params;
mod pipeline_bf16;
mod pipeline_int8;
mod plan;
mod session;
mod shapes;
mod single;
mod tuning;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kernels::Packed;
use crate::weights::Weights;
pub use driver::{Card, Cost};
pub use lanes::{Lanes, Order};
use plan::Threads;
use session::Session;

/// The GPU of this machine, the first where there are several.
///
/// # Errors
/// [`Error::Device`] with the reason why there is none.
pub fn card() -> Result<Card> {
    Ok(open()?.card().clone())
}

/// The GPU of this machine, or why it is not available.
pub fn describe() -> String {
    match card() {
        Ok(card) => card.to_string(),
        Err(Error::Device(why)) => why.trim_start_matches("cuda: ").into(),
        Err(error) => format!("not available ({error})"),
    }
}

/// How a GPU computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// As the numeric contract says: the processor's bytes.
    #[default]
    Exact,
    /// The same bytes; a voice that plays alone is spread over the blocks of a cluster, in int8, as long as the card
    /// has clusters enough. For the shapes and cards that have it: `cuda/pipeline_int8.rs`. It has not been measured on
    /// a card yet, so [`Mode::Exact`] does without.
    Pipeline,
    /// A voice alone as fast as it goes, in bf16 on the matrix units: other bytes than the processor's, and other ones
    /// on another kind of card. For the shapes and cards that have it: `cuda/pipeline_bf16.rs`.
    Fast,
}

/// Lanes of a model on the GPU, all in the state of endless silence. `packed` is made of `weights`.
///
/// # Errors
/// [`Error::Device`] where there is no GPU, or not enough memory on it; in modes other than
/// [`Mode::Exact`] also where the card has no clusters, and [`Error::Unsupported`] where the model has another shape,
/// or another type of weights, than they know.
pub fn lanes(weights: &Weights, packed: Arc<Packed>, lanes: usize, mode: Mode) -> Result<Lanes> {
    let session = Session::new(open()?, weights, &packed, lanes, Threads::default(), mode)?;
    Ok(Lanes::on_device(packed, session, lanes))
}

/// What handing on a word costs on the GPU of this machine: barriers, shared memory, the second cache, a
/// cluster's memory, the bus; and a product of bytes, with the matrix units and without.
///
/// # Errors
/// [`Error::Device`] where there is no GPU, or it fails.
pub fn micro() -> Result<Vec<Cost>> {
    #[cfg(feature = "cuda")]
    return micro::micro();
    #[cfg(not(feature = "cuda"))]
    Err(without())
}

#[cfg(feature = "cuda")]
fn open() -> Result<Box<dyn driver::Driver>> {
    Ok(Box::new(card::Cuda::open()?))
}

#[cfg(not(feature = "cuda"))]
fn open() -> Result<Box<dyn driver::Driver>> {
    Err(without())
}

#[cfg(not(feature = "cuda"))]
fn without() -> Error {
    Error::Device("cuda: not available (this program was built without it)".into())
}

#[cfg(test)]
mod shim;
#[cfg(test)]
pub(crate) mod tests;
