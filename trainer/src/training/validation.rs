//! Measuring a model on recordings that it is not trained on: a little while it learns, more at the
//! end.

use anyhow::{Context, Result, ensure};
use wavenet_engine::Weights;

use crate::learner::Learner;
use crate::material::{Material, Stretch};
use crate::network::{Loss, Segment};
use crate::prepared::Split;

/// Frames of validation audio heard while training, and at the end.
const QUICK_FRAMES: u64 = 40_000;
const FINAL_FRAMES: u64 = 1_000_000;
/// Samples of a validation segment whose loss counts.
const WINDOW: usize = 8192;

/// The stretches by which the best weights are chosen: always the same.
pub(super) fn quick(material: &Material) -> Result<Vec<Stretch>> {
    let stretches = material.cover(Some(Split::Valid), WINDOW, QUICK_FRAMES);
    ensure!(
        !stretches.is_empty(),
        "no recording is left to validate on: name some with --valid, or add recordings"
    );
    Ok(stretches)
}

/// The stretches by which the finished model is measured.
pub(super) fn thorough(material: &Material) -> Vec<Stretch> {
    material.cover(Some(Split::Valid), WINDOW, FINAL_FRAMES)
}

/// Loss of a model on some stretches.
pub(super) fn measure(
    learner: &mut Learner,
    weights: &Weights,
    material: &Material,
    stretches: &[Stretch],
) -> Result<Loss> {
    let fill = |index: usize, segment: &mut Segment| {
        let stretch = stretches.get(index).context("a stretch too many")?;
        material.fill(*stretch, segment)
    };
    learner.loss(weights, stretches.len(), &fill)
}
