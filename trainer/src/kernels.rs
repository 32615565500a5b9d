//! The training step's inner loops: matrix products and the element-wise work between them, each
//! dispatched once to the widest instructions of the machine.

pub(crate) mod elementwise;
pub(crate) mod product;
