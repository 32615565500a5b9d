//! The boundary to a GPU's driver: memory, launches, waiting. `card.rs` is the real one; tests put the
//! kernel's shim in its place, and let it fail.

use std::sync::atomic::{AtomicU32, Ordering};

use super::params::{Params, PipelineBf16Args, PipelineInt8Args, SingleArgs, Unit, Voice};
use super::shapes::OfShape;
use crate::config::Dtype;
use crate::error::{Error, Result};

/// The oldest cards that the kernel is compiled for, and the first whose matrix units take wider tiles of
/// bytes: those have a kernel of their own.
pub(super) const OLDEST: (u32, u32) = (7, 5);
pub(super) const WIDE: (u32, u32) = (8, 0);

/// The oldest driver that reads the PTX: for CUDA 12.0.
pub(super) const OLDEST_DRIVER: u32 = 12_000;

/// The first cards that have clusters, and the first driver that knows messages between their blocks: for CUDA 12.1.
pub(super) const WITH_CLUSTERS: (u32, u32) = (9, 0);
pub(super) const WITH_MESSAGES: u32 = 12_010;

/// What a device is and has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// As its maker calls it.
    pub name: String,
    /// Compute capability, such as 9.0.
    pub capability: (u32, u32),
    /// Streaming multiprocessors: blocks that run side by side.
    pub multiprocessors: u32,
    /// Shared memory that one block may have.
    pub shared_bytes: u32,
    /// Memory of the device.
    pub memory_bytes: u64,
    /// The highest clock.
    pub clock_khz: u32,
    /// Version of CUDA that the driver speaks, such as 12040 for 12.4.
    pub driver_version: u32,
}

impl std::fmt::Display for Card {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (major, minor) = self.capability;
        let gib = self.memory_bytes as f64 / f64::from(1 << 30);
        write!(
            f,
            "{}, compute capability {major}.{minor}, {} multiprocessors, {gib:.0} GiB, driver for CUDA {}",
            self.name,
            self.multiprocessors,
            self.driver_cuda()
        )
    }
}

impl Card {
    /// Whether blocks of a cluster can send each other messages, for `what` to play.
    ///
    /// # Errors
    /// [`Error::Device`] where the card has no clusters, or its driver is too old.
    pub(super) fn check_clusters(&self, what: &str) -> Result<()> {
        let refused = |needed: &str, has: String| {
            let name = &self.name;
            Err(Error::Device(format!(
                "cuda: {what} needs {needed}, {name} has {has}; play without it"
            )))
        };
        let (major, minor) = self.capability;
        if self.capability < WITH_CLUSTERS {
            return refused("compute capability 9.0", format!("{major}.{minor}"));
        }
        if self.driver_version < WITH_MESSAGES {
            return refused("a driver for CUDA 12.1", format!("one for {}", self.driver_cuda()));
        }
        Ok(())
    }

    /// The version of CUDA that the driver is for, such as 12.1.
    pub(super) fn driver_cuda(&self) -> String {
        format!("{}.{}", self.driver_version / 1000, self.driver_version % 1000 / 10)
    }
}

/// What one thing costs on a card.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// What.
    pub what: &'static str,
    /// One way.
    pub nanoseconds: f64,
    /// The same in cycles of a multiprocessor; `None` where the host takes part.
    pub cycles: Option<f64>,
}

/// Which of the kernel's forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// One voice a block, of any shape.
    GeneralSingle,
    /// The same, of one of [`SHAPES`](super::single::SHAPES).
    Single(usize),
    /// Several voices a block.
    GeneralBatch,
    /// The same, of one of the shapes in [`BATCH_SHAPES`](super::shapes::BATCH_SHAPES).
    Batch,
    /// One voice a cluster, of one of [`SHAPES`](super::pipeline_int8::SHAPES).
    PipelineInt8(usize),
    /// The same, of one of [`SHAPES`](super::pipeline_bf16::SHAPES).
    PipelineBf16(usize),
}

/// How a kernel is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Launch {
    pub(super) entry: Entry,
    pub(super) blocks: u32,
    /// Blocks of a cluster; 1 where there are none.
    pub(super) of_cluster: u32,
    pub(super) threads: u32,
    pub(super) shared_bytes: u32,
}

/// What a kernel is told beside [`Params`].
#[derive(Debug, Clone, Copy)]
pub(super) enum More {
    Nothing,
    Single(SingleArgs),
    PipelineInt8(PipelineInt8Args),
    PipelineBf16(PipelineBf16Args),
}

impl More {
    /// Where it lies. Kernels that are told nothing more have one argument.
    pub(super) fn address(&self) -> *const std::ffi::c_void {
        match self {
            Self::Nothing => std::ptr::null(),
            Self::Single(args) => std::ptr::from_ref(args).cast(),
            Self::PipelineInt8(args) => std::ptr::from_ref(args).cast(),
            Self::PipelineBf16(args) => std::ptr::from_ref(args).cast(),
        }
    }
}

/// A device. Every call may fail once the device is lost; what was allocated is freed with it.
pub(super) trait Driver: Send + std::fmt::Debug {
    fn card(&self) -> &Card;
    /// Loads the kernel for a type of weights, and what is compiled for a model's shape.
    fn load(&mut self, dtype: Dtype, of_shape: OfShape) -> Result<()>;
    /// Memory of the device, all zeros; its address.
    fn allocate(&mut self, bytes: usize) -> Result<u64>;
    /// Copies to the device's memory, after what was launched.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()>;
    /// Memory that both sides see, all zeros.
    fn map(&mut self, bytes: usize) -> Result<Mapped>;
    /// How many clusters of a launch run side by side.
    fn clusters(&mut self, launch: Launch) -> Result<u32>;
    /// How many of its blocks do, where it has no clusters. At least one.
    fn side_by_side(&mut self, launch: Launch, params: &Params) -> Result<u32>;
    /// Starts the kernel.
    fn launch(&mut self, launch: Launch, params: &Params, more: &More) -> Result<()>;
    /// Whether the kernel has ended.
    fn has_ended(&mut self) -> Result<bool>;
    /// Waits until it has.
    fn wait(&mut self) -> Result<()>;
    /// Leaves a kernel that does not end to itself, with all memory that it may use: nothing is waited for or freed
    /// from now on.
    fn abandon(&mut self);
}

/// Memory that both sides see. It lives as long as its driver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapped {
    host: *mut u8,
    bytes: usize,
    /// Where the device sees it.
    pub(super) device: u64,
}

// SAFETY: only the session that owns the driver uses it, on whichever thread that is.
unsafe impl Send for Mapped {}
// SAFETY: its threads write to places of their own, of orders that no other thread has.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// # Safety
    /// `host` begins so many bytes, aligned to 16, that live as long as the driver, and of which Rust holds no
    /// reference.
    pub(super) unsafe fn new(host: *mut u8, bytes: usize, device: u64) -> Self {
        Self { host, bytes, device }
    }

    /// Writes plain numbers; the device must not read them yet.
    pub(super) fn write(&self, at: usize, values: &[f32]) {
        let bytes = as_bytes(values);
        assert!(at <= self.bytes && bytes.len() <= self.bytes - at);
        // SAFETY: within the memory, as just asserted.
        unsafe { self.host.add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Reads bytes that the device has published.
    pub(super) fn read(&self, at: usize, out: &mut [u8]) {
        assert!(at <= self.bytes && out.len() <= self.bytes - at);
        // SAFETY: within the memory, as just asserted.
        unsafe { out.as_mut_ptr().copy_from_nonoverlapping(self.host.add(at), out.len()) }
    }

    fn cell(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.bytes);
        // SAFETY: within the memory and aligned, as just asserted; both sides use it as one word.
        unsafe { AtomicU32::from_ptr(self.host.add(at).cast()) }
    }

    /// Publishes a word, and all that was written before it.
    pub(super) fn store(&self, at: usize, value: u32) {
        self.cell(at).store(value, Ordering::Release);
    }

    /// Reads a word; what the other side wrote before it can be read then.
    pub(super) fn load(&self, at: usize) -> u32 {
        self.cell(at).load(Ordering::Acquire)
    }
}

/// Types without padding, whose bytes the device reads.
pub(super) trait Plain: Copy {}

impl Plain for f32 {}
impl Plain for Unit {}
impl Plain for Voice {}

/// The bytes of plain numbers.
pub(super) fn as_bytes<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: plain types have no padding, and every byte of them is a value.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}
