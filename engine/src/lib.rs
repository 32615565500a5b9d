//! WaveNet as an instrument: the model, its file, and real-time incremental inference.
//!
//! The way through: a model file becomes [`Weights`] (validated), those become
//! [`kernels::Packed`] (in the order a kernel reads them), and a [`kernels::State`] remembers the
//! past of every voice in dilated queues. [`sampling`] chooses codes, [`mulaw`] turns them into
//! samples, [`conditioning`] tells the model which note it plays, [`synth`] does all of it for a
//! list of events, and [`resample`] brings the result to the host's rate.
//!
//! Building may fail; playing may not: everything that runs a sample says so in its docs
//! ("real-time safe": it never allocates, locks, waits, or calls the system; with a helper thread a step
//! may spin for a bounded time).

pub mod conditioning;
pub mod config;
mod crew;
pub mod cuda;
pub mod error;
pub mod files;
pub mod kernels;
mod layout;
pub mod math;
pub mod mulaw;
pub mod queue;
#[cfg(feature = "reference")]
pub mod reference;
pub mod renderer;
pub mod resample;
pub mod rounding;
pub mod sampling;
mod storage;
pub mod stream;
pub mod synth;
pub mod weights;

pub use config::{Config, Dtype, KeyTable, MAX_PARTIALS, NoteRecipe, Recipe, Told};
pub use error::{Error, Result};
pub use kernels::{Isa, Packed, State};
pub use mulaw::MuLaw;
pub use sampling::{Philox, Sampling};
pub use weights::Weights;
