//! The report of a run: one HTML file beside the model that needs nothing else, no network either.
//!
//! It says how the run went, what to look at, how recordings and the model sound side by side, what was
//! read, what was measured on notes, and how to play the result. Every word that comes from outside (file
//! names, labels, reasons) is escaped by the template library.

mod measured;
mod page;
mod sounds;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wavenet_engine::{Weights, files};

use crate::material::Material;
use crate::prepare::Table;
use crate::training::{Outcome, TrainOptions};
use measured::{Measured, measured};
use sounds::{Pair, pairs};

/// The revision of the sources that this program was built from; empty where git did not know.
pub const REVISION: &str = env!("WAVENET_REVISION");

/// Everything that the page shows.
struct Facts<'a> {
    /// The model's file name.
    name: String,
    weights: &'a Weights,
    options: &'a TrainOptions,
    outcome: &'a Outcome,
    table: Table,
    pairs: Vec<Pair>,
    measured: Vec<Measured>,
}

/// Where the report of a model lies.
pub fn report_path(model: &Path) -> PathBuf {
    model.with_extension("html")
}

/// Checks that the report of a model can be written.
///
/// # Errors
/// One line: a folder has its name, or its place takes no files.
pub fn check(model: &Path) -> Result<()> {
    let path = report_path(model);
    files::beside(&path).with_context(|| {
        format!("the report {} cannot be written; choose another --out", path.display())
    })?;
    Ok(())
}

/// Writes the report of a run whose model is saved, and gives its path.
///
/// # Errors
/// One line: the model or the recordings cannot be read, or the disk is full.
pub fn write(material: &Material, options: &TrainOptions, outcome: &Outcome) -> Result<PathBuf> {
    let path = report_path(&options.out);
    let weights = Weights::load(&options.out)?;
    // Who interrupts a run does not want to wait.
    let most = if outcome.interrupted { 1 } else { usize::MAX };
    let facts = Facts {
        name: options.out.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        weights: &weights,
        options,
        outcome,
        table: Table::of(material.prepared().index()),
        pairs: pairs(material.prepared(), &weights, most)?,
        measured: measured(material),
    };
    let html = page::page(&facts)?;
    let mut file = files::beside(&path)?;
    file.write_all(html.as_bytes())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    files::finish(file, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests;
