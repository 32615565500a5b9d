//! The dilated queue (Paine et al. 2016, "Fast WaveNet"): each layer keeps its own past inputs in a
//! ring, so a step computes every layer once instead of the whole receptive field.
//!
//! A layer with dilation d and K taps reads its input (K-1) d ... d samples back. Its ring has the
//! next power of two of (K-1) d rows; the row of time t is `t & mask`, read before it is overwritten.

use crate::config::Config;

/// Where each layer's ring lies in one lane's memory.
#[derive(Debug, Clone)]
pub struct QueueShape {
    /// Floats of one row: the residual channels, padded as the kernels want them.
    pub width: usize,
    rings: Vec<Ring>,
    floats: usize,
}

#[derive(Debug, Clone)]
struct Ring {
    /// First float of the ring in the lane's memory.
    start: usize,
    /// Rows - 1.
    mask: usize,
    dilation: usize,
}

impl QueueShape {
    /// The rings of a config, with rows of `width` floats.
    pub fn new(config: &Config, width: usize) -> Self {
        let mut floats = 0;
        let rings = config.dilations.iter().map(|&dilation| {
            let rows = ((config.kernel_size - 1) * dilation).next_power_of_two();
            let ring = Ring { start: floats, mask: rows - 1, dilation };
            floats += rows * width;
            ring
        });
        let rings = rings.collect();
        Self { width, rings, floats }
    }
}

/// One lane's past: the rings of all layers and the lane's own time.
#[derive(Debug, Clone)]
pub struct Queues {
    /// Shape: for each layer `[rows][width]`.
    memory: Vec<f32>,
    time: usize,
}

impl Queues {
    /// Rings full of zeros; [`Queues::fill`] sets the start state.
    pub fn new(shape: &QueueShape) -> Self {
        Self { memory: vec![0.0; shape.floats], time: 0 }
    }

    /// As though layer `l` had heard `constants[l * width ..][.. width]` for ever. Real-time safe.
    pub fn fill(&mut self, shape: &QueueShape, constants: &[f32]) {
        for (ring, constant) in shape.rings.iter().zip(constants.chunks_exact(shape.width)) {
            let rows = ring.mask + 1;
            let memory = &mut self.memory[ring.start..ring.start + rows * shape.width];
            for row in memory.chunks_exact_mut(shape.width) {
                row.copy_from_slice(constant);
            }
        }
        self.time = 0;
    }

    /// The input of a layer `taps_back` dilations ago (1 or more).
    #[inline(always)]
    pub fn past(&self, shape: &QueueShape, layer: usize, taps_back: usize) -> &[f32] {
        let ring = &shape.rings[layer];
        let row = self.time.wrapping_sub(taps_back * ring.dilation) & ring.mask;
        let start = ring.start + row * shape.width;
        &self.memory[start..start + shape.width]
    }

    /// The row pushed before the last [`Queues::advance`].
    pub fn newest(&self, shape: &QueueShape, layer: usize) -> &[f32] {
        let ring = &shape.rings[layer];
        let start = ring.start + (self.time.wrapping_sub(1) & ring.mask) * shape.width;
        &self.memory[start..start + shape.width]
    }

    /// Stores a layer's input of now; call it after the layer's pasts have been read.
    #[inline(always)]
    pub fn push(&mut self, shape: &QueueShape, layer: usize, input: &[f32]) {
        let ring = &shape.rings[layer];
        let start = ring.start + (self.time & ring.mask) * shape.width;
        self.memory[start..start + shape.width].copy_from_slice(input);
    }

    /// Goes on to the next sample, after every layer has pushed.
    #[inline(always)]
    pub fn advance(&mut self) {
        self.time = self.time.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_is_what_was_pushed_that_many_samples_ago() {
        for kernel_size in [2, 3] {
            let dilations = vec![1, 2, 3, 5, 8];
            let config = Config { kernel_size, dilations, ..Config::default() };
            let shape = QueueShape::new(&config, 4);
            let mut queues = Queues::new(&shape);
            queues.fill(&shape, &[-1.0; 20]);
            for time in 0..40_i32 {
                for (layer, &dilation) in config.dilations.iter().enumerate() {
                    for taps_back in 1..kernel_size {
                        let then = time - (taps_back * dilation) as i32;
                        let expected =
                            if then < 0 { -1.0 } else { (then * 10 + layer as i32) as f32 };
                        assert_eq!(queues.past(&shape, layer, taps_back), [expected; 4]);
                    }
                    queues.push(&shape, layer, &[(time * 10 + layer as i32) as f32; 4]);
                }
                queues.advance();
            }
        }
    }
}
