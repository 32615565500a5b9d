// What the host tells the kernel: where a model lies, how it is shaped, and what to do. `params.rs` is its
// twin in Rust, field by field.
//
// Memory is counted in units of 16 bytes (uint4), one load of a thread. Products are of rows of weights and
// vectors:
//
//   weights    by step, quarter and row, [steps][4][rows] units: neighbouring rows lie side by side, so the
//              threads of a warp read one stretch of memory
//   vectors    floats: four quarters of `pitch` floats each; bytes: [steps][4] units, then a unit with the
//              scale, but for gated units. What pads them is zero.
//
// A quarter is the numeric contract's (docs/model-format.md, section 9) for floats; for bytes, whose sums are
// exact in any order, merely a fourth of the work.
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

// A vector of inputs.
struct Vector {
  u32 channels;
  u32 quarter;     // channels of one quarter
  u32 pitch;       // floats of one quarter, padded
  u32 reciprocal;  // ceil(2^31 / quarter)
  u32 units;       // of the whole vector
  u32 scale;       // bytes: the unit with the scale; 0 where there is none
};

// Matrices of one shape, one after another: one a layer, or one a layer and tap. The skips of bytes are one,
// whose steps are those of all layers.
struct Matrices {
  u32 start;        // unit of the first
  u32 stride;       // units from one to the next
  u32 rows;
  u32 steps;
  u32 scales;       // bytes: float of the first row's scale
  u32 corrections;  // bytes after a relu: float (its bits an int) of what to add to the first row's sum; else 0
};

// One stream of samples: as the host orders it, and as a block keeps it in working memory. 64 bytes.
struct Voice {
  u64 made;         // samples since its silence: the number of the next draw
  u64 key, stream;  // of its draws
  u64 share;        // top-p times 2^32; 2^32 where all codes are kept
  float temperature;
  u32 lane;         // whose memory it goes on with
  u32 code;         // the sample that it made last
  u32 goal, done;   // as in Mail; the host leaves them 0, and what follows
  u32 is_last;      // the goal rises no more
  u32 is_active;    // makes a sample now
  u32 told;         // samples whose conditioning vectors lie in working memory, or did
};

// What host and device tell each other while the kernel runs, counted in samples since the voice's `made` at the start.
struct Mail {
  u32 goal;  // host: what may be made; it only rises, and LAST stands in it when it rises no more
  u32 done;  // device: what was made, and lies in the ring of codes
};

constexpr u32 LAST = 0x80000000u;

struct Params {
  // Memory.
  const uint4 *weights;
  const float *floats;
  const uint4 *silence;  // [layers][residual.units]: every layer's input while silence lasts
  const uint4 *rings;    // [layers]: first unit in a lane (layer 0: none), rows - 1, dilation, 0
  uint4 *lanes;          // [lanes][lane_units]: the rings of layers from 1 on, then that of the codes
  uint4 *scratch;        // [blocks][work.units] where that does not fit into shared memory
  // This slice.
  const Voice *orders;
  Mail *mail;
  const float *conditioning;  // [orders][conditioning_mask + 1][H]
  u8 *codes;                  // [orders][codes_mask + 1]
  float *logits;              // [orders][levels] of the last sample, or null
  u64 most_cycles;            // after these no sample is begun
  u32 most_turns;             // looks for a higher goal before the slice ends
  u32 orders_count;
  u32 voices;  // orders of one block
  u32 conditioning_mask, codes_mask;
  u32 told_rows;  // vectors of a voice that are fetched at once: the bus is slow to answer
  // The model.
  u32 layers, kernel_size, levels, silent_code;
  u32 lane_units, lane_codes;  // of a lane: all units, the unit where codes begin
  Vector residual, gate, skip, end, conditioning_vector;
  Matrices taps, conditioning_weights, residuals, skips, end1, end2;
  u32 gate_bias, residual_bias, skip_bias, end1_bias, end2_bias, embedding, tables;  // floats
  // A block's working memory, in units from its beginning; all but the first are [voices] times their own.
  u32 at_voices, at_told, at_h, at_x, at_input, at_units, at_ahead, at_skips, at_skip_input, at_hidden,
      at_hidden_input, at_logits;
  u32 at_rings, at_past, at_largest;  // of a batch of a known shape (batch/batch.cuh)
  u32 work_units, work_is_shared;
  u32 resident_units;  // of the weights, from the first on, that are copied to shared memory
};

// The second argument of the single-stream kernel (single/single.cuh). Of the model, in units of the weights: matrices
// by tiles of 16 rows and 32 columns, as the lanes of a warp hold them.
struct SingleArgs {
  u32 packets;             // [layers][PACKET]
  u32 past_tiles;          // [layers - 1][kernel_size - 1][R / 32][R_PARTS][2][filter, gate][32]
  u32 conditioning_tiles;  // [layers][R / 32][parts][2][filter, gate][32]
  u32 skip_tiles;          // [layers][S / 16][R_PARTS][32]
  u32 end1_tiles;          // [A / 16][S_PARTS][32]
  u32 end2_tiles;          // [LEVELS / 16][A_PARTS][32]
  // Of the block's shared memory.
  u32 resident;  // layers whose packets stay there
  u32 slots;     // packets of other layers, at a time: a power of two
  u32 at_voice, at_rings, at_units, at_ahead, at_h, at_x, at_latest, at_skip_input, at_hidden_input, at_maxima,
      at_logits, at_weights, at_nucleus, at_draws, at_codes, at_end2, at_packets;
};

// The second argument of the int8 pipeline (pipeline_int8/pipeline_int8.cuh). Of the model: units of the weights,
// matrices by tiles of 16 rows and 32 columns.
struct PipelineInt8Args {
  u32 blocks, chains, skip_blocks;  // blocks of a cluster, and of them those with layers and those that only sum skips
  u32 early;                        // layers whose skips those sum
  u32 resident_past;                // layers of a chain's block whose past taps are in shared memory, from its first on
  u32 packets;                      // [layers - 1][PACKET]: present tap, the residual before it, scales and biases
  u32 past;                         // [layers - 1][kernel_size - 1][R / 16][R / 32][filter, gate][32]
  u32 conditioning;                 // [layers][R / 16][parts][filter, gate][32]
  u32 skips;                        // [layers][S / 16][R / 32][32]
  u32 end1, end2;
};

// The second argument of the bf16 pipeline (pipeline_bf16/pipeline_bf16.cuh). Of the model: units of the weights,
// matrices by tiles of 16 rows and parts of 32 columns, [tiles][parts][2][32]; and floats.
struct PipelineBf16Args {
  u32 blocks, chains, skip_blocks;  // blocks of a cluster, of them those with layers and those that sum skips alone
  u32 early;                        // layers whose skips those sum
  u32 resident, resident_skips;     // packets and skips that each keeps in shared memory, from its first on
  u32 resident_first;               // packets of the first block
  u32 heard_units;                  // of what the first block looks codes up in, before its packets; 0: not shared
  u32 joined;                       // [layers - 1]: present tap times the residual before it
  u32 residuals;                    // [layers - 1]
  u32 packets, packet;              // [layers - 1]: present tap, past taps, conditioning; units of one
  u32 first_conditioning;           // of layer 0
  u32 heard;      // [codes]: layer 0's present tap, [R] pairs in bf16; [codes]: embedding, [R] in bf16
  u32 skips;      // [layers]
  u32 end1, end2;
  u32 gate_bias;  // float: [layers][R] pairs, with what the residual's bias before it brings
};
