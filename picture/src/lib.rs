//! Pictures of sound and of learning, for the programs that make either.
//!
//! [`spectrogram`] measures how a sound's spectrum moves. [`write_png`] draws it below the waveform
//! with axes and a title, [`spectrogram_png`] draws it alone, small enough for a list of sounds.
//! [`curves`] draws numbers over steps or minutes, as SVG text that takes its colours from the page.

mod canvas;
mod colour;
pub mod curves;
mod envelope;
mod small;
mod sound;
pub mod spectrogram;
mod ticks;

pub use small::spectrogram_png;
pub use sound::write_png;
