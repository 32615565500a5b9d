//! What stands between the products: taps side by side, gates, ReLUs, the loss, the optimizer. On a card each
//! is a kernel of its own (`cuda/kernels.cu`); elsewhere, and as what those are tested against, candle's operations.

use candle_core::{D, DType, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::parts as kernels;
use super::joined::ONES;
use super::values::{CrossEntropy, Taps};
use crate::optimizer::AdamW;

/// Returns what the kernel of a name gives, where the tensor is on a card.
macro_rules! on_card {
    ($tensor:expr, $kernel:ident($($argument:expr),*)) => {
        #[cfg(feature = "cuda")]
        if let Some(card) = kernels::card_of($tensor) {
            return kernels::$kernel(&card, $($argument),*);
        }
    };
}

/// The taps of each row side by side, then what it hears beside them. Shape: `[rows, taps R + rest]`.
pub(super) fn heard(x: &Tensor, constant: &Tensor, taps: &Taps) -> Result<Tensor> {
    on_card!(x, heard(x, constant, taps));
    // Before the first row there is nothing.
    let led = x.pad_with_zeros(0, taps.reach_rows() - taps.missing_rows, 0)?;
    let rows = constant.dim(0)?;
    let mut parts: Vec<Tensor> = (0..taps.count)
        .map(|tap| led.narrow(0, tap * taps.step_rows, rows))
        .collect::<Result<_>>()?;
    parts.push(constant.clone());
    Tensor::cat(&parts, 1)
}

/// tanh of the filters times sigmoid of the gates, and a one for the biases. Shape: `[rows, G + 8]`.
pub(super) fn gate(sums: &Tensor) -> Result<Tensor> {
    on_card!(sums, gate(sums));
    let (filters, gates) = halves(sums)?;
    let gated = (filters.tanh()? * sigmoid(&gates)?)?;
    let mut one = [0.0_f32; ONES];
    one[0] = 1.0;
    let ones = Tensor::new(&[one], sums.device())?.to_dtype(sums.dtype())?;
    Tensor::cat(&[gated, ones.broadcast_as((sums.dim(0)?, ONES))?.contiguous()?], 1)
}

/// The gradient by the sums of [`gate`]. That of its units comes from the residual, of all rows, and from the
/// skips, of the last rows.
pub(super) fn gate_backward(
    sums: &Tensor,
    from_residual: Option<&Tensor>,
    from_skips: &Tensor,
) -> Result<Tensor> {
    on_card!(sums, gate_backward(sums, from_residual, from_skips));
    let missing = sums.dim(0)? - from_skips.dim(0)?;
    let from_skips = from_skips.contiguous()?.pad_with_zeros(0, missing, 0)?;
    let dgated = match from_residual {
        Some(from_residual) => (from_skips + from_residual)?,
        None => from_skips,
    };
    let (filters, gates) = halves(sums)?;
    let (filters, gates) = (filters.tanh()?, sigmoid(&gates)?);
    // tanh' = 1 - tanh^2; sigmoid' = sigmoid (1 - sigmoid)
    let shared = (dgated * &gates)?;
    let dfilters = (&shared * filters.sqr()?.affine(-1.0, 1.0)?)?;
    let dgates = ((shared * filters)? * gates.affine(-1.0, 1.0)?)?;
    Tensor::cat(&[dfilters, dgates], 1)
}

/// The gradient by a layer's input: what passes by (`above`, of the rows that the layer computes), and what each
/// tap heard.
pub(super) fn input_gradient(
    above: Option<&Tensor>,
    dtaps: &Tensor,
    taps: &Taps,
) -> Result<Tensor> {
    on_card!(dtaps, input_gradient(above, dtaps, taps));
    let (rows, missing) = (dtaps.dim(0)?, taps.missing_rows);
    let shape = (rows + missing, taps.channels);
    let mut sum = match above {
        Some(above) => above.pad_with_zeros(0, missing, 0)?,
        None => Tensor::zeros(shape, dtaps.dtype(), dtaps.device())?,
    };
    for tap in 0..taps.count {
        let part = dtaps.narrow(1, tap * taps.channels, taps.channels)?.contiguous()?;
        // Row i of the part belongs to row i + missing - back; what is before the first is dropped.
        let back = (taps.count - 1 - tap) * taps.step_rows;
        let dropped = back.saturating_sub(missing).min(rows);
        let before = missing.saturating_sub(back);
        let kept = rows - dropped;
        let part = part.narrow(0, dropped, kept)?;
        sum = (sum + part.pad_with_zeros(0, before, rows + missing - before - kept)?)?;
    }
    Ok(sum)
}

/// A product with its bias, and after a ReLU where one is asked for.
pub(super) fn affine_end(product: &Tensor, bias: Option<&Tensor>, relu: bool) -> Result<Tensor> {
    on_card!(product, affine_end(product, bias, relu));
    let sum = match bias {
        Some(bias) => product.broadcast_add(bias)?,
        None => product.clone(),
    };
    if relu { sum.relu() } else { Ok(sum) }
}

/// The gradient before a ReLU that gave `output`.
pub(super) fn relu_backward(gradient: &Tensor, output: &Tensor) -> Result<Tensor> {
    on_card!(output, relu_backward(gradient, output));
    gradient * output.gt(0.0)?.to_dtype(output.dtype())?
}

/// 1 at each row's code. A product with it adds up rows by their code, always in the same order.
/// Shape: `[rows, levels]`.
pub(super) fn one_hot(codes: &Tensor, levels: usize, dtype: DType) -> Result<Tensor> {
    on_card!(codes, one_hot(codes, levels, dtype));
    let all = Tensor::arange(0, levels as u32, codes.device())?.unsqueeze(0)?;
    codes.unsqueeze(1)?.broadcast_eq(&all)?.to_dtype(dtype)
}

/// The loss of rows of logits, each times its count, computed in f32. `samples` is the sum of the counts.
pub(super) fn cross_entropy(
    logits: &Tensor,
    targets: &Tensor,
    counts: Option<&Tensor>,
    samples: u64,
    with_gradient: bool,
) -> Result<CrossEntropy> {
    on_card!(logits, cross_entropy(logits, targets, counts, samples, with_gradient));
    let dtype = logits.dtype();
    let (logits, targets) = (logits.to_dtype(DType::F32)?, targets.unsqueeze(1)?);
    let largest = logits.max_keepdim(D::Minus1)?;
    let above = logits.broadcast_sub(&largest)?;
    let sums = above.exp()?.sum_keepdim(D::Minus1)?;
    let true_ones = above.gather(&targets, 1)?;
    let nats = (sums.log()? - &true_ones)?.squeeze(1)?;
    let hits = true_ones.ge(0.0)?.to_dtype(DType::F32)?.squeeze(1)?;
    let (nats, hits) = match counts {
        Some(counts) => ((nats * counts)?, (hits * counts)?),
        None => (nats, hits),
    };
    let nats_and_hits = Tensor::stack(&[nats.sum_all()?, hits.sum_all()?], 0)?;
    if !with_gradient {
        return Ok(CrossEntropy { nats_and_hits, dlogits: None });
    }
    let likelihoods = above.exp()?.broadcast_div(&sums)?;
    let minus = Tensor::full(-1.0_f32, targets.shape(), targets.device())?;
    let mut dlogits = likelihoods.scatter_add(&targets, &minus, 1)?;
    if let Some(counts) = counts {
        dlogits = dlogits.broadcast_mul(&counts.unsqueeze(1)?)?;
    }
    let dlogits = (dlogits / samples as f64)?.to_dtype(dtype)?;
    Ok(CrossEntropy { nats_and_hits, dlogits: Some(dlogits) })
}

/// A scalar.
pub(super) fn sum_of_squares(flat: &Tensor) -> Result<Tensor> {
    on_card!(flat, sum_of_squares(flat));
    flat.sqr()?.sum_all()
}

/// One step of AdamW as in `optimizer.rs`. `state` is weights, mean, square and average one after another; so is
/// what comes back. Of the gradient a share is left after clipping.
pub(super) fn adamw(
    adam: &AdamW,
    state: &Tensor,
    gradient: &Tensor,
    [learning_rate, share]: [f32; 2],
    step: u64,
) -> Result<Tensor> {
    on_card!(state, adamw(adam, state, gradient, [learning_rate, share], step));
    let count = gradient.elem_count();
    let part = |index: usize| state.narrow(0, index * count, count);
    let [correct1, correct2] = adam.corrections(step).map(f64::from);
    let (beta1, beta2) = (f64::from(adam.beta1), f64::from(adam.beta2));
    let keep = f64::from(adam.average_decay_at(step));
    let rate = f64::from(learning_rate);
    let gradient = (gradient * f64::from(share))?;
    let mean = ((part(1)? * beta1)? + (&gradient * (1.0 - beta1))?)?;
    let square = ((part(2)? * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
    let length = (&square / correct2)?.sqrt()?.affine(1.0, f64::from(adam.epsilon))?;
    let ahead = ((&mean * (rate / correct1))? / length)?;
    let weights = ((part(0)? * (1.0 - rate * f64::from(adam.weight_decay)))? - ahead)?;
    let average = ((part(3)? * keep)? + (&weights * (1.0 - keep))?)?;
    Tensor::cat(&[weights, mean, square, average], 0)
}

fn halves(sums: &Tensor) -> Result<(Tensor, Tensor)> {
    let width = sums.dim(1)? / 2;
    Ok((sums.narrow(1, 0, width)?, sums.narrow(1, width, width)?))
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::sigmoid(x)
}
