//! A state as bytes: a .safetensors with one vector a tensor, and as metadata
//!
//! ```text
//! SHA-256 in hex, a space, JSON        over that JSON and the vectors in the order of their names
//! ```
//!
//! so that a bit that flips on the disk is noticed, which the format itself does not do.

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wavenet_engine::Weights;
use wavenet_engine::weights::Layout;

use super::{Checkpoint, Run};
use crate::hex::hex;
use crate::optimizer::Moments;
use crate::settings::check_model;

const METADATA_KEY: &str = "wavenet-trainer";
const VERSION: u32 = 2;
/// More than any run can take: what is counted from the steps stays within 64 bits.
const MAX_STEPS: u64 = 1 << 48;

#[derive(Serialize, Deserialize)]
struct Header<R> {
    version: u32,
    step: u64,
    run: R,
}

pub(super) fn write(checkpoint: &Checkpoint, out: &mut impl Write) -> Result<()> {
    let Checkpoint { run, weights, moments, best } = checkpoint;
    let best = best.as_ref().map(|best| ("best", &best[..]));
    let vectors = [("average", &moments.average[..])].into_iter().chain(best).chain([
        ("mean", &moments.mean[..]),
        ("square", &moments.square),
        ("weights", weights.values()),
    ]);
    let bytes: Vec<(&str, Vec<u8>)> = vectors
        .map(|(name, values)| (name, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let header = serde_json::to_string(&Header { version: VERSION, step: moments.step, run })?;
    let sum = checksum(&header, bytes.iter().map(|(_, bytes)| &bytes[..]));
    let mut views = Vec::new();
    for (name, bytes) in &bytes {
        views.push((*name, TensorView::new(Dtype::F32, vec![weights.values().len()], bytes)?));
    }
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), format!("{sum} {header}"))]);
    out.write_all(&safetensors::serialize(views, Some(metadata))?)?;
    Ok(())
}

fn checksum<'a>(header: &str, vectors: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    hash.update(header);
    vectors.for_each(|bytes| hash.update(bytes));
    hex(hash)
}

pub(super) fn from_bytes(bytes: &[u8]) -> Result<Checkpoint> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let metadata = metadata.metadata().as_ref().and_then(|map| map.get(METADATA_KEY));
    let metadata = metadata.context("no metadata of the trainer")?;
    let (sum, header) = metadata.split_once(' ').context("it is of another version")?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let mut named: Vec<_> = tensors.iter().collect();
    named.sort_by_key(|(name, _)| *name);
    let known = checksum(header, named.iter().map(|(_, tensor)| tensor.data()));
    ensure!(
        known == sum,
        "its bytes have changed since it was written, or it is of another version"
    );

    let Header { version, step, run } = serde_json::from_str::<Header<Run>>(header)?;
    ensure!(version == VERSION, "version {version}; this program reads {VERSION}");
    ensure!(step <= MAX_STEPS && run.anchor_step <= step, "{step} steps");
    ensure!(run.elapsed_s.is_finite() && run.elapsed_s >= 0.0, "a time of {} s", run.elapsed_s);
    check_model(&run.settings.model)?;
    let parameters = Layout::new(&run.settings.model).len;
    let read = |name: &str| -> Result<Vec<f32>> {
        let tensor = tensors.tensor(name)?;
        ensure!(
            tensor.dtype() == Dtype::F32 && tensor.shape() == [parameters],
            "`{name}` has another shape"
        );
        let values: Vec<f32> =
            tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        ensure!(values.iter().all(|value| value.is_finite()), "`{name}` holds NaN or infinity");
        Ok(values)
    };
    let (values, mean) = (read("weights")?, read("mean")?);
    let (square, average) = (read("square")?, read("average")?);
    ensure!(square.iter().all(|value| *value >= 0.0), "a negative mean square");
    let best = run.record.best.is_some().then(|| read("best")).transpose()?;
    let mut weights = Weights::zeros(run.settings.model.clone())?;
    weights.values_mut().copy_from_slice(&values);
    Ok(Checkpoint { run, weights, moments: Moments { step, mean, square, average }, best })
}
