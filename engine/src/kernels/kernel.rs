//! The choice of instructions, made once, and the way into code compiled for them.

use super::Isa;
use super::scalar;
use super::simd::Task;
#[cfg(target_arch = "x86_64")]
use super::{avx_vnni, avx2, avx512};
use crate::error::{Error, Result};

/// Instructions that this machine has: a value exists only once that was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// `mul_add` as the target's own instruction (aarch64), or as a slow, exact library call.
    Portable,
    /// The same code with `mul_add` as one x86 instruction.
    #[cfg(target_arch = "x86_64")]
    Fma,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 whose 8-bit products are as fast as AVX-512's at half the width.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// # Errors
    /// [`Error::Unsupported`] where this machine lacks what is asked for.
    pub(super) fn choose(isa: Isa) -> Result<Self> {
        let here = Self::all();
        let scalar = here.iter().copied().find(|kernel| kernel.isa() == Isa::Scalar);
        let found = match isa {
            Isa::Auto => here.first().copied(),
            Isa::Scalar => scalar,
            _ => here.iter().copied().find(|kernel| kernel.isa() == isa),
        };
        found.ok_or_else(|| {
            let name = match isa {
                Isa::Avx512 => "avx512: this processor lacks AVX-512 with VNNI",
                _ => "avx2: this processor lacks AVX2 with FMA",
            };
            Error::Unsupported(format!("isa {name}; use auto"))
        })
    }

    /// What this machine has, the fastest first.
    pub(super) fn all() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // Those with AVX-512 but without VNNI, of 2017, clock down under it: AVX2 serves them.
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                kernels.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avxvnni") {
                kernels.push(Self::AvxVnni);
            }
            kernels.extend([Self::Avx2, Self::Fma]);
        }
        kernels.push(Self::Portable);
        kernels
    }

    fn isa(self) -> Isa {
        match self {
            Self::Portable => Isa::Scalar,
            #[cfg(target_arch = "x86_64")]
            Self::Fma => Isa::Scalar,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::AvxVnni => Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Isa::Avx512,
        }
    }

    /// Blocks of float weights that this kernel reads together.
    pub(super) fn float_group(self) -> usize {
        if self.isa() == Isa::Avx512 { 4 } else { 1 }
    }

    /// The same for int8.
    pub(super) fn int8_group(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 8,
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 2,
            _ => 1,
        }
    }

    /// Runs a task compiled for these instructions.
    #[inline(always)]
    pub(super) fn run<T: Task>(self, task: T) -> T::Output {
        match self {
            Self::Portable => scalar::run(task),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the value exists only where the instructions were detected.
            Self::Fma => unsafe { scalar::run_with_fma(task) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: see above.
            Self::Avx2 => unsafe { avx2::run(task) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: see above.
            Self::AvxVnni => unsafe { avx_vnni::run(task) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: see above.
            Self::Avx512 => unsafe { avx512::run(task) },
        }
    }
}
