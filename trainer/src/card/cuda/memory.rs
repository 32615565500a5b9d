//! The pool that all memory of a step comes from.

use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::{Device, Error, Result};

/// Keeps what is freed for the next step. By default the driver gives it back at each wait, and would ask for it
/// again at each step.
pub(in crate::card) fn keep_memory(device: &Device) -> Result<()> {
    let context = device.as_cuda_device()?.cuda_stream().context().clone();
    let failed = |error: result::DriverError| Error::Msg(error.to_string());
    let mut threshold = u64::MAX;
    // SAFETY: the context's device has a default pool, and this attribute of it is a u64.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device()).map_err(failed)?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        let threshold = std::ptr::from_mut(&mut threshold).cast();
        result::mem_pool::set_attribute(pool, attribute, threshold).map_err(failed)
    }
}
