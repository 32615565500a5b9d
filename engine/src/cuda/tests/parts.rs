//! Parts of the kernels alone: functions, scales, the choice of a code.

use super::super::shim;
use super::*;

#[test]
fn the_kernel_has_the_same_exp_tanh_and_sigmoid() {
    // Every 997th float: some 4 million, in every binade, NaN and infinities too.
    let x: Vec<f32> = (0..=u32::MAX).step_by(997).map(f32::from_bits).collect();
    let found = shim::math(&x);
    for (found, ours) in found.iter().zip([math::exp, math::tanh, math::sigmoid]) {
        for (&x, found) in x.iter().zip(found) {
            let expected = ours(x);
            let is_same = found.to_bits() == expected.to_bits() || x.is_nan() && found.is_nan();
            assert!(is_same, "of {x:?}: {found:?}, not {expected:?}");
        }
    }
}

#[test]
fn vectors_of_bytes_have_the_same_scale() {
    let smallest = 1e-30_f32;
    let mut largest: Vec<f32> = (0..1 << 31).step_by(499).map(f32::from_bits).collect();
    // Where the kernel goes another way: the ends, and 2^-90 and 2^90.
    for end in
        [0.0, smallest, libm::ldexpf(1.0, -90), 1.0, libm::ldexpf(1.0, 90), f32::MAX, f32::INFINITY]
    {
        largest.extend([end.next_down().abs(), end, end.next_up()]);
    }
    for most in [127.0, 255.0] {
        let [factors, scales] = shim::scales(&largest, most);
        for ((&largest, factor), scale) in largest.iter().zip(factors).zip(scales) {
            let is_usable = (smallest..=f32::MAX).contains(&largest);
            let expected = if is_usable { [most / largest, largest / most] } else { [0.0; 2] };
            assert_eq!(
                [factor, scale].map(f32::to_bits),
                expected.map(f32::to_bits),
                "{largest:?}"
            );
        }
    }
}

#[test]
fn the_kernel_picks_the_same_codes() {
    let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -1e30, 1e30];
    let mut rows: Vec<Vec<f32>> = strange.map(|logit| vec![logit; 3]).to_vec();
    rows.extend(strange.map(|logit| vec![0.5, logit, 0.25, f32::NAN, logit]));
    // Equal weights, so that prefix sums, goals and draws meet exactly.
    rows.extend([1, 2, 4, 64, 256].map(|levels| vec![1.5; levels]));
    rows.push((0..256).map(|code| (code % 4) as f32).collect());
    rows.push(noise(3, 256).iter().map(|value| value * 4.0).collect());
    rows.push(noise(4, 31));
    let shares = [1.0, 0.999_999_9, 0.75, 0.5, 0.25, 1.0 / 256.0, 0.0];
    let edges = (0..=8).map(|eighth: u64| (eighth << 29).min(u64::from(u32::MAX)) as u32);
    let mut draws: Vec<u32> = edges.flat_map(|draw| [draw, draw.wrapping_sub(1)]).collect();
    draws.extend((0..8).map(|index| Philox::new(1, 1).draw(index)));
    for row in rows {
        for top_p in shares {
            for temperature in [0.0, 0.4, 1.0, 7.5] {
                let sampling = Sampling { temperature, top_p };
                for (seed, &draw) in draws.iter().enumerate() {
                    let found = shim::pick(&row, sampling, draw, seed as u64);
                    assert_eq!(found, pick(&row, sampling, draw), "{row:?} {sampling:?} {draw:#x}");
                }
            }
        }
    }
}
