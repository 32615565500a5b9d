//! What the kernels are told: the twin of `common/model.cuh`, field by field. Memory is counted in units of 16
//! bytes, addresses are the device's.

/// 16 bytes: what a thread loads at once.
pub(super) type Unit = [u32; 4];

/// A vector of inputs.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Vector {
    pub(super) channels: u32,
    /// Channels of one quarter; of no use for bytes.
    pub(super) quarter: u32,
    /// Floats of one quarter, padded.
    pub(super) pitch: u32,
    /// `ceil(2^31 / quarter)`
    pub(super) reciprocal: u32,
    pub(super) units: u32,
    /// The unit with the scale of bytes; 0 where there is none.
    pub(super) scale: u32,
}

/// Matrices of one shape, one after another.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Matrices {
    pub(super) start: u32,
    pub(super) stride: u32,
    pub(super) rows: u32,
    pub(super) steps: u32,
    pub(super) scales: u32,
    pub(super) corrections: u32,
}

/// One stream of samples, as the host orders it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Voice {
    pub(super) made: u64,
    pub(super) key: u64,
    pub(super) stream: u64,
    pub(super) share: u64,
    pub(super) temperature: f32,
    pub(super) lane: u32,
    pub(super) code: u32,
    /// For the device to use.
    pub(super) rest: [u32; 5],
}

/// The goal rises no more.
pub(super) const LAST: u32 = 1 << 31;
/// Bytes of a voice's mail: the goal, then what is done.
pub(super) const MAIL: usize = 8;

/// The kernel's one argument.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Params {
    pub(super) weights: u64,
    pub(super) floats: u64,
    pub(super) silence: u64,
    pub(super) rings: u64,
    pub(super) lanes: u64,
    pub(super) scratch: u64,
    pub(super) orders: u64,
    pub(super) mail: u64,
    pub(super) conditioning: u64,
    pub(super) codes: u64,
    pub(super) logits: u64,
    pub(super) most_cycles: u64,
    pub(super) most_turns: u32,
    pub(super) orders_count: u32,
    pub(super) voices: u32,
    pub(super) conditioning_mask: u32,
    pub(super) codes_mask: u32,
    pub(super) told_rows: u32,
    pub(super) layers: u32,
    pub(super) kernel_size: u32,
    pub(super) levels: u32,
    pub(super) silent_code: u32,
    pub(super) lane_units: u32,
    pub(super) lane_codes: u32,
    pub(super) residual: Vector,
    pub(super) gate: Vector,
    pub(super) skip: Vector,
    pub(super) end: Vector,
    pub(super) conditioning_vector: Vector,
    pub(super) taps: Matrices,
    pub(super) conditioning_weights: Matrices,
    pub(super) residuals: Matrices,
    pub(super) skips: Matrices,
    pub(super) end1: Matrices,
    pub(super) end2: Matrices,
    pub(super) gate_bias: u32,
    pub(super) residual_bias: u32,
    pub(super) skip_bias: u32,
    pub(super) end1_bias: u32,
    pub(super) end2_bias: u32,
    pub(super) embedding: u32,
    pub(super) tables: u32,
    pub(super) at_voices: u32,
    pub(super) at_told: u32,
    pub(super) at_h: u32,
    pub(super) at_x: u32,
    pub(super) at_input: u32,
    pub(super) at_units: u32,
    pub(super) at_ahead: u32,
    pub(super) at_skips: u32,
    pub(super) at_skip_input: u32,
    pub(super) at_hidden: u32,
    pub(super) at_hidden_input: u32,
    pub(super) at_logits: u32,
    pub(super) at_rings: u32,
    pub(super) at_past: u32,
    pub(super) at_largest: u32,
    pub(super) work_units: u32,
    pub(super) work_is_shared: u32,
    pub(super) resident_units: u32,
}

/// The second argument of the single-stream kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SingleArgs {
    pub(super) packets: u32,
    pub(super) past_tiles: u32,
    pub(super) conditioning_tiles: u32,
    pub(super) skip_tiles: u32,
    pub(super) end1_tiles: u32,
    pub(super) end2_tiles: u32,
    pub(super) resident: u32,
    pub(super) slots: u32,
    pub(super) at_voice: u32,
    pub(super) at_rings: u32,
    pub(super) at_units: u32,
    pub(super) at_ahead: u32,
    pub(super) at_h: u32,
    pub(super) at_x: u32,
    pub(super) at_latest: u32,
    pub(super) at_skip_input: u32,
    pub(super) at_hidden_input: u32,
    pub(super) at_maxima: u32,
    pub(super) at_logits: u32,
    pub(super) at_weights: u32,
    pub(super) at_nucleus: u32,
    pub(super) at_draws: u32,
    pub(super) at_codes: u32,
    pub(super) at_end2: u32,
    pub(super) at_packets: u32,
}

/// The blocks of a cluster, in the order of their ranks: with these the kernels' second arguments begin.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Blocks {
    /// All, also those that are left over.
    pub(super) all: u32,
    /// Those that have layers, and those that only sum skips.
    pub(super) chains: u32,
    pub(super) skip_blocks: u32,
    /// Layers whose skips these sum.
    pub(super) early: u32,
}

/// The second argument of the int8 pipeline.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PipelineInt8Args {
    pub(super) blocks: Blocks,
    pub(super) resident_past: u32,
    pub(super) packets: u32,
    pub(super) past: u32,
    pub(super) conditioning: u32,
    pub(super) skips: u32,
    pub(super) end1: u32,
    pub(super) end2: u32,
}

/// The second argument of the bf16 pipeline.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PipelineBf16Args {
    pub(super) blocks: Blocks,
    pub(super) resident: u32,
    pub(super) resident_skips: u32,
    pub(super) resident_first: u32,
    pub(super) heard_units: u32,
    pub(super) joined: u32,
    pub(super) residuals: u32,
    pub(super) packets: u32,
    pub(super) packet: u32,
    pub(super) first_conditioning: u32,
    pub(super) heard: u32,
    pub(super) skips: u32,
    pub(super) end1: u32,
    pub(super) end2: u32,
    pub(super) gate_bias: u32,
}

/// Floats from one voice to the next, a multiple of 4.
fn pitch(channels: u32) -> u32 {
    (channels + 23) / 32 * 32 + 8
}

/// Regions of memory that follow each other, in units.
pub(super) struct Regions {
    end: u32,
}

impl Regions {
    /// The first begins after so many units.
    pub(super) fn after(units: u32) -> Self {
        Self { end: units }
    }

    /// Where the next one begins, of so many units.
    pub(super) fn next(&mut self, units: u32) -> u32 {
        self.end += units;
        self.end - units
    }

    /// Where the last one ends.
    pub(super) fn end(&self) -> u32 {
        self.end
    }
}

impl Params {
    /// Lays out the working memory of a block that plays so many voices.
    pub(super) fn set_voices(&mut self, voices: u32) {
        // The first unit is a flag that all threads look at.
        let mut regions = Regions::after(1);
        let mut region = |units| regions.next(units);
        let floats = |channels: u32| voices * pitch(channels) / 4;
        self.voices = voices;
        self.at_voices = region(voices * (size_of::<Voice>() / size_of::<Unit>()) as u32);
        self.at_told = region(floats(self.told_rows * self.conditioning_vector.channels));
        self.at_h = region(voices * self.conditioning_vector.units);
        self.at_x = region(floats(self.residual.channels));
        self.at_input = region(voices * self.residual.units);
        self.at_units = region(voices * (self.layers * self.gate.units + 1));
        // Only one that plays alone sums ahead.
        let ahead = if voices == 1 { self.layers * 2 * self.gate.channels } else { 0 };
        self.at_ahead = region(floats(ahead));
        self.at_skips = region(floats(self.skip.channels));
        self.at_skip_input = region(voices * self.skip.units);
        self.at_hidden = region(floats(self.end.channels));
        self.at_hidden_input = region(voices * self.end.units);
        self.at_logits = region(floats(self.levels));
        self.work_units = regions.end();
    }

    /// The same for the batch kernel (`batch/batch.cuh`): what is needed one after another shares its memory.
    pub(super) fn set_batch_voices(&mut self, voices: u32) {
        let mut regions = Regions::after(1);
        let mut region = |units| regions.next(units);
        let floats = |channels: u32| voices * pitch(channels) / 4;
        self.voices = voices;
        self.at_voices = region(voices * (size_of::<Voice>() / size_of::<Unit>()) as u32);
        self.at_rings = region(self.layers);
        self.at_told = region(floats(self.told_rows * self.conditioning_vector.channels));
        self.at_h = region(voices * self.conditioning_vector.units);
        self.at_x = region(floats(self.residual.channels));
        self.at_input = region(voices * self.residual.units);
        self.at_past = region((self.kernel_size - 1) * voices * self.residual.units);
        self.at_largest = region(2 * voices / 4);
        self.at_skip_input = region(voices * self.skip.units.max(self.end.units));
        self.at_hidden_input = self.at_skip_input;
        let units = voices * (self.layers * self.gate.units + 1);
        self.at_units = region(units.max(floats(self.levels)));
        self.at_logits = self.at_units;
        self.work_units = regions.end();
    }
}
