//! `parts.rs`, each part one kernel.

use candle_core::{CudaDevice, DType, Device, Result, Shape, Tensor, bail};

use super::launch::Arg::{All, Columns, Count, Number};
use super::launch::launch;
use crate::card::joined::ONES;
use crate::card::values::{CrossEntropy, Taps};
use crate::optimizer::AdamW;

/// The name of a kernel for activations of a type.
fn of_type(kernel: &str, dtype: DType) -> Result<String> {
    Ok(match dtype {
        DType::F32 => format!("{kernel}_f32"),
        DType::BF16 => format!("{kernel}_bf16"),
        other => bail!("{kernel}: activations of type {other:?}"),
    })
}

fn only<T>([one]: [T; 1]) -> T {
    one
}

pub(in crate::card) fn heard(
    device: &CudaDevice,
    x: &Tensor,
    constant: &Tensor,
    taps: &Taps,
) -> Result<Tensor> {
    let (rows, rest) = constant.dims2()?;
    let shape = (rows, taps.count * taps.channels + rest);
    let args = [
        All(x),
        All(constant),
        Count(rows),
        Count(taps.count),
        Count(taps.channels),
        Count(rest),
        Count(taps.step_rows),
        Count(taps.reach_rows() - taps.missing_rows),
    ];
    let name = of_type("heard", x.dtype())?;
    launch(device, &name, shape.0 * shape.1, &args, [(shape.into(), x.dtype())]).map(only)
}

pub(in crate::card) fn gate(device: &CudaDevice, sums: &Tensor) -> Result<Tensor> {
    let (rows, width) = sums.dims2()?;
    let shape = (rows, width / 2 + ONES);
    let args = [All(sums), Count(rows), Count(width / 2), Count(ONES)];
    let name = of_type("gate", sums.dtype())?;
    launch(device, &name, shape.0 * shape.1, &args, [(shape.into(), sums.dtype())]).map(only)
}

pub(in crate::card) fn gate_backward(
    device: &CudaDevice,
    sums: &Tensor,
    from_residual: Option<&Tensor>,
    from_skips: &Tensor,
) -> Result<Tensor> {
    let (rows, width) = sums.dims2()?;
    let args = [
        All(sums),
        All(from_residual.unwrap_or(sums)),
        Count(from_residual.is_some().into()),
        Columns(from_skips),
        Count(from_skips.stride()[0]),
        Count(rows - from_skips.dim(0)?),
        Count(rows),
        Count(width / 2),
    ];
    let name = of_type("gate_backward", sums.dtype())?;
    launch(device, &name, rows * width / 2, &args, [((rows, width).into(), sums.dtype())]).map(only)
}

pub(in crate::card) fn input_gradient(
    device: &CudaDevice,
    above: Option<&Tensor>,
    dtaps: &Tensor,
    taps: &Taps,
) -> Result<Tensor> {
    let rows = dtaps.dim(0)?;
    let shape = (rows + taps.missing_rows, taps.channels);
    let args = [
        All(above.unwrap_or(dtaps)),
        Count(above.is_some().into()),
        All(dtaps),
        Count(rows),
        Count(taps.missing_rows),
        Count(taps.count),
        Count(taps.channels),
        Count(taps.step_rows),
    ];
    let name = of_type("input_gradient", dtaps.dtype())?;
    launch(device, &name, shape.0 * shape.1, &args, [(shape.into(), dtaps.dtype())]).map(only)
}

pub(in crate::card) fn affine_end(
    device: &CudaDevice,
    product: &Tensor,
    bias: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let (rows, columns) = product.dims2()?;
    let Some(bias) = bias else {
        return if relu { product.relu() } else { Ok(product.clone()) };
    };
    let args = [All(product), All(bias), Count(rows), Count(columns), Count(relu.into())];
    let name = of_type("affine_end", product.dtype())?;
    let output = (product.shape().clone(), product.dtype());
    launch(device, &name, rows * columns, &args, [output]).map(only)
}

pub(in crate::card) fn relu_backward(
    device: &CudaDevice,
    gradient: &Tensor,
    output: &Tensor,
) -> Result<Tensor> {
    let count = output.elem_count();
    let args = [All(gradient), All(output), Count(count)];
    let name = of_type("relu_backward", output.dtype())?;
    launch(device, &name, count, &args, [(output.shape().clone(), output.dtype())]).map(only)
}

pub(in crate::card) fn one_hot(
    device: &CudaDevice,
    codes: &Tensor,
    levels: usize,
    dtype: DType,
) -> Result<Tensor> {
    let rows = codes.dim(0)?;
    let args = [All(codes), Count(rows), Count(levels)];
    let name = of_type("one_hot", dtype)?;
    launch(device, &name, rows * levels, &args, [((rows, levels).into(), dtype)]).map(only)
}

pub(in crate::card) fn cross_entropy(
    device: &CudaDevice,
    logits: &Tensor,
    targets: &Tensor,
    counts: Option<&Tensor>,
    samples: u64,
    with_gradient: bool,
) -> Result<CrossEntropy> {
    let (rows, levels) = logits.dims2()?;
    // Without a gradient there is an output of one number, which stays unwritten and unread.
    let shape: Shape = if with_gradient { (rows, levels).into() } else { (1, 1).into() };
    let args = [
        All(logits),
        All(targets),
        // Never read where there are none.
        All(counts.unwrap_or(targets)),
        Count(counts.is_some().into()),
        Count(rows),
        Count(levels),
        Number(1.0 / samples as f32),
        Count(with_gradient.into()),
    ];
    let name = of_type("cross_entropy", logits.dtype())?;
    let outputs = [((2, rows).into(), DType::F32), (shape, logits.dtype())];
    let [measured, dlogits] = launch(device, &name, rows * 32, &args, outputs)?;
    let dlogits = with_gradient.then_some(dlogits);
    Ok(CrossEntropy { nats_and_hits: measured.sum(1)?, dlogits })
}

pub(in crate::card) fn sum_of_squares(device: &CudaDevice, flat: &Tensor) -> Result<Tensor> {
    const BLOCKS: usize = 64;
    let args = [All(flat), Count(flat.elem_count())];
    let output = (Shape::from(BLOCKS), DType::F32);
    launch(device, "squares", BLOCKS * 256, &args, [output]).map(only)?.sum_all()
}

/// `state` is weights, mean, square and average one after another; so is what comes back.
pub(in crate::card) fn adamw(
    device: &CudaDevice,
    adam: &AdamW,
    state: &Tensor,
    gradient: &Tensor,
    [learning_rate, share]: [f32; 2],
    step: u64,
) -> Result<Tensor> {
    let [correct1, correct2] = adam.corrections(step);
    let count = gradient.elem_count();
    let args = [
        All(state),
        All(gradient),
        Count(count),
        Number(share),
        Number(adam.beta1),
        Number(adam.beta2),
        Number(correct1),
        Number(correct2),
        Number(adam.epsilon),
        Number(learning_rate),
        Number(adam.weight_decay),
        Number(adam.average_decay_at(step)),
    ];
    launch(device, "adamw", count, &args, [(state.shape().clone(), DType::F32)]).map(only)
}

/// The card that a tensor is on.
pub(in crate::card) fn card_of(tensor: &Tensor) -> Option<CudaDevice> {
    match tensor.device() {
        Device::Cuda(device) => Some(device.clone()),
        _ => None,
    }
}
