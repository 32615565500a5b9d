use proptest::prelude::*;

use super::*;
use crate::kernels::memory::Memory;
use crate::kernels::tests::{DTYPES, run_state, shapes, weights};
use crate::kernels::{Isa, Model, Packed, Past, State};
use crate::{Config, Weights};

/// Long enough for anything.
const PATIENT: usize = 1 << 40;

/// Gives a state a helper that is made of `start`: it has the worker, and tells how many turns the
/// step shall wait.
fn attach<M, T>(
    kernel: Kernel,
    weights: &PackedWeights<M>,
    to: &mut Memory<T>,
    start: impl FnOnce(Box<dyn Works>) -> usize,
) where
    M: Matrix<Value = T> + Send + 'static,
    T: Plain + Send + 'static,
{
    let (mut helper, mut worker) = Helper::new(kernel, weights, to.queues.lanes());
    (worker.spin, worker.rest) = (Duration::MAX, Duration::ZERO);
    helper.patience = start(Box::new(worker));
    to.helper = Some(helper);
}

/// A worker of any type of weights.
trait Works: Send {
    fn help(&mut self) -> bool;
}

impl<M: Matrix + Send> Works for Worker<M> {
    fn help(&mut self) -> bool {
        self.help()
    }
}

fn state_with(packed: &Packed, lanes: usize, start: impl FnOnce(Box<dyn Works>) -> usize) -> State {
    let (mut state, kernel) = (State::new(packed, lanes), packed.kernel);
    match (&packed.model, &mut state.past) {
        (Model::F32(model), Past::Float(past)) => attach(kernel, &model.weights, past, start),
        (Model::Bf16(model), Past::Float(past)) => attach(kernel, &model.weights, past, start),
        (Model::Int8(model), Past::Int8(past)) => attach(kernel, &model.weights, past, start),
        _ => unreachable!("made together"),
    }
    state
}

/// The bytes of a model alone.
fn truth(packed: &Packed, lanes: usize, seed: u64) -> Vec<Vec<u32>> {
    run_state(packed, &mut State::new(packed, lanes), seed, true)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4) })]

    /// Every step is helped, and gives what it gives alone.
    #[test]
    fn help_changes_no_byte(config in shapes(), lanes in 1..6_usize, seed in 0..99_u64) {
        let weights = weights(&config, seed);
        for dtype in DTYPES {
            for kernel in Kernel::all().into_iter().filter(|&kernel| kernel != Kernel::Portable) {
                let packed = Packed::with_kernel(&weights, dtype, kernel);
                let mut thread = None;
                let mut state = state_with(&packed, lanes, |mut worker| {
                    thread = Some(std::thread::spawn(move || {
                        crate::kernels::set_float_mode();
                        let mut steps = 0;
                        while worker.help() {
                            steps += 1;
                        }
                        steps
                    }));
                    PATIENT
                });
                let helped = run_state(&packed, &mut state, seed, true);
                drop(state);
                prop_assert_eq!(thread.unwrap().join().unwrap(), 30);
                prop_assert!(helped == truth(&packed, lanes, seed), "{:?} {:?}", dtype, kernel);
            }
        }
    }
}

fn model() -> Weights {
    let config = Config {
        residual_channels: 20,
        gate_channels: 37,
        skip_channels: 150,
        end_channels: 18,
        kernel_size: 3,
        dilations: vec![1, 2, 9, 4],
        ..Config::default()
    };
    weights(&config, 8)
}

fn packed(dtype: crate::Dtype) -> Packed {
    Packed::new(&model(), dtype, Isa::Auto).unwrap()
}

#[test]
fn a_dead_helper_is_not_waited_for_twice() {
    for dtype in DTYPES {
        let packed = packed(dtype);
        let mut state = state_with(&packed, 3, |worker| {
            drop(worker);
            10
        });
        assert_eq!(run_state(&packed, &mut state, 5, true), truth(&packed, 3, 5), "{dtype:?}");
    }
}

#[test]
fn a_helper_that_hangs_is_not_waited_for() {
    for dtype in DTYPES {
        let packed = packed(dtype);
        let mut hanging = None;
        let mut state = state_with(&packed, 3, |worker| {
            hanging = Some(worker);
            10
        });
        assert_eq!(run_state(&packed, &mut state, 5, true), truth(&packed, 3, 5), "{dtype:?}");
    }
}

/// Its skips come at any time, and are of steps that are over.
#[test]
fn a_late_helper_changes_no_byte() {
    for dtype in DTYPES {
        let packed = packed(dtype);
        for patience in [0, 1, 2_000] {
            let mut thread = None;
            let mut state = state_with(&packed, 3, |mut worker| {
                thread = Some(std::thread::spawn(move || {
                    crate::kernels::set_float_mode();
                    let mut steps = 0;
                    while worker.help() {
                        steps += 1;
                        std::thread::sleep(Duration::from_micros(37 * (steps % 5)));
                    }
                }));
                patience
            });
            for seed in 0..6 {
                // The past goes on from run to run: in a state of its own too.
                (0..3).for_each(|lane| state.reset(&packed, lane));
                let helped = run_state(&packed, &mut state, seed, true);
                assert_eq!(helped, truth(&packed, 3, seed), "{dtype:?} {patience}");
            }
            drop(state);
            thread.unwrap().join().unwrap();
        }
    }
}

/// Polls for as long as a busy machine may take.
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never comes");
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn a_helper_naps_while_nothing_plays_and_wakes_for_steps() {
    let packed = packed(crate::Dtype::Int8);
    let mut state = State::new(&packed, 2);
    state.start_helper(&packed).unwrap();
    let is_awake = |state: &State| match &state.past {
        Past::Int8(past) => past
            .helper
            .as_ref()
            .is_some_and(|helper| helper.shared.is_awake.load(Ordering::Relaxed)),
        Past::Float(_) => false,
    };
    for seed in 0..3 {
        wait_until(|| !is_awake(&state));
        (0..2).for_each(|lane| state.reset(&packed, lane));
        assert_eq!(run_state(&packed, &mut state, seed, true), truth(&packed, 2, seed));
        let mut logits = vec![0.0; 512];
        wait_until(|| {
            packed.step(&mut state, &[0, 1], &[1, 2], &[], &mut logits);
            is_awake(&state)
        });
    }
}
