//! The dilated queue (Paine et al. 2016, "Fast WaveNet"): each layer keeps its own past inputs in a
//! ring, so a step computes every layer once instead of the whole receptive field.
//!
//! A layer with dilation d and K taps reads its input (K-1) d ... d samples back. Its ring has the
//! next power of two of (K-1) d rows; the row of time t is `t & mask`, read before it is overwritten.
//! Layer 0 hears codes, so what is kept for it is a ring of codes.

use crate::config::Config;

/// Where each layer's ring lies in one lane's memory.
#[derive(Debug, Clone)]
pub struct QueueShape {
    /// Values of one row: a layer's input, as the kernels want it.
    pub width: usize,
    rings: Vec<Ring>,
    /// Values of all rings of one lane.
    len: usize,
}

#[derive(Debug, Clone)]
struct Ring {
    /// First value of the ring in the lane's memory. (Codes have a memory of their own.)
    start: usize,
    /// Rows - 1.
    mask: usize,
    dilation: usize,
}

impl QueueShape {
    /// The rings of a config, with rows of `width` values.
    pub fn new(config: &Config, width: usize) -> Self {
        let mut len = 0;
        let rings = config.dilations.iter().enumerate().map(|(layer, &dilation)| {
            let rows = ((config.kernel_size - 1) * dilation).next_power_of_two();
            let ring = Ring { start: len, mask: rows - 1, dilation };
            len += if layer == 0 { 0 } else { rows * width };
            ring
        });
        let rings = rings.collect();
        Self { width, rings, len }
    }
}

/// The pasts of some lanes: the rings of all layers, and each lane's own time.
#[derive(Debug, Clone)]
pub struct Queues<T> {
    /// Shape: `[lanes]`, for each layer but the first `[rows][width]`.
    memory: Vec<T>,
    /// Shape: `[lanes][rows]`
    codes: Vec<u8>,
    times: Vec<usize>,
}

impl<T: Copy + Default> Queues<T> {
    /// Rings full of zeros; [`Queues::fill`] sets the start state.
    pub fn new(shape: &QueueShape, lanes: usize) -> Self {
        let codes = shape.rings.first().map_or(0, |ring| ring.mask + 1);
        Self {
            memory: vec![T::default(); lanes * shape.len],
            codes: vec![0; lanes * codes],
            times: vec![0; lanes],
        }
    }

    /// As though a lane had heard `code`, and layer `l` (from 1 on) the row
    /// `constants[l * width ..][.. width]`, for ever. Real-time safe.
    pub fn fill(&mut self, shape: &QueueShape, lane: usize, code: u8, constants: &[T]) {
        let codes = shape.rings[0].mask + 1;
        self.codes[lane * codes..(lane + 1) * codes].fill(code);
        let constants = constants.chunks_exact(shape.width);
        for (ring, constant) in shape.rings.iter().zip(constants).skip(1) {
            let start = lane * shape.len + ring.start;
            let rows = &mut self.memory[start..start + (ring.mask + 1) * shape.width];
            for row in rows.chunks_exact_mut(shape.width) {
                row.copy_from_slice(constant);
            }
        }
        self.times[lane] = 0;
    }

    /// Number of lanes.
    pub fn lanes(&self) -> usize {
        self.times.len()
    }

    /// Samples that a lane has made since it was filled.
    #[inline(always)]
    pub fn time(&self, lane: usize) -> usize {
        self.times[lane]
    }

    /// Every row of every lane; [`Queues::row`] says where each begins.
    #[inline(always)]
    pub fn memory(&self) -> &[T] {
        &self.memory
    }

    /// Where the row begins that stands `taps_back` dilations before the sample `ahead` samples from
    /// now; 0 taps back is the place of that sample's own input. For layers from 1 on.
    #[inline(always)]
    pub fn row(
        &self,
        shape: &QueueShape,
        layer: usize,
        lane: usize,
        taps_back: usize,
        ahead: usize,
    ) -> usize {
        let ring = &shape.rings[layer];
        let time = self.times[lane].wrapping_add(ahead).wrapping_sub(taps_back * ring.dilation);
        lane * shape.len + ring.start + (time & ring.mask) * shape.width
    }

    /// Where the row begins that was written before the last [`Queues::advance`].
    pub fn row_before(&self, shape: &QueueShape, layer: usize, lane: usize) -> usize {
        let ring = &shape.rings[layer];
        let time = self.times[lane].wrapping_sub(1);
        lane * shape.len + ring.start + (time & ring.mask) * shape.width
    }

    /// The place of a layer's input of now, for layers from 1 on; write it after the layer's pasts
    /// have been read.
    #[inline(always)]
    pub fn now(&mut self, shape: &QueueShape, layer: usize, lane: usize) -> &mut [T] {
        let start = self.row(shape, layer, lane, 0, 0);
        &mut self.memory[start..start + shape.width]
    }

    /// The code heard `taps_back` dilations of layer 0 ago (1 or more).
    #[inline(always)]
    pub fn past_code(&self, shape: &QueueShape, lane: usize, taps_back: usize) -> u8 {
        let ring = &shape.rings[0];
        let time = self.times[lane].wrapping_sub(taps_back * ring.dilation);
        self.codes[lane * (ring.mask + 1) + (time & ring.mask)]
    }

    /// Stores the code heard now, after the past ones have been read.
    #[inline(always)]
    pub fn push_code(&mut self, shape: &QueueShape, lane: usize, code: u8) {
        let ring = &shape.rings[0];
        self.codes[lane * (ring.mask + 1) + (self.times[lane] & ring.mask)] = code;
    }

    /// Goes on to a lane's next sample, after every layer has its input of now.
    #[inline(always)]
    pub fn advance(&mut self, lane: usize) {
        self.times[lane] = self.times[lane].wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_is_what_was_pushed_that_many_samples_ago() {
        for kernel_size in [2, 3] {
            let dilations = vec![3, 1, 2, 5, 8];
            let config = Config { kernel_size, dilations, ..Config::default() };
            let shape = QueueShape::new(&config, 4);
            let mut queues = Queues::new(&shape, 2);
            let lane = 1;
            queues.fill(&shape, lane, 200, &[-1.0; 20]);
            for time in 0..40_i32 {
                for (layer, &dilation) in config.dilations.iter().enumerate() {
                    for taps_back in 1..kernel_size {
                        let then = time - (taps_back * dilation) as i32;
                        if layer == 0 {
                            let expected = if then < 0 { 200 } else { then as u8 };
                            assert_eq!(queues.past_code(&shape, lane, taps_back), expected);
                            continue;
                        }
                        let expected =
                            if then < 0 { -1.0 } else { (then * 10 + layer as i32) as f32 };
                        let row = queues.row(&shape, layer, lane, taps_back, 0);
                        assert_eq!(queues.memory()[row..row + 4], [expected; 4]);
                        // What is known of the samples to come.
                        let row = queues.row(&shape, layer, lane, taps_back, dilation - 1);
                        let then = then + dilation as i32 - 1;
                        let expected =
                            if then < 0 { -1.0 } else { (then * 10 + layer as i32) as f32 };
                        assert_eq!(queues.memory()[row..row + 4], [expected; 4]);
                    }
                    if layer > 0 {
                        let now = queues.now(&shape, layer, lane);
                        now.fill((time * 10 + layer as i32) as f32);
                    }
                }
                queues.push_code(&shape, lane, time as u8);
                queues.advance(lane);
            }
        }
    }
}
