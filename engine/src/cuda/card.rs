//! The real device, through CUDA's driver. Its library is loaded by the first call and not before; the
//! kernel is PTX, which the driver compiles for the card it finds.

use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use cudarc::driver::{DriverError, result, sys};

use super::driver::{Card, Driver, Entry, Launch, Mapped, More, OLDEST, OLDEST_DRIVER, WIDE};
use super::params::Params;
use super::shapes::{BATCH_SHAPES, OfShape};
use super::{pipeline_bf16, pipeline_int8, single};
use crate::config::Dtype;
use crate::error::{Error, Result};

/// The kernel for a type of weights.
fn ptx(dtype: Dtype, capability: (u32, u32)) -> &'static str {
    match dtype {
        Dtype::F32 => include_str!("ptx/f32.ptx"),
        Dtype::Bf16 => include_str!("ptx/bf16.ptx"),
        Dtype::Int8 if capability >= WIDE => include_str!("ptx/int8_wide.ptx"),
        Dtype::Int8 => include_str!("ptx/int8.ptx"),
    }
}

/// The batch kernels of each shape, in the order of `BATCH_SHAPES`.
const BATCH_PTX: [&str; BATCH_SHAPES.len()] = [
    include_str!("ptx/batch_32_64_128.ptx"),
    include_str!("ptx/batch_64_256_256.ptx"),
    include_str!("ptx/batch_128_256_256.ptx"),
];

const BATCH_ENTRIES: [&str; 4] =
    ["wavenet_batch_8", "wavenet_batch_16", "wavenet_batch_24", "wavenet_batch_32"];

/// A card with its context, and all that was allocated on it.
#[derive(Debug)]
pub(super) struct Cuda {
    card: Card,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    modules: Vec<sys::CUmodule>,
    /// The general kernel for one voice and for several; none before [`Driver::load`], nor of those below.
    functions: Vec<sys::CUfunction>,
    /// The single-stream kernel of the model's shape, if there is one.
    singles: Vec<sys::CUfunction>,
    /// The batch kernel of its shape, if there is one, of 8, 16, 24 and 32 voices.
    batch: Vec<sys::CUfunction>,
    /// The pipeline of its shape, if that shall play.
    pipelines: Vec<sys::CUfunction>,
    allocated: Vec<sys::CUdeviceptr>,
    mapped: Vec<*mut c_void>,
}

// SAFETY: CUDA's handles may be used from any thread; every call makes the context current first.
unsafe impl Send for Cuda {}

fn failed(error: DriverError) -> Error {
    let text = |found: std::result::Result<&std::ffi::CStr, DriverError>| {
        found.map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
    };
    Error::Device(format!("cuda: {} ({})", text(error.error_string()), text(error.error_name())))
}

fn not_available(why: impl std::fmt::Display) -> Error {
    Error::Device(format!("cuda: not available ({why})"))
}

/// Whether NVIDIA's library is there. Beside candle the program is linked to it, and would not run without.
fn has_driver() -> bool {
    #[cfg(feature = "reference-cuda")]
    let is_there = true;
    // SAFETY: it loads NVIDIA's library, whose initialisers are NVIDIA's affair, and nothing else.
    #[cfg(not(feature = "reference-cuda"))]
    let is_there = unsafe { sys::is_culib_present() };
    is_there
}

/// A kernel of this program runs on and on: its context, which all share, is of no use any more.
static ABANDONED: AtomicBool = AtomicBool::new(false);

impl Cuda {
    /// The first card.
    ///
    /// # Errors
    /// [`Error::Device`] with the reason why there is none.
    pub(super) fn open() -> Result<Self> {
        if !has_driver() {
            return Err(not_available("no NVIDIA driver is installed"));
        }
        if ABANDONED.load(Ordering::Relaxed) {
            return Err(not_available("a kernel on it does not end: start this program anew"));
        }
        let because = |error: DriverError| match failed(error) {
            Error::Device(why) => not_available(why.trim_start_matches("cuda: ")),
            other => other,
        };
        result::init().map_err(because)?;
        if result::device::get_count().map_err(because)? == 0 {
            return Err(not_available("the driver finds no GPU"));
        }
        let device = result::device::get(0).map_err(because)?;
        let card = describe(device).map_err(because)?;
        if card.capability < OLDEST {
            let (major, minor) = card.capability;
            return Err(not_available(format!(
                "{} has compute capability {major}.{minor}, 7.5 is needed",
                card.name
            )));
        }
        if card.driver_version < OLDEST_DRIVER {
            return Err(not_available(format!(
                "NVIDIA's driver 525 or later is needed, this one is for CUDA {}: update it",
                card.driver_cuda()
            )));
        }
        // SAFETY: the device exists; what is made here is released when this is dropped.
        unsafe {
            let context = result::primary_ctx::retain(device).map_err(because)?;
            let mut cuda = Self {
                card,
                device,
                context,
                stream: std::ptr::null_mut(),
                modules: Vec::new(),
                functions: Vec::new(),
                singles: Vec::new(),
                batch: Vec::new(),
                pipelines: Vec::new(),
                allocated: Vec::new(),
                mapped: Vec::new(),
            };
            let _entered = cuda.enter()?;
            cuda.stream =
                result::stream::create(result::stream::StreamKind::NonBlocking).map_err(because)?;
            Ok(cuda)
        }
    }

    /// Compiles a text for the card.
    pub(super) fn module(&mut self, ptx: &str) -> Result<sys::CUmodule> {
        let _entered = self.enter()?;
        let image = with_nul(ptx)?;
        // SAFETY: the image is text that ends with NUL.
        unsafe { result::module::load_data(image.as_ptr().cast()) }.map_err(failed)
    }

    /// Forgets a module of which nothing runs any more.
    pub(super) fn unload(&mut self, module: sys::CUmodule) -> Result<()> {
        let _entered = self.enter()?;
        // SAFETY: it was loaded here, and nothing of it runs.
        unsafe { result::module::unload(module) }.map_err(failed)
    }

    /// An entry of a module that is loaded.
    pub(super) fn function(&self, module: sys::CUmodule, name: &str) -> Result<sys::CUfunction> {
        let _entered = self.enter()?;
        // SAFETY: the module is loaded.
        unsafe { result::module::get_function(module, with_nul(name)?) }.map_err(failed)
    }

    /// Sets what an entry may have.
    fn allow(
        &self,
        function: sys::CUfunction,
        attribute: sys::CUfunction_attribute,
        value: u32,
    ) -> Result<()> {
        let _entered = self.enter()?;
        // SAFETY: the function is of a module that is loaded.
        unsafe { result::function::set_function_attribute(function, attribute, value as i32) }
            .map_err(failed)
    }

    /// Compiles a text for as long as this lives; gives entries of it that may have all shared memory.
    fn functions(&mut self, ptx: &str, names: &[&str]) -> Result<Vec<sys::CUfunction>> {
        let module = self.module(ptx)?;
        self.modules.push(module);
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let of_name = |name: &&str| {
            let function = self.function(module, name)?;
            self.allow(function, attribute, self.card.shared_bytes)?;
            Ok(function)
        };
        names.iter().map(of_name).collect()
    }

    /// Loads the pipeline that shall play, whose clusters may be larger than on every card.
    fn load_pipeline(&mut self, ptx: &str, entry: &str) -> Result<()> {
        self.pipelines = self.functions(ptx, &[entry])?;
        let attribute =
            sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
        self.allow(self.pipelines[0], attribute, 1)
    }

    /// Starts so many blocks of so many threads with so many bytes of shared memory.
    pub(super) fn start(
        &mut self,
        function: sys::CUfunction,
        (blocks, threads, shared_bytes): (u32, u32, u32),
        arguments: &mut [*mut c_void],
    ) -> Result<()> {
        let _entered = self.enter()?;
        // SAFETY: the arguments are the function's, which the call copies; addresses among them are of
        // memory that lives until the stream was waited for.
        unsafe {
            result::launch_kernel(
                function,
                (blocks, 1, 1),
                (threads, 1, 1),
                shared_bytes,
                self.stream,
                arguments,
            )
        }
        .map_err(failed)
    }

    fn function_of(&self, launch: Launch, params: &Params) -> sys::CUfunction {
        match launch.entry {
            Entry::GeneralSingle => self.functions[0],
            Entry::GeneralBatch => self.functions[1],
            Entry::Single(_) => self.singles[0],
            Entry::Batch => self.batch[params.voices as usize / 8 - 1],
            Entry::PipelineInt8(_) | Entry::PipelineBf16(_) => self.pipelines[0],
        }
    }

    /// Does something with a launch in clusters, as CUDA wants it told.
    fn with_clusters(
        &mut self,
        launch: Launch,
        act: impl FnOnce(*const sys::CUlaunchConfig) -> sys::CUresult,
    ) -> Result<()> {
        let _entered = self.enter()?;
        let mut value = sys::CUlaunchAttributeValue { pad: [0; 64] };
        value.clusterDim.x = launch.of_cluster;
        value.clusterDim.y = 1;
        value.clusterDim.z = 1;
        let id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        let mut attribute = sys::CUlaunchAttribute { id, pad: [0; 4], value };
        let config = sys::CUlaunchConfig {
            gridDimX: launch.blocks,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: launch.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared_bytes,
            hStream: self.stream,
            attrs: &raw mut attribute,
            numAttrs: 1,
        };
        act(&raw const config).result().map_err(failed)
    }

    /// Makes the context this thread's, for as long as what it gives lives: a host may have one of its own.
    fn enter(&self) -> Result<Entered> {
        // SAFETY: the context is retained as long as this lives.
        unsafe { sys::cuCtxPushCurrent_v2(self.context) }.result().map_err(failed)?;
        Ok(Entered { _here: std::marker::PhantomData })
    }
}

/// A context that is this thread's.
struct Entered {
    /// It stays on the thread that it was made for.
    _here: std::marker::PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut context = std::ptr::null_mut();
        // SAFETY: it writes one address; what was pushed is on top again.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&raw mut context) };
    }
}

fn with_nul(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Device("cuda: a NUL byte in the kernel".into()))
}

fn describe(device: sys::CUdevice) -> std::result::Result<Card, DriverError> {
    use sys::CUdevice_attribute as Attribute;
    // SAFETY: the device exists.
    let get = |attribute| unsafe { result::device::get_attribute(device, attribute) };
    let number = |attribute| get(attribute).map(|value| value.max(0) as u32);
    let mut driver_version = 0;
    // SAFETY: it writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut driver_version) }.result()?;
    Ok(Card {
        name: result::device::get_name(device)?,
        capability: (
            number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: number(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_bytes: number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        // SAFETY: the device exists.
        memory_bytes: unsafe { result::device::total_mem(device)? } as u64,
        clock_khz: number(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?,
        driver_version: driver_version.max(0) as u32,
    })
}

impl Driver for Cuda {
    fn card(&self) -> &Card {
        &self.card
    }

    fn load(&mut self, dtype: Dtype, of_shape: OfShape) -> Result<()> {
        if let Some(index) = of_shape.pipeline_bf16 {
            let entry = pipeline_bf16::SHAPES[index].entry;
            return self.load_pipeline(include_str!("ptx/pipeline_bf16.ptx"), entry);
        }
        if let Some(index) = of_shape.pipeline_int8 {
            let entry = pipeline_int8::SHAPES[index].entry;
            self.load_pipeline(include_str!("ptx/pipeline_int8.ptx"), entry)?;
        }
        let ptx = ptx(dtype, self.card.capability);
        self.functions =
            self.functions(ptx, &["wavenet_general_single", "wavenet_general_batch"])?;
        if let Some(index) = of_shape.single {
            let ptx = include_str!("ptx/single.ptx");
            self.singles = self.functions(ptx, &[single::SHAPES[index].entry])?;
        }
        if let Some(index) = of_shape.batch {
            self.batch = self.functions(BATCH_PTX[index], &BATCH_ENTRIES)?;
        }
        Ok(())
    }

    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        let _entered = self.enter()?;
        // SAFETY: the memory was just allocated, and is freed when this is dropped.
        unsafe {
            let address = result::malloc_sync(bytes.max(1)).map_err(failed)?;
            self.allocated.push(address);
            result::memset_d8_async(address, 0, bytes.max(1), self.stream).map_err(failed)?;
            Ok(address)
        }
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let _entered = self.enter()?;
        // SAFETY: the session writes to what it allocated, no more than that; memory that is not pinned is
        // copied aside before the call returns.
        unsafe { result::memcpy_htod_async(address, bytes, self.stream) }.map_err(failed)
    }

    fn map(&mut self, bytes: usize) -> Result<Mapped> {
        let _entered = self.enter()?;
        let flags = sys::CU_MEMHOSTALLOC_DEVICEMAP | sys::CU_MEMHOSTALLOC_PORTABLE;
        let bytes = bytes.max(16);
        // SAFETY: the memory was just allocated, is all ours, and is freed when this is dropped.
        unsafe {
            let host = result::malloc_host(bytes, flags).map_err(failed)?;
            self.mapped.push(host);
            host.cast::<u8>().write_bytes(0, bytes);
            let mut device = 0;
            sys::cuMemHostGetDevicePointer_v2(&raw mut device, host, 0).result().map_err(failed)?;
            Ok(Mapped::new(host.cast(), bytes, device))
        }
    }

    fn clusters(&mut self, launch: Launch) -> Result<u32> {
        let (function, mut clusters) = (self.pipelines[0], 0);
        // SAFETY: it writes one number; the function is of a module that is loaded.
        self.with_clusters(launch, |config| unsafe {
            match sys::cuOccupancyMaxActiveClusters(&raw mut clusters, function, config) {
                // Larger than this card has at all.
                sys::CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE => sys::CUresult::CUDA_SUCCESS,
                other => other,
            }
        })?;
        Ok(clusters.max(0) as u32)
    }

    fn side_by_side(&mut self, launch: Launch, params: &Params) -> Result<u32> {
        let _entered = self.enter()?;
        let (function, mut blocks) = (self.function_of(launch, params), 0);
        let (threads, shared_bytes) = (launch.threads as i32, launch.shared_bytes as usize);
        // SAFETY: it writes one number; the function is of a module that is loaded.
        unsafe {
            let blocks = &raw mut blocks;
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(
                blocks,
                function,
                threads,
                shared_bytes,
            )
        }
        .result()
        .map_err(failed)?;
        Ok(blocks.max(1) as u32 * self.card.multiprocessors)
    }

    fn launch(&mut self, launch: Launch, params: &Params, more: &More) -> Result<()> {
        let function = self.function_of(launch, params);
        // Where there is nothing more the kernel has one argument, and the driver reads no second.
        let mut arguments =
            [std::ptr::from_ref(params).cast_mut().cast::<c_void>(), more.address().cast_mut()];
        if launch.of_cluster > 1 {
            let arguments = arguments.as_mut_ptr();
            // SAFETY: as in `start`; the configuration is read before the call returns.
            return self.with_clusters(launch, |config| unsafe {
                sys::cuLaunchKernelEx(config, function, arguments, std::ptr::null_mut())
            });
        }
        let Launch { blocks, threads, shared_bytes, .. } = launch;
        self.start(function, (blocks, threads, shared_bytes), &mut arguments)
    }

    fn has_ended(&mut self) -> Result<bool> {
        let _entered = self.enter()?;
        // SAFETY: the stream lives as long as this.
        match unsafe { sys::cuStreamQuery(self.stream) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            other => other.result().map(|()| true).map_err(failed),
        }
    }

    fn wait(&mut self) -> Result<()> {
        let _entered = self.enter()?;
        if ABANDONED.load(Ordering::Relaxed) {
            return Ok(());
        }
        // SAFETY: the stream lives as long as this.
        unsafe { result::stream::synchronize(self.stream) }.map_err(failed)
    }

    fn abandon(&mut self) {
        ABANDONED.store(true, Ordering::Relaxed);
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Freeing would wait for the kernel that does not end, whoever started it.
        if ABANDONED.load(Ordering::Relaxed) {
            return;
        }
        // A device that was lost refuses all of it, and has freed its memory itself.
        // SAFETY: everything was made here, and nothing runs any more once the stream was waited for.
        unsafe {
            let entered = self.enter();
            if !self.stream.is_null() {
                let _ = result::stream::synchronize(self.stream);
                let _ = result::stream::destroy(self.stream);
            }
            for &address in &self.allocated {
                let _ = result::free_sync(address);
            }
            for &host in &self.mapped {
                let _ = result::free_host(host);
            }
            for &module in &self.modules {
                let _ = result::module::unload(module);
            }
            drop(entered);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}
