//! How a kernel of `kernels.cu` is started on tensors.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaView, DriverError, LaunchConfig, PushKernelArg,
};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Error, Result, Shape, Storage, Tensor, bail};
use half::bf16;

/// The kernels as `build.rs` has compiled them.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
const BLOCK_THREADS: u32 = 256;

/// What a kernel is given before its outputs.
pub(super) enum Arg<'a> {
    Count(usize),
    Number(f32),
    /// Numbers one after another.
    All(&'a Tensor),
    /// Some columns of a matrix, whose rows are further apart.
    Columns(&'a Tensor),
}

enum Plain<'a> {
    Count(u32),
    Number(f32),
    F32(CudaView<'a, f32>),
    Bf16(CudaView<'a, bf16>),
    U32(CudaView<'a, u32>),
}

enum Output {
    F32(CudaSlice<f32>),
    Bf16(CudaSlice<bf16>),
}

fn failed(error: DriverError) -> Error {
    Error::Msg(error.to_string())
}

fn count(count: usize) -> Result<u32> {
    // Kernels count in 32 bits.
    match i32::try_from(count) {
        Ok(count) => Ok(count as u32),
        Err(_) => bail!("a batch of too many samples for the card: fewer or shorter segments"),
    }
}

/// Runs the kernel of a name with so many threads (whole blocks of 256 are started) and gives its outputs. The
/// arguments and outputs must be those of `kernels.cu`, in their order.
pub(super) fn launch<const OUTPUTS: usize>(
    device: &CudaDevice,
    kernel: &str,
    threads: usize,
    args: &[Arg<'_>],
    outputs: [(Shape, DType); OUTPUTS],
) -> Result<[Tensor; OUTPUTS]> {
    let guards: Vec<_> = (args.iter())
        .map(|arg| match arg {
            Arg::All(tensor) | Arg::Columns(tensor) => Some(tensor.storage_and_layout()),
            Arg::Count(_) | Arg::Number(_) => None,
        })
        .collect();
    let mut plain = Vec::with_capacity(args.len());
    for (arg, guard) in args.iter().zip(&guards) {
        plain.push(match (arg, guard) {
            (Arg::Count(number), _) => Plain::Count(count(*number)?),
            (Arg::Number(number), _) => Plain::Number(*number),
            (_, Some((storage, layout))) => {
                let is_dense = match arg {
                    Arg::Columns(_) => layout.stride().last() == Some(&1),
                    _ => layout.is_contiguous(),
                };
                let Storage::Cuda(storage) = &**storage else { bail!("{kernel}: not on the card") };
                let from = layout.start_offset();
                match storage.dtype() {
                    _ if !is_dense => bail!("{kernel}: numbers that do not lie together"),
                    DType::F32 => Plain::F32(storage.as_cuda_slice::<f32>()?.slice(from..)),
                    DType::BF16 => Plain::Bf16(storage.as_cuda_slice::<bf16>()?.slice(from..)),
                    DType::U32 => Plain::U32(storage.as_cuda_slice::<u32>()?.slice(from..)),
                    other => bail!("{kernel}: numbers of type {other:?}"),
                }
            }
            (_, None) => unreachable!("every tensor has its storage"),
        });
    }
    let mut made = Vec::with_capacity(OUTPUTS);
    for (shape, dtype) in &outputs {
        let len = shape.elem_count();
        // SAFETY: every kernel writes all of its outputs before anything reads them.
        made.push(unsafe {
            match dtype {
                DType::F32 => Output::F32(device.alloc::<f32>(len)?),
                DType::BF16 => Output::Bf16(device.alloc::<bf16>(len)?),
                other => bail!("{kernel}: an output of type {other:?}"),
            }
        });
    }
    if threads > 0 {
        let function = device.get_or_load_custom_func(kernel, "wavenet-trainer", PTX)?;
        let mut builder = function.builder();
        for arg in &plain {
            match arg {
                Plain::Count(number) => builder.arg(number),
                Plain::Number(number) => builder.arg(number),
                Plain::F32(view) => builder.arg(view),
                Plain::Bf16(view) => builder.arg(view),
                Plain::U32(view) => builder.arg(view),
            };
        }
        for output in &mut made {
            match output {
                Output::F32(slice) => builder.arg(slice),
                Output::Bf16(slice) => builder.arg(slice),
            };
        }
        let shape = LaunchConfig {
            grid_dim: (count(threads)?.div_ceil(BLOCK_THREADS), 1, 1),
            block_dim: (BLOCK_THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments are the kernel's, and it stays within what their counts say.
        unsafe { builder.launch(shape) }.map_err(failed)?;
    }
    let mut shapes = outputs.into_iter();
    let tensors: Vec<Tensor> = made
        .into_iter()
        .zip(&mut shapes)
        .map(|(output, (shape, _))| {
            let storage = match output {
                Output::F32(slice) => CudaStorage::wrap_cuda_slice(slice, device.clone()),
                Output::Bf16(slice) => CudaStorage::wrap_cuda_slice(slice, device.clone()),
            };
            Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
        })
        .collect();
    tensors.try_into().map_err(|_| Error::Msg(format!("{kernel}: another number of outputs")))
}
