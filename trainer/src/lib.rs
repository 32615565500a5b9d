//! From recordings to weights: everything behind `wavenet-trainer`.
//!
//! The way through: [`corpus`] finds recordings and what their names tell, [`audio`] decodes them,
//! [`trim`] cuts silence, `takes` cuts phrases into notes, [`prepare`] does this for a folder and [`prepared`] keeps
//! the result on disk. [`partials`] analyses recorded notes. [`material`] cuts segments from it all, [`network`]
//! computes their loss and gradient, [`optimizer`] moves the weights, [`learner`] does both, here or on a card,
//! [`training`] does this until told to stop and keeps [`checkpoint`]s. [`augmentation`] changes what is heard,
//! [`finetune`] starts from another model. [`mod@log`] and [`report`] tell what happened, by [`clip`]s of sound and by
//! [`listening`] to them. [`eval`] measures what came out, [`mod@export`] makes it small. [`model`] reads models,
//! [`words`] and [`commands`] are for what users read.

pub mod audio;
pub mod augmentation;
pub mod bench;
#[cfg(feature = "candle")]
pub mod card;
pub mod checkpoint;
pub mod cli;
pub mod clip;
pub mod commands;
pub mod corpus;
pub mod eval;
pub mod export;
pub mod finetune;
pub mod learner;
pub mod listening;
pub mod log;
pub mod material;
pub mod model;
pub mod network;
pub mod optimizer;
pub mod partials;
pub mod prepare;
pub mod prepared;
pub mod report;
pub mod rounding;
pub mod settings;
pub mod synth_recordings;
pub mod training;
pub mod trim;
pub mod words;

mod hex;
mod kernels;
mod takes;
