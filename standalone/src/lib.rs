//! The parts of `wavenet`, the program that renders, inspects and measures models.
//!
//! [`cli`] says what can be asked. [`render`] takes a [`model`], makes a [`score`] of a key, a
//! MIDI file ([`wavenet_midi`]) or a drone, and plays it into a [`wav`] file and a picture of it;
//! [`mod@stream`] plays without end into a pipe; [`inspect`] and [`mod@bench`] tell what a model is
//! and how fast it runs. [`output`] decides beforehand whether a file can be written at all.

pub mod bench;
pub mod cli;
pub mod devices;
pub mod inspect;
pub mod model;
pub mod output;
pub mod piece;
pub mod play;
pub mod render;
pub mod score;
pub mod stream;
pub mod wav;
