//! The same model in another file: with smaller numbers, and played by them.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use wavenet_engine::{Dtype, Weights};

use crate::material::Material;
use crate::rounding::round_last_product;

const NOTES: &str = "\
Players run the new file in its type unless told otherwise. bf16 and int8 keep what a player of that
type computes with, to the bit; what it rounds away is not in the file, so keep the wide one too.
With --data int8 rounds by how the model behaves over recordings, those it was trained on: that
halves what int8 costs, or better. eval --dtype tells what a type costs.";

/// `--dtype`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    /// 32-bit floats
    F32,
    /// 16-bit floats
    Bf16,
    /// 8-bit integers
    Int8,
}

impl From<DtypeArg> for wavenet_engine::Dtype {
    fn from(dtype: DtypeArg) -> Self {
        match dtype {
            DtypeArg::F32 => Self::F32,
            DtypeArg::Bf16 => Self::Bf16,
            DtypeArg::Int8 => Self::Int8,
        }
    }
}

/// `export`
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct ExportArgs {
    /// The model file to read, or a .state of a training run
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// The model file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// How numbers are stored, and multiplied by default
    #[arg(long, value_enum)]
    pub dtype: DtypeArg,
    /// Recordings (or a prepared folder) by which int8 rounds with care
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Table of notes and classes [default: labels.csv in --data, if there]
    #[arg(long, value_name = "FILE.csv", requires = "data")]
    pub labels: Option<PathBuf>,
    /// Take the place of a file that is there
    #[arg(long)]
    pub overwrite: bool,
}

/// Writes a model as `args` ask, and tells what came out. With `material` it is rounded by how the
/// model behaves over it.
///
/// # Errors
/// If the file cannot be written, or the recordings cannot be read.
pub fn export(
    mut weights: Weights,
    material: Option<&Material>,
    args: &ExportArgs,
) -> Result<String> {
    let old_bytes = std::fs::metadata(&args.model).map_or(0, |metadata| metadata.len());
    let dtype = Dtype::from(args.dtype);
    let heard = material.map(|material| round_last_product(&mut weights, material)).transpose()?;
    weights.store_as(dtype);
    weights.save(&args.out)?;
    let new_bytes = std::fs::metadata(&args.out).map_or(0, |metadata| metadata.len());
    let out = args.out.display();
    let care = heard.map(|samples| format!(", rounded by {samples} samples")).unwrap_or_default();
    Ok(format!("{out}: {new_bytes} bytes (before: {old_bytes}), runs as {dtype} by default{care}"))
}
