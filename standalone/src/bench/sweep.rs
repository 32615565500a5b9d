//! `wavenet bench --sweep`: a table over shapes, types of weights, instruction sets and voices.

use anyhow::Result;
use wavenet_engine::Packed;

use super::{Report, measure, random_model};
use crate::cli::{BenchArgs, Dtype, Isa, RunArgs, Shape};
use crate::model::Model;

/// How long each row is measured, unless told otherwise.
const SECONDS: f64 = 0.5;
/// R, S, A and layers.
const SHAPES: [[usize; 4]; 3] = [[64, 256, 256, 10], [64, 256, 256, 30], [128, 256, 256, 30]];
pub(super) const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::Int8];
const ISAS: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx512];
/// Voices of a row: one, then eight together.
const VOICES: [usize; 2] = [1, 8];

/// Measures all of it. Rows that have no kernel on this machine are left out.
///
/// # Errors
/// If a model cannot be loaded or built.
pub(super) fn sweep(args: &BenchArgs) -> Result<String> {
    let seconds = args.seconds.unwrap_or(SECONDS);
    let mut reports = Vec::new();
    for model in &models(args)? {
        for dtype in DTYPES {
            for isa in ISAS {
                if Packed::new(&model.weights, dtype.into(), isa.into()).is_err() {
                    continue;
                }
                let run = RunArgs { isa, dtype: Some(dtype), threads: args.run.threads };
                for voices in VOICES {
                    reports.push(measure(model, &run, voices, seconds)?);
                }
            }
        }
    }
    Ok(if args.json { serde_json::to_string_pretty(&reports)? } else { table(&reports) })
}

/// The model that was asked for, and the shapes.
///
/// # Errors
/// If a model cannot be loaded or built.
pub(super) fn models(args: &BenchArgs) -> Result<Vec<Model>> {
    let mut models = vec![Model::load(args.model.as_deref())?];
    for [residual_channels, skip_channels, end_channels, layers] in SHAPES {
        let shape = Shape { residual_channels, skip_channels, end_channels, layers };
        models.push(random_model(shape)?);
    }
    Ok(models)
}

/// A model in a table: the last word of its name, and its shape.
pub(super) fn name_of(model: &str, shape: &str) -> String {
    format!("{} {shape}", model.split(' ').next_back().unwrap_or_default())
}

/// One line for each pair of one voice and eight.
fn table(reports: &[Report]) -> String {
    let mut lines = vec![format!(
        "{:<26} {:<5} {:<7} {:>11} {:>9} {:>13} {:>11} {:>9} {:>13}",
        "samples a second",
        "dtype",
        "isa",
        "1 voice",
        "x real",
        "of roof",
        "8 voices",
        "x real",
        "of roof"
    )];
    for pair in reports.chunks(VOICES.len()) {
        let [first, .., last] = pair else { continue };
        lines.push(format!(
            "{:<26} {:<5} {:<7} {:>11.0} {:>9.2} {:>13} {:>11.0} {:>9.2} {:>13}",
            name_of(&first.model, &first.shape),
            format!("{:?}", first.dtype).to_lowercase(),
            format!("{:?}", first.isa).to_lowercase(),
            first.samples_per_second,
            first.realtime_factor,
            first.roofline.share(),
            last.samples_per_second,
            last.realtime_factor,
            last.roofline.share(),
        ));
    }
    lines.join("\n")
}
