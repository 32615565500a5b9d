//! What stands between the products: gates, ReLUs, and where the gradient of a tap belongs.

use candle_core::{DType, Result, Tensor};

/// tanh of the filters times sigmoid of the gates, beside the columns of ones. Shape: `[rows, G + 8]`.
pub(super) fn gate(sums: &Tensor, ones: &Tensor) -> Result<Tensor> {
    let (filters, gates) = halves(sums)?;
    Tensor::cat(&[&(filters.tanh()? * sigmoid(&gates)?)?, ones], 1)
}

/// The gradient by the sums of [`gate`]. That of its units comes from the residual, of all rows, and from the
/// skips, of the last rows; the columns of ones have none.
pub(super) fn gate_backward(
    sums: &Tensor,
    from_residual: Option<&Tensor>,
    from_skips: &Tensor,
) -> Result<Tensor> {
    let missing = sums.dim(0)? - from_skips.dim(0)?;
    let from_skips =
        if missing > 0 { from_skips.pad_with_zeros(0, missing, 0)? } else { from_skips.clone() };
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

/// The gradient before a ReLU that gave `output`.
pub(super) fn relu_backward(gradient: &Tensor, output: &Tensor) -> Result<Tensor> {
    gradient * output.gt(0.0)?.to_dtype(output.dtype())?
}

/// How the taps of a layer lie.
pub(super) struct Taps {
    /// Channels of each.
    pub(super) channels: usize,
    /// Rows that each reaches back, the oldest first, the last 0.
    pub(super) back_rows: Vec<usize>,
    /// Rows of the input before the first that the layer computes.
    pub(super) missing_rows: usize,
}

/// The gradient by a layer's input: what passes by (`above`, of the rows that the layer computes), and what each
/// tap heard.
pub(super) fn input_gradient(
    above: Option<&Tensor>,
    dtaps: &Tensor,
    taps: &Taps,
) -> Result<Tensor> {
    let rows = dtaps.dim(0)?;
    let mut sum: Option<Tensor> = None;
    for (tap, &back) in taps.back_rows.iter().enumerate() {
        let mut part = dtaps.narrow(1, tap * taps.channels, taps.channels)?;
        if let Some(above) = above.filter(|_| back == 0) {
            part = (part + above)?;
        }
        // Row i of the part belongs to row i + ahead of the input; what is before its first is dropped.
        let before = taps.missing_rows.saturating_sub(back);
        let dropped = back.saturating_sub(taps.missing_rows).min(rows);
        let part = part.narrow(0, dropped, rows - dropped)?;
        let after = rows + taps.missing_rows - before - (rows - dropped);
        let part = if before + after > 0 {
            part.contiguous()?.pad_with_zeros(0, before, after)?
        } else {
            part
        };
        sum = Some(match sum {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    sum.map_or_else(|| Tensor::zeros((rows, taps.channels), dtaps.dtype(), dtaps.device()), Ok)
}

/// The sum of the rows of each code: a product, whose order of adding is always the same.
pub(super) fn by_code(codes: &Tensor, rows: &Tensor, levels: usize) -> Result<Tensor> {
    let all = Tensor::arange(0, levels as u32, codes.device())?.unsqueeze(0)?;
    let is_code = codes.unsqueeze(1)?.broadcast_eq(&all)?.to_dtype(rows.dtype())?;
    is_code.t()?.matmul(&rows.contiguous()?)
}

/// Each row's numbers as likelihoods.
pub(super) fn softmax(logits: &Tensor) -> Result<Tensor> {
    debug_assert_eq!(logits.dtype(), DType::F32);
    candle_nn::ops::softmax_last_dim(logits)
}

fn halves(sums: &Tensor) -> Result<(Tensor, Tensor)> {
    let width = sums.dim(1)? / 2;
    Ok((sums.narrow(1, 0, width)?, sums.narrow(1, width, width)?))
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::sigmoid(x)
}
