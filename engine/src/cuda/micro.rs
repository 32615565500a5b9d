//! What handing on a word costs on this card: barriers, shared memory, the second cache, the memory of a
//! cluster, the bus. It decides how a kernel may be cut into blocks.

use std::time::Instant;

use cudarc::driver::{result, sys};

use super::card::{Cuda, failed};
use super::driver::{Cost, Driver, Mapped};
use crate::error::{Error, Result};

const PTX: &str = include_str!("ptx/micro.ptx");
const CLUSTER_PTX: &str = include_str!("ptx/micro_cluster.ptx");
/// The first cards that have clusters.
const WITH_CLUSTERS: (u32, u32) = (9, 0);
const TURNS: u32 = 100_000;
/// With the host, which is slower.
const TURNS_OF_HOST: u32 = 5_000;
/// Bytes of what a kernel finds: cycles, then turns.
const FOUND: usize = 16;
/// Bytes from one side's word to the other's: two lines of the cache.
const LINE: usize = 128;

/// Measures all of it on the first card.
///
/// # Errors
/// [`Error::Device`] where there is no GPU, or it fails.
pub(super) fn micro() -> Result<Vec<Cost>> {
    let mut bench = Bench::new()?;
    let mut costs = vec![
        bench.alone("barrier of 128 threads", PTX, "micro_barrier", 1, 128, 1.0)?,
        bench.alone("barrier of 512 threads", PTX, "micro_barrier", 1, 512, 1.0)?,
        bench.alone("between warps, through shared memory", PTX, "micro_shared", 1, 64, 2.0)?,
        bench.alone("between blocks, a flag in the second cache", PTX, "micro_flag", 2, 32, 2.0)?,
    ];
    if bench.cuda.card().capability >= WITH_CLUSTERS {
        let what = "between blocks of a cluster, through shared memory";
        costs.push(bench.alone(what, CLUSTER_PTX, "micro_cluster", 2, 32, 2.0)?);
    }
    costs.push(bench.with_host()?);
    Ok(costs)
}

struct Bench {
    cuda: Cuda,
    /// Where kernels write what they found.
    found: Mapped,
}

impl Bench {
    fn new() -> Result<Self> {
        let mut cuda = Cuda::open()?;
        let found = cuda.map(FOUND)?;
        Ok(Self { cuda, found })
    }

    /// A game that the device plays with itself; `ways` of them are a turn.
    fn alone(
        &mut self,
        what: &'static str,
        ptx: &str,
        name: &str,
        blocks: u32,
        threads: u32,
        ways: f64,
    ) -> Result<Cost> {
        let module = self.cuda.module(ptx)?;
        let function = Cuda::function(module, name)?;
        let mut best = f64::INFINITY;
        // The first one warms up.
        for _ in 0..3 {
            let flags = self.cuda.allocate(2 * LINE)?;
            self.cuda.wait()?;
            let began = Instant::now();
            self.start(function, blocks, threads, TURNS, flags)?;
            self.cuda.wait()?;
            best = best.min(began.elapsed().as_secs_f64());
        }
        self.look(what, TURNS)?;
        let cycles = self.cycles() as f64 / f64::from(TURNS);
        // SAFETY: nothing of the module runs any more.
        unsafe { result::module::unload(module) }.map_err(failed)?;
        let nanoseconds = 1e9 * best / f64::from(TURNS) / ways;
        Ok(Cost { what, nanoseconds, cycles: Some(cycles / ways) })
    }

    /// The device answers what the host says.
    fn with_host(&mut self) -> Result<Cost> {
        let what = "between host and block, through memory of the host";
        let module = self.cuda.module(PTX)?;
        let function = Cuda::function(module, "micro_host")?;
        let flags = self.cuda.map(2 * LINE)?;
        self.start(function, 1, 32, TURNS_OF_HOST, flags.device)?;
        let mut began = Instant::now();
        for turn in 0..TURNS_OF_HOST {
            let mine = 2 * turn + 1;
            flags.store(0, mine);
            while flags.load(LINE) < mine + 1 {
                if self.cuda.has_ended()? && flags.load(LINE) < mine + 1 {
                    return Err(Error::Device(format!("{what}: no answer")));
                }
            }
            if turn == 0 {
                // The kernel runs: the clock starts.
                began = Instant::now();
            }
        }
        let took = began.elapsed().as_secs_f64();
        self.cuda.wait()?;
        // SAFETY: nothing of the module runs any more.
        unsafe { result::module::unload(module) }.map_err(failed)?;
        let nanoseconds = 1e9 * took / f64::from(TURNS_OF_HOST - 1) / 2.0;
        Ok(Cost { what, nanoseconds, cycles: None })
    }

    fn start(
        &mut self,
        function: sys::CUfunction,
        blocks: u32,
        threads: u32,
        turns: u32,
        flags: u64,
    ) -> Result<()> {
        let (mut turns, mut found, mut flags) = (turns, self.found.device, flags);
        let mut arguments =
            [(&raw mut turns).cast(), (&raw mut found).cast(), (&raw mut flags).cast()];
        self.cuda.start(function, (blocks, threads, 0), &mut arguments)
    }

    fn cycles(&self) -> u64 {
        let mut bytes = [0; 8];
        self.found.read(0, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Sees that no side gave up.
    fn look(&self, what: &str, turns: u32) -> Result<()> {
        let made = self.found.load(8);
        if made == turns {
            return Ok(());
        }
        Err(Error::Device(format!("{what}: one side gave up after {made} turns")))
    }
}
