//! What the card needs beside candle: that memory it has freed stays its own.

mod memory;

pub(super) use memory::keep_memory;
