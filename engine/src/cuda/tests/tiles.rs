//! The matrix units: that the shim's are as NVIDIA describes them, and that the kernel feeds them rightly.

use super::super::shim;
use super::*;

/// Bytes from -128 to 127, or only the ends.
fn bytes(seed: u64, count: usize, are_extreme: bool) -> Vec<i8> {
    let draws = Philox::new(seed, 9);
    let byte = |index: u64| {
        let drawn = draws.draw(index) as i8;
        if are_extreme { [-128, 127][usize::from(drawn > 0)] } else { drawn }
    };
    (0..count as u64).map(byte).collect()
}

/// Four bytes of a register, the first lowest.
fn register(byte: impl Fn(usize) -> i8) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| byte(i) as u8))
}

/// Fragments as the PTX ISA has them, "Matrix Fragments for mma.m8n8k16" and "... mma.m16n8k32", type .s8:
/// which row and column of its matrix element i of a lane is.
struct Fragments {
    is_wide: bool,
    group: usize,
    in_group: usize,
}

impl Fragments {
    fn of(is_wide: bool, lane: usize) -> Self {
        Self { is_wide, group: lane >> 2, in_group: lane % 4 }
    }

    fn a(&self, i: usize) -> (usize, usize) {
        if !self.is_wide {
            return (self.group, self.in_group * 4 + i);
        }
        let row = if i < 4 || (8..12).contains(&i) { self.group } else { self.group + 8 };
        let column = self.in_group * 4 + (i & 3);
        (row, if i < 8 { column } else { column + 16 })
    }

    fn b(&self, i: usize) -> (usize, usize) {
        if !self.is_wide {
            return (self.in_group * 4 + i, self.group);
        }
        let row = self.in_group * 4 + (i & 3);
        (if i < 4 { row } else { row + 16 }, self.group)
    }

    fn c(&self, i: usize) -> (usize, usize) {
        if !self.is_wide {
            return (self.group, self.in_group * 2 + i);
        }
        let row = if i < 2 { self.group } else { self.group + 8 };
        (row, self.in_group * 2 + (i & 1))
    }
}

/// The registers of all lanes; those beyond the instruction's are 0.
fn lanes_of<T: Copy + Default, const N: usize>(
    is_wide: bool,
    registers: usize,
    of: impl Fn(&Fragments, usize) -> T,
) -> [[T; N]; 32] {
    std::array::from_fn(|lane| {
        let fragments = Fragments::of(is_wide, lane);
        let word = |i: usize| if i < registers { of(&fragments, i) } else { T::default() };
        std::array::from_fn(word)
    })
}

#[test]
fn the_shim_multiplies_as_the_matrix_units_do() {
    for (seed, is_wide) in (0..40).map(|seed| (seed, seed % 2 == 0)) {
        let (rows, columns) = if is_wide { (16, 32) } else { (8, 16) };
        let (registers_of_a, registers_of_b, numbers) = if is_wide { (4, 2, 4) } else { (1, 1, 2) };
        let a = bytes(seed, rows * columns, seed < 4);
        let b = bytes(seed + 100, columns * 8, seed < 4);
        let before = bytes(seed + 200, rows * 8, false);
        let before = |row: usize, column: usize| i32::from(before[row * 8 + column]) << 20;
        let a_of = lanes_of(is_wide, registers_of_a, |fragments, word| {
            register(|i| {
                let (row, column) = fragments.a(4 * word + i);
                a[row * columns + column]
            })
        });
        let b_of = lanes_of(is_wide, registers_of_b, |fragments, word| {
            register(|i| {
                let (row, column) = fragments.b(4 * word + i);
                b[row * 8 + column]
            })
        });
        let mut sums = lanes_of(is_wide, numbers, |fragments, number| {
            let (row, column) = fragments.c(number);
            before(row, column)
        });
        shim::mma(is_wide, &a_of, &b_of, &mut sums, seed);
        let expected = lanes_of(is_wide, numbers, |fragments, number| {
            let (row, column) = fragments.c(number);
            let product = |k: usize| i32::from(a[row * columns + k]) * i32::from(b[k * 8 + column]);
            before(row, column) + (0..columns).map(product).sum::<i32>()
        });
        assert_eq!(sums, expected, "wide: {is_wide}, seed {seed}");
    }
}

/// Fragments as the PTX ISA has them, "Matrix Fragments for mma.m16n8k16 with floating point type", type .bf16. Whole
/// numbers, so that no sum is rounded.
#[test]
fn the_shim_multiplies_bf16_as_the_matrix_units_do() {
    let two = |of: &dyn Fn(usize) -> i8| {
        let bits = |i| u32::from(half::bf16::from_f32(of(i).into()).to_bits());
        bits(0) | bits(1) << 16
    };
    for seed in 0..20 {
        let (a, b) = (bytes(seed, 16 * 16, false), bytes(seed + 100, 16 * 8, false));
        let before = bytes(seed + 200, 16 * 8, false);
        let of_lane = |lane: usize| (lane >> 2, lane % 4);
        let a_of = std::array::from_fn(|lane| {
            let (group, in_group) = of_lane(lane);
            std::array::from_fn(|word| {
                two(&|i| a[(group + word % 2 * 8) * 16 + in_group * 2 + i + word / 2 * 8])
            })
        });
        let b_of = std::array::from_fn(|lane| {
            let (group, in_group) = of_lane(lane);
            std::array::from_fn(|word| two(&|i| b[(in_group * 2 + i + word * 8) * 8 + group]))
        });
        let c = |lane: usize, i: usize| (lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
        let sums_of = |of: &dyn Fn(usize, usize) -> i32| -> [[f32; 4]; 32] {
            std::array::from_fn(|lane| {
                std::array::from_fn(|i| of(c(lane, i).0, c(lane, i).1) as f32)
            })
        };
        let start = |row: usize, column: usize| i32::from(before[row * 8 + column]);
        let mut sums = sums_of(&start);
        shim::mma_of_floats(&a_of, &b_of, &mut sums, seed);
        let product = |row: usize, column: usize| -> i32 {
            (0..16).map(|k| i32::from(a[row * 16 + k]) * i32::from(b[k * 8 + column])).sum()
        };
        assert_eq!(
            sums,
            sums_of(&|row, column| start(row, column) + product(row, column)),
            "seed {seed}"
        );
    }
}

/// Several tiles of rows, the last not full, of voices, and several steps of columns, for both kinds of
/// units and in any order of the threads.
#[test]
fn bytes_of_many_rows_columns_and_voices() {
    let large = Config {
        levels: 77,
        residual_channels: 72,
        gate_channels: 80,
        skip_channels: 200,
        end_channels: 300,
        dilations: vec![1, 2, 1, 4, 2],
        kernel_size: 2,
        ..played()
    };
    let weights = lively(&large, 11);
    for (lanes, multiprocessors) in [(5, 2), (11, 1), (21, 1)] {
        for is_wide in [false, true] {
            let shim = Shim::new(multiprocessors, 4 * SHARED).wide_if(is_wide).shuffled(7);
            let entries = shim.entries();
            same_logits(&weights, Dtype::Int8, OnDevice::new(shim, Mode::Exact), lanes, 11);
            assert!(entries.lock().unwrap().iter().all(|&entry| entry == Entry::GeneralBatch));
        }
    }
}
