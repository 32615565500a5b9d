//! A device for tests: the kernel's own text, compiled for this processor, in memory of this process. It
//! fails when told to.

use std::ffi::c_void;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use libloading::Library;

use super::driver::{Card, Driver, Entry, Launch, Mapped, More, OLDEST, WIDE, WITH_MESSAGES};
use super::params::{Params, PipelineBf16Args, PipelineInt8Args, SingleArgs, Unit, Voice};
use super::shapes::{BATCH_SHAPES, Channels, OfShape};
use crate::config::Dtype;
use crate::error::{Error, Result};
use crate::sampling::Sampling;

/// What fails, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Never,
    /// The launch after so many.
    Launch(usize),
    /// Waiting for the launch after so many, half of whose samples were made.
    Wait(usize),
    /// The launch after so many never ends, and makes nothing.
    Hang(usize),
    /// The allocation after so many.
    Memory(usize),
}

/// As in shim.h.
const LAGGING: u64 = 1 << 63;

/// Looks for a goal that rises: some 20 seconds, far more than a busy host needs.
const MOST_LIVE_TURNS: u32 = 4_000_000;

/// The kernel of one type of weights.
#[derive(Debug)]
struct Kernel {
    library: Library,
}

type LaunchFn = unsafe extern "C" fn(u32, *const Params, *const c_void, u32, u32, u32, u32, u64);

/// Compiles the kernel, once a type and once more for newer cards.
fn kernel(dtype: Dtype, capability: (u32, u32)) -> &'static Kernel {
    static KERNELS: [[OnceLock<Kernel>; 3]; 2] = [const { [const { OnceLock::new() }; 3] }; 2];
    let is_wide = dtype == Dtype::Int8 && capability >= WIDE;
    KERNELS[usize::from(is_wide)][dtype as usize].get_or_init(|| {
        let name = format!("WAVENET_{}", dtype.to_string().to_uppercase());
        let card = format!("__CUDA_ARCH__={}", if is_wide { 800 } else { 750 });
        compile(&[name, card])
    })
}

/// The batch kernel of a shape, compiled once.
fn batch_kernel(index: usize) -> &'static Kernel {
    static KERNELS: [OnceLock<Kernel>; BATCH_SHAPES.len()] =
        [const { OnceLock::new() }; BATCH_SHAPES.len()];
    KERNELS[index].get_or_init(|| {
        let Channels { residual, skip, end } = BATCH_SHAPES[index].0;
        let channels = [("R", residual), ("S", skip), ("A", end)];
        let mut defines = vec!["WAVENET_INT8".into(), "__CUDA_ARCH__=800".into()];
        defines.extend(channels.map(|(name, count)| format!("WAVENET_{name}={count}")));
        compile(&defines)
    })
}

/// The pipelines of all shapes, in int8 or bf16, compiled once.
fn pipeline_kernel(dtype: Dtype) -> &'static Kernel {
    static KERNELS: [OnceLock<Kernel>; 2] = [const { OnceLock::new() }; 2];
    KERNELS[usize::from(dtype == Dtype::Int8)].get_or_init(|| {
        let name = format!("WAVENET_{}", dtype.to_string().to_uppercase());
        compile(&["WAVENET_PIPELINE".into(), name, "__CUDA_ARCH__=900".into()])
    })
}

fn compile(defines: &[String]) -> Kernel {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let library = folder.path().join("shim.so");
    let cuda = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cuda");
    let native = if cfg!(target_arch = "x86_64") { "-march=native" } else { "-O2" };
    let output = Command::new("c++")
        .args(["-std=c++17", "-O2", native, "-ffp-contract=off", "-fno-strict-aliasing"])
        .args(defines.iter().map(|define| format!("-D{define}")))
        .arg("-I")
        .arg(cuda.join("kernels"))
        .arg("-I")
        .arg(cuda.join("shim"))
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(cuda.join("shim/shim.cpp"))
        .output()
        .expect("the GPU kernel is tested as C++: install a compiler (Debian's g++)");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    // SAFETY: it has just been made of our own source and runs nothing when loaded.
    let library = unsafe { Library::new(&library) }.expect("it was just built");
    // SAFETY: so they are declared in shim.cpp.
    unsafe {
        let number = |name: &[u8]| library.get::<unsafe extern "C" fn() -> u32>(name).unwrap()();
        assert_eq!(number(b"shim_params_bytes") as usize, size_of::<Params>());
        assert_eq!(number(b"shim_voice_bytes") as usize, size_of::<Voice>());
        assert_eq!(number(b"shim_single_args_bytes") as usize, size_of::<SingleArgs>());
        assert_eq!(
            number(b"shim_pipeline_int8_args_bytes") as usize,
            size_of::<PipelineInt8Args>()
        );
        assert_eq!(
            number(b"shim_pipeline_bf16_args_bytes") as usize,
            size_of::<PipelineBf16Args>()
        );
    }
    Kernel { library }
}

/// One whose parts are looked at alone.
fn any_kernel() -> &'static Kernel {
    kernel(Dtype::F32, OLDEST)
}

/// What the lanes of a warp hold before and after a product of bytes on the matrix units: `[32][4]`
/// registers of the first factor, `[32][2]` of the second, `[32][4]` of the sums. The narrow one, 8 rows
/// and 16 columns, uses the first 1, 1 and 2 of them.
pub(super) fn mma(
    is_wide: bool,
    a: &[[u32; 4]; 32],
    b: &[[u32; 2]; 32],
    sums: &mut [[i32; 4]; 32],
    seed: u64,
) {
    type MmaFn = unsafe extern "C" fn(i32, *const u32, *const u32, *mut i32, u64);
    let library = &any_kernel().library;
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: so it is declared in shim.cpp.
    unsafe {
        let run = library.get::<MmaFn>(b"shim_mma").expect("it is there");
        run(is_wide.into(), a.as_ptr().cast(), b.as_ptr().cast(), sums.as_mut_ptr().cast(), seed);
    }
}

/// The same of bf16, two a register: 16 rows and 16 columns.
pub(super) fn mma_of_floats(
    a: &[[u32; 4]; 32],
    b: &[[u32; 2]; 32],
    sums: &mut [[f32; 4]; 32],
    seed: u64,
) {
    type MmaFn = unsafe extern "C" fn(*const u32, *const u32, *mut f32, u64);
    let library = &any_kernel().library;
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: so it is declared in shim.cpp.
    unsafe {
        let run = library.get::<MmaFn>(b"shim_mma_of_floats").expect("it is there");
        run(a.as_ptr().cast(), b.as_ptr().cast(), sums.as_mut_ptr().cast(), seed);
    }
}

/// How a product of `--micro` is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Rows,
    Tiles,
    WideTiles,
}

/// What such a product gives, made so many times.
pub(super) fn multiply(way: Way, turns: u32, told: &[Unit], seed: u64) -> u32 {
    type MultiplyFn = unsafe extern "C" fn(i32, u32, *const Unit, u64) -> u32;
    let capability = if way == Way::WideTiles { WIDE } else { OLDEST };
    let library = &kernel(Dtype::Int8, capability).library;
    let aligned: Vec<Aligned> = told.iter().map(|&unit| Aligned(unit)).collect();
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: so it is declared in shim.cpp.
    unsafe {
        let run = library.get::<MultiplyFn>(b"shim_multiply").expect("it is there");
        run(i32::from(way != Way::Rows), turns, aligned.as_ptr().cast(), seed)
    }
}

/// As the device's units are aligned.
#[repr(C, align(16))]
struct Aligned(#[allow(dead_code)] Unit);

/// A code as the kernel chooses it; threads run in an order that the seed shuffles.
pub(super) fn pick(logits: &[f32], sampling: Sampling, draw: u32, seed: u64) -> u8 {
    type PickFn = unsafe extern "C" fn(*mut f32, u32, f32, u64, u32, u64) -> u32;
    let mut used_up = logits.to_vec();
    let library = &any_kernel().library;
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let (levels, temperature) = (logits.len() as u32, sampling.temperature);
    // SAFETY: so it is declared in shim.cpp.
    unsafe {
        let run = library.get::<PickFn>(b"shim_pick").expect("it is there");
        run(used_up.as_mut_ptr(), levels, temperature, sampling.share(), draw, seed) as u8
    }
}

/// The kernel's exp, tanh and sigmoid of some floats.
pub(super) fn math(x: &[f32]) -> [Vec<f32>; 3] {
    type MathFn = unsafe extern "C" fn(*const f32, u32, *mut f32, *mut f32, *mut f32);
    let mut out = [(); 3].map(|()| vec![0.0; x.len()]);
    let [exps, tanhs, sigmoids] = out.each_mut().map(|values| values.as_mut_ptr());
    // SAFETY: so it is declared in shim.cpp.
    unsafe {
        let run = any_kernel().library.get::<MathFn>(b"shim_math").expect("it is there");
        run(x.as_ptr(), x.len() as u32, exps, tanhs, sigmoids);
    }
    out
}

/// Factors and scales of vectors of bytes whose largest magnitudes are these, as kernels of one voice make them.
pub(super) fn scales(largest: &[f32], most: f32) -> [Vec<f32>; 2] {
    type ScalesFn = unsafe extern "C" fn(*const f32, u32, f32, *mut f32, *mut f32);
    let mut out = [(); 2].map(|()| vec![0.0; largest.len()]);
    let [factors, scales] = out.each_mut().map(|values| values.as_mut_ptr());
    // SAFETY: so it is declared in shim.cpp.
    unsafe {
        let library = &kernel(Dtype::Int8, WIDE).library;
        let run = library.get::<ScalesFn>(b"shim_scales").expect("it is there");
        run(largest.as_ptr(), largest.len() as u32, most, factors, scales);
    }
    out
}

impl Kernel {
    fn run(&self, launch: Launch, params: &Params, more: &More, seed: u64) {
        let Launch { entry, blocks, of_cluster, threads, shared_bytes } = launch;
        let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: so it is declared in shim.cpp; the addresses are of memory of a shim, which waits for this
        // before it goes.
        unsafe {
            let run = self.library.get::<LaunchFn>(b"shim_launch").expect("it is there");
            let entry = match entry {
                Entry::GeneralSingle => 0,
                Entry::GeneralBatch => 1,
                Entry::Single(index) => 2 + index as u32,
                // In libraries of their own.
                Entry::Batch => params.voices / 8 - 1,
                Entry::PipelineInt8(index) | Entry::PipelineBf16(index) => index as u32,
            };
            let more = more.address();
            run(entry, params, more, blocks, of_cluster, threads, shared_bytes, seed);
        }
    }
}

/// The shim runs one launch at a time.
static RUNNING: Mutex<()> = Mutex::new(());

/// The device.
#[derive(Debug)]
pub(super) struct Shim {
    card: Card,
    kernel: Option<&'static Kernel>,
    batch: Option<&'static Kernel>,
    /// Clusters that run side by side.
    clusters: u32,
    memory: Vec<Vec<Unit>>,
    fault: Fault,
    seed: u64,
    launches: usize,
    /// Looks at the clock until a slice is over.
    slice: u64,
    /// The kernel runs on a thread of its own, beside the host.
    is_live: bool,
    running: Option<JoinHandle<()>>,
    entries: Arc<Mutex<Vec<Entry>>>,
    /// Cycles that each slice may take.
    budgets: Arc<Mutex<Vec<u64>>>,
    is_abandoned: bool,
}

impl Shim {
    pub(super) fn new(multiprocessors: u32, shared_bytes: u32) -> Self {
        let card = Card {
            name: "shim".into(),
            capability: OLDEST,
            multiprocessors,
            shared_bytes,
            memory_bytes: 1 << 30,
            clock_khz: 1,
            driver_version: 0,
        };
        Self {
            card,
            kernel: None,
            batch: None,
            clusters: u32::MAX,
            memory: Vec::new(),
            fault: Fault::Never,
            seed: 0,
            launches: 0,
            slice: u64::MAX,
            is_live: false,
            running: None,
            entries: Arc::default(),
            budgets: Arc::default(),
            is_abandoned: false,
        }
    }

    /// Stands for a card with wider tiles, or not.
    pub(super) fn wide_if(mut self, is_wide: bool) -> Self {
        self.card.capability = if is_wide { WIDE } else { OLDEST };
        self
    }

    /// Stands for a card with clusters.
    pub(super) fn with_clusters(mut self) -> Self {
        self.card.capability = (9, 0);
        self.of_driver(WITH_MESSAGES)
    }

    /// So many of them run side by side.
    pub(super) fn of_clusters(self, clusters: u32) -> Self {
        Self { clusters, ..self }
    }

    /// Has a driver for this version of CUDA.
    pub(super) fn of_driver(mut self, version: u32) -> Self {
        self.card.driver_version = version;
        self
    }

    /// Lets something fail.
    pub(super) fn failing(self, fault: Fault) -> Self {
        Self { fault, ..self }
    }

    /// Whether a launch never ends.
    pub(super) fn hangs(&self) -> bool {
        matches!(self.fault, Fault::Hang(_))
    }

    /// Shuffles the order in which threads run.
    pub(super) fn shuffled(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Lets some blocks and warps be much slower than others.
    pub(super) fn lagging(self) -> Self {
        Self { seed: self.seed | LAGGING, ..self }
    }

    /// Ends each slice after so many looks at the clock, one more than samples.
    pub(super) fn with_slices_of(self, slice: u64) -> Self {
        Self { slice, ..self }
    }

    /// Lets the kernel run beside the host, as a device does.
    pub(super) fn live(self) -> Self {
        Self { is_live: true, ..self }
    }

    /// Which shapes of the kernel were launched.
    pub(super) fn entries(&self) -> Arc<Mutex<Vec<Entry>>> {
        self.entries.clone()
    }

    /// Cycles that each slice might have taken.
    pub(super) fn budgets(&self) -> Arc<Mutex<Vec<u64>>> {
        self.budgets.clone()
    }

    fn reserve(&mut self, bytes: usize) -> Result<*mut u8> {
        if self.fault == Fault::Memory(self.memory.len()) {
            return Err(Error::Device("out of memory".into()));
        }
        // A unit more: an empty allocation has an address too.
        self.memory.push(vec![[0; 4]; bytes.div_ceil(size_of::<Unit>()) + 1]);
        let memory = self.memory.last_mut().expect("it was just pushed");
        Ok(memory.as_mut_ptr().cast())
    }
}

impl Driver for Shim {
    fn card(&self) -> &Card {
        &self.card
    }

    fn load(&mut self, dtype: Dtype, of_shape: OfShape) -> Result<()> {
        self.kernel = Some(kernel(dtype, self.card.capability));
        self.batch = of_shape.batch.map(batch_kernel);
        Ok(())
    }

    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.reserve(bytes)? as u64)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: the session writes to what it allocated.
        unsafe { (address as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
        Ok(())
    }

    fn map(&mut self, bytes: usize) -> Result<Mapped> {
        let host = self.reserve(bytes)?;
        // SAFETY: nobody else uses the memory, and it lives as long as this.
        Ok(unsafe { Mapped::new(host, bytes.max(16), host as u64) })
    }

    fn clusters(&mut self, _: Launch) -> Result<u32> {
        Ok(self.clusters)
    }

    fn side_by_side(&mut self, _: Launch, _: &Params) -> Result<u32> {
        Ok(self.card.multiprocessors)
    }

    fn launch(&mut self, launch: Launch, params: &Params, more: &More) -> Result<()> {
        self.launches += 1;
        self.budgets.lock().expect("no panic").push(params.most_cycles);
        if self.fault == Fault::Launch(self.launches - 1) {
            return Err(Error::Device("the launch failed".into()));
        }
        if self.fault == Fault::Hang(self.launches - 1) {
            return Ok(());
        }
        let fails_soon = self.fault == Fault::Wait(self.launches - 1);
        let most_cycles = if fails_soon { 3 } else { self.slice };
        // A host that cannot look while the kernel runs is not waited for.
        let most_turns = if self.is_live { MOST_LIVE_TURNS } else { 2 };
        let params = Params { most_cycles, most_turns, ..*params };
        assert!(launch.shared_bytes <= self.card.shared_bytes, "{launch:?}");
        self.entries.lock().expect("no panic").push(launch.entry);
        let kernel = match launch.entry {
            Entry::Batch => self.batch,
            Entry::PipelineInt8(_) => Some(pipeline_kernel(Dtype::Int8)),
            Entry::PipelineBf16(_) => Some(pipeline_kernel(Dtype::Bf16)),
            _ => self.kernel,
        };
        let kernel = kernel.expect("the kernel is loaded first");
        let seed = self.seed;
        if self.is_live {
            let more = *more;
            self.running =
                Some(std::thread::spawn(move || kernel.run(launch, &params, &more, seed)));
        } else {
            kernel.run(launch, &params, more, seed);
        }
        Ok(())
    }

    fn has_ended(&mut self) -> Result<bool> {
        if self.fault == Fault::Hang(self.launches - 1) {
            return Ok(false);
        }
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return Ok(false);
        }
        self.wait().map(|()| true)
    }

    fn wait(&mut self) -> Result<()> {
        if self.launches > 0 && self.fault == Fault::Hang(self.launches - 1) {
            assert!(self.is_abandoned, "it would wait for ever");
            return Ok(());
        }
        if let Some(running) = self.running.take() {
            running.join().expect("the kernel does not panic");
        }
        if self.launches > 0 && self.fault == Fault::Wait(self.launches - 1) {
            return Err(Error::Device("the device was lost".into()));
        }
        Ok(())
    }

    fn abandon(&mut self) {
        self.is_abandoned = true;
    }
}
