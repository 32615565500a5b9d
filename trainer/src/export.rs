//! The same model in another file: with smaller numbers, and played by them.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use wavenet_engine::{Dtype, Weights};

use crate::cli::DtypeArg;

const NOTES: &str = "\
Players run the new file in its type unless told otherwise. bf16 and int8 keep what a player of that
type computes with, to the bit; what it rounds away is not in the file, so keep the wide one too.
eval --dtype tells beforehand what a type costs.";

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
}

/// Writes a model as `args` ask, and tells what came out.
///
/// # Errors
/// If the file cannot be written.
pub fn export(mut weights: Weights, args: &ExportArgs) -> Result<String> {
    let old_bytes = std::fs::metadata(&args.model).map_or(0, |metadata| metadata.len());
    let dtype = Dtype::from(args.dtype);
    weights.store_as(dtype);
    weights.save(&args.out)?;
    let new_bytes = std::fs::metadata(&args.out).map_or(0, |metadata| metadata.len());
    let out = args.out.display();
    Ok(format!("{out}: {new_bytes} bytes (before: {old_bytes}), runs as {dtype} by default"))
}
