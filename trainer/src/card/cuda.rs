//! What the card has beside candle: kernels of our own between the products, and memory that stays.

mod launch;
mod memory;
pub(super) mod parts;

pub(super) use memory::keep_memory;
