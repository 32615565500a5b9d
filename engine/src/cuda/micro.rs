//! What handing on a word costs on this card: barriers, shared memory, the second cache, the memory of a
//! cluster, the bus. It decides how a kernel may be cut into blocks. And what products of bytes cost, with the
//! matrix units and without.

mod products;

use std::time::Instant;

use cudarc::driver::sys;

use super::card::Cuda;
use super::driver::{Cost, Driver, Mapped, WIDE, WITH_MESSAGES, as_bytes};
use super::params::Unit;
use crate::error::{Error, Result};
use products::{Product, WHAT};

const PTX: &str = include_str!("ptx/micro.ptx");
const CLUSTER_PTX: &str = include_str!("ptx/micro_cluster.ptx");
const MESSAGE_PTX: &str = include_str!("ptx/micro_message.ptx");
const PRODUCTS_PTX: &str = include_str!("ptx/micro_products.ptx");
const WIDE_PRODUCTS_PTX: &str = include_str!("ptx/micro_products_wide.ptx");
/// The first cards that have clusters.
const WITH_CLUSTERS: (u32, u32) = (9, 0);
const TURNS: u32 = 100_000;
/// With the host, which is slower.
const TURNS_OF_HOST: u32 = 5_000;
/// Of products, which take longer, and the threads of their blocks.
const TURNS_OF_PRODUCTS: u32 = 20_000;
const THREADS_OF_PRODUCTS: u32 = 512;
/// Bytes of what a kernel finds: cycles, turns, a sum.
const FOUND: usize = 16;
const SUM: usize = 12;
/// Bytes from one side's word to the other's: two lines of the cache.
const LINE: usize = 128;

/// Measures all of it on the first card.
///
/// # Errors
/// [`Error::Device`] where there is no GPU, or it fails.
pub(super) fn micro() -> Result<Vec<Cost>> {
    let mut bench = Bench::new()?;
    let barrier = Measurement { name: "micro_barrier", ways: 1.0, ..MEASUREMENT };
    let mut measurements = vec![
        Measurement { what: "barrier of 128 threads", threads: 128, ..barrier },
        Measurement { what: "barrier of 512 threads", threads: 512, ..barrier },
        Measurement {
            what: "between warps, through shared memory",
            name: "micro_shared",
            threads: 64,
            ..MEASUREMENT
        },
        Measurement {
            what: "between blocks, a flag in the second cache",
            name: "micro_flag",
            blocks: 2,
            ..MEASUREMENT
        },
    ];
    if bench.cuda.card().capability >= WITH_CLUSTERS {
        measurements.push(Measurement {
            what: "between blocks of a cluster, through shared memory",
            ptx: CLUSTER_PTX,
            name: "micro_cluster",
            blocks: 2,
            ..MEASUREMENT
        });
    }
    if bench.cuda.card().driver_version >= WITH_MESSAGES
        && bench.cuda.card().capability >= WITH_CLUSTERS
    {
        measurements.push(Measurement {
            what: "between warps, by an mbarrier",
            ptx: MESSAGE_PTX,
            name: "micro_mbarrier",
            threads: 64,
            ..MEASUREMENT
        });
        measurements.push(Measurement {
            what: "between blocks of a cluster, by a message with its mbarrier",
            ptx: MESSAGE_PTX,
            name: "micro_message",
            blocks: 2,
            ..MEASUREMENT
        });
    }
    let mut costs = Vec::new();
    for measurement in measurements {
        costs.push(bench.alone(measurement, &FLAGS)?);
    }
    costs.push(bench.with_host()?);
    bench.products(&mut costs)?;
    Ok(costs)
}

/// What a kernel does again and again without the host.
#[derive(Debug, Clone, Copy)]
struct Measurement {
    what: &'static str,
    ptx: &'static str,
    name: &'static str,
    blocks: u32,
    threads: u32,
    shared_bytes: u32,
    turns: u32,
    /// A turn is so many of what is measured.
    ways: f64,
}

const MEASUREMENT: Measurement = Measurement {
    what: "",
    ptx: PTX,
    name: "",
    blocks: 1,
    threads: 32,
    shared_bytes: 0,
    turns: TURNS,
    ways: 2.0,
};

/// The words of two sides, a line each.
const FLAGS: [Unit; 2 * LINE / size_of::<Unit>()] = [[0; 4]; 2 * LINE / size_of::<Unit>()];

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

    /// Measures what the device does by itself, in memory that begins as `told`.
    fn alone(&mut self, measurement: Measurement, told: &[Unit]) -> Result<Cost> {
        let Measurement { what, blocks, threads, shared_bytes, turns, ways, .. } = measurement;
        let module = self.cuda.module(measurement.ptx)?;
        let function = self.cuda.function(module, measurement.name)?;
        let mut best = f64::INFINITY;
        // The first one warms up.
        for _ in 0..3 {
            let memory = self.cuda.allocate(size_of_val(told))?;
            self.cuda.write(memory, as_bytes(told))?;
            self.cuda.wait()?;
            let began = Instant::now();
            self.start(function, (blocks, threads, shared_bytes), turns, memory)?;
            self.cuda.wait()?;
            best = best.min(began.elapsed().as_secs_f64());
        }
        self.look(what, turns)?;
        let cycles = self.cycles() as f64 / f64::from(turns);
        self.cuda.unload(module)?;
        let nanoseconds = 1e9 * best / f64::from(turns) / ways;
        Ok(Cost { what, nanoseconds, cycles: Some(cycles / ways) })
    }

    /// A product of bytes in every way that the card has, on all its multiprocessors at once.
    fn products(&mut self, costs: &mut Vec<Cost>) -> Result<()> {
        let product = Product::new(WHAT, 1);
        let rows = Measurement {
            what: "256 x 256 bytes for 16 voices, by dp4a",
            ptx: PRODUCTS_PTX,
            name: "micro_rows",
            blocks: self.cuda.card().multiprocessors,
            threads: THREADS_OF_PRODUCTS,
            shared_bytes: product.shared_bytes(THREADS_OF_PRODUCTS),
            turns: TURNS_OF_PRODUCTS,
            ways: 1.0,
        };
        let tiles = Measurement { name: "micro_tiles", ..rows };
        let mut measurements = vec![
            rows,
            Measurement { what: "the same on the matrix units, by m8n8k16", ..tiles },
            Measurement {
                what: "the same on the matrix units, by m16n8k32",
                ptx: WIDE_PRODUCTS_PTX,
                ..tiles
            },
        ];
        if self.cuda.card().capability < WIDE {
            measurements.pop();
        }
        for measurement in measurements {
            costs.push(self.alone(measurement, &product.units())?);
            if self.found.load(SUM) != product.sum(measurement.turns) {
                return Err(Error::Device(format!("{}: a wrong product", measurement.what)));
            }
        }
        Ok(())
    }

    /// The device answers what the host says.
    fn with_host(&mut self) -> Result<Cost> {
        let what = "between host and block, through memory of the host";
        let module = self.cuda.module(PTX)?;
        let function = self.cuda.function(module, "micro_host")?;
        let flags = self.cuda.map(2 * LINE)?;
        self.start(function, (1, 32, 0), TURNS_OF_HOST, flags.device)?;
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
        self.cuda.unload(module)?;
        let nanoseconds = 1e9 * took / f64::from(TURNS_OF_HOST - 1) / 2.0;
        Ok(Cost { what, nanoseconds, cycles: None })
    }

    fn start(
        &mut self,
        function: sys::CUfunction,
        shape: (u32, u32, u32),
        turns: u32,
        memory: u64,
    ) -> Result<()> {
        let (mut turns, mut found, mut memory) = (turns, self.found.device, memory);
        let mut arguments =
            [(&raw mut turns).cast(), (&raw mut found).cast(), (&raw mut memory).cast()];
        self.cuda.start(function, shape, &mut arguments)
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
