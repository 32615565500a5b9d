//! Lanes that make codes, wherever that is: on the GPU while it is there, else on the processor, with
//! the same bytes; but for the fast mode, which has its own.
//!
//! What a lane remembers is a function of what it last heard, so a lost GPU loses nothing: the host
//! keeps the codes and vectors of one receptive field, and the processor hears them again.

use std::sync::Arc;

use super::session::Session;
use crate::kernels::{Packed, State};
use crate::sampling::{Philox, Sampling};

/// Samples to be made by one lane.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Which; at most one order a lane.
    pub lane: usize,
    /// Samples that the lane has made since its silence: 0 begins anew. Else as many as it was asked for.
    pub made: u64,
    /// The sample that it made last; that of silence where there is none.
    pub code: u8,
    /// Of its codes; sample `made` takes draw `made`.
    pub draws: Philox,
    /// How codes are chosen.
    pub sampling: Sampling,
    /// How many.
    pub count: usize,
}

/// Lanes of one model.
#[derive(Debug)]
pub struct Lanes {
    packed: Arc<Packed>,
    place: Place,
    count: usize,
    history: Vec<History>,
    loss: Option<String>,
}

#[derive(Debug)]
enum Place {
    Device(Box<Session>),
    Processor(Box<Processor>),
}

impl Lanes {
    /// So many lanes on the processor.
    pub fn on_processor(packed: Arc<Packed>, lanes: usize) -> Self {
        let place = Place::Processor(Box::new(Processor::new(&packed, lanes)));
        Self { packed, place, count: lanes, history: Vec::new(), loss: None }
    }

    /// So many lanes on a device.
    pub(super) fn on_device(packed: Arc<Packed>, session: Session, lanes: usize) -> Self {
        let history = (0..lanes).map(|_| History::default()).collect();
        let place = Place::Device(Box::new(session));
        Self { packed, place, count: lanes, history, loss: None }
    }

    /// The model.
    pub fn packed(&self) -> &Arc<Packed> {
        &self.packed
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a GPU does the work.
    pub fn is_on_device(&self) -> bool {
        matches!(self.place, Place::Device(_))
    }

    /// Why the GPU was given up, if it was.
    pub fn loss(&self) -> Option<&str> {
        self.loss.as_deref()
    }

    /// Makes what the orders ask. `conditioning` holds the vectors of all orders' samples, order after
    /// order, shape `[sum of counts][H]`; of a model without local channels one vector an order, shape
    /// `[orders][H]`. The codes go to `codes` in the same order, shape `[sum of counts]`.
    ///
    /// A GPU that fails is given up, and the processor goes on: the codes are the same. Not real-time
    /// safe: it waits for the device.
    pub fn run(&mut self, orders: &[Order], conditioning: &[f32], codes: &mut [u8]) {
        if let Place::Device(session) = &mut self.place {
            match session.run(orders, conditioning, codes) {
                Ok(()) => return self.remember(orders, conditioning, codes),
                Err(error) => {
                    self.loss = Some(error.to_string());
                    let mut processor = Processor::new(&self.packed, self.history.len());
                    processor.hear_again(&self.packed, &self.history);
                    self.history = Vec::new();
                    self.place = Place::Processor(Box::new(processor));
                }
            }
        }
        if let Place::Processor(processor) = &mut self.place {
            processor.run(&self.packed, orders, conditioning, codes);
        }
    }

    /// Keeps what the lanes heard, for as long as it is heard.
    fn remember(&mut self, orders: &[Order], conditioning: &[f32], codes: &[u8]) {
        let most = self.packed.config().receptive_field() - 1;
        let rows = Rows::new(&self.packed, orders, conditioning);
        let mut codes = codes;
        for (index, order) in orders.iter().enumerate() {
            let history = &mut self.history[order.lane];
            if order.made == 0 {
                history.codes.clear();
                history.vectors.clear();
            }
            let made = codes.split_off(..order.count).unwrap_or_default();
            let Some((_, heard)) = made.split_last() else { continue };
            history.codes.push(order.code);
            history.codes.extend_from_slice(heard);
            if rows.are_constant {
                history.vectors.clear();
            }
            history.vectors.extend_from_slice(rows.of(index));
            // Now and then, so that it costs little.
            if history.codes.len() > 2 * most + 64 {
                history.codes.drain(..history.codes.len() - most);
                let vectors = if rows.are_constant { rows.h } else { most * rows.h };
                history.vectors.drain(..history.vectors.len() - vectors);
            }
        }
    }
}

/// What a lane heard last: at least one receptive field, or all since its silence.
#[derive(Debug, Default)]
struct History {
    codes: Vec<u8>,
    /// A vector a code, or one for all.
    vectors: Vec<f32>,
}

/// The vectors of some orders.
struct Rows<'a> {
    vectors: &'a [f32],
    h: usize,
    /// An order has one for all its samples.
    are_constant: bool,
    /// Where each order's begin.
    first: Vec<usize>,
}

impl<'a> Rows<'a> {
    fn new(packed: &Packed, orders: &[Order], vectors: &'a [f32]) -> Self {
        let are_constant = packed.config().local_channels() == 0;
        let mut end = 0;
        let first = orders.iter().map(|order| {
            end += if are_constant { 1 } else { order.count };
            end
        });
        let first = std::iter::once(0).chain(first).collect();
        Self { vectors, h: packed.config().conditioning_channels(), are_constant, first }
    }

    /// All of an order's.
    fn of(&self, order: usize) -> &'a [f32] {
        &self.vectors[self.first[order] * self.h..self.first[order + 1] * self.h]
    }

    /// That of one of its samples.
    fn of_sample(&self, order: usize, sample: usize) -> &'a [f32] {
        let row = self.first[order] + if self.are_constant { 0 } else { sample };
        &self.vectors[row * self.h..(row + 1) * self.h]
    }
}

/// Lanes on the processor.
#[derive(Debug)]
struct Processor {
    state: State,
    // Of one step.
    lanes: Vec<usize>,
    codes: Vec<u8>,
    conditioning: Vec<f32>,
    logits: Vec<f32>,
}

impl Processor {
    fn new(packed: &Packed, lanes: usize) -> Self {
        Self {
            state: State::new(packed, lanes),
            lanes: Vec::with_capacity(lanes),
            codes: Vec::with_capacity(lanes),
            conditioning: Vec::with_capacity(lanes * packed.config().conditioning_channels()),
            logits: vec![0.0; lanes * packed.config().levels],
        }
    }

    fn run(&mut self, packed: &Packed, orders: &[Order], vectors: &[f32], codes: &mut [u8]) {
        let rows = Rows::new(packed, orders, vectors);
        let mut first_code = 0;
        let mut last = Vec::with_capacity(orders.len());
        for order in orders {
            if order.made == 0 && order.count > 0 {
                self.state.reset(packed, order.lane);
            }
            last.push((order.code, first_code));
            first_code += order.count;
        }
        let longest = orders.iter().map(|order| order.count).max().unwrap_or(0);
        for sample in 0..longest {
            self.begin_step();
            for (index, order) in orders.iter().enumerate().filter(|(_, o)| sample < o.count) {
                self.add(order.lane, last[index].0, rows.of_sample(index, sample));
            }
            self.step(packed);
            let owing = orders.iter().zip(&mut last).filter(|(order, _)| sample < order.count);
            let logits = self.logits.chunks_exact(packed.config().levels);
            for ((order, (code, first)), logits) in owing.zip(logits) {
                let draw = order.draws.draw(order.made + sample as u64);
                *code = packed.pick(logits, order.sampling, draw);
                codes[*first + sample] = *code;
            }
        }
    }

    /// Brings lanes to where they were.
    fn hear_again(&mut self, packed: &Packed, history: &[History]) {
        let h = packed.config().conditioning_channels();
        let longest = history.iter().map(|history| history.codes.len()).max().unwrap_or(0);
        for sample in 0..longest {
            self.begin_step();
            for (lane, history) in history.iter().enumerate() {
                let Some(&code) = history.codes.get(sample) else { continue };
                let start = if history.vectors.len() == h { 0 } else { sample * h };
                self.add(lane, code, &history.vectors[start..start + h]);
            }
            self.step(packed);
        }
    }

    fn begin_step(&mut self) {
        self.lanes.clear();
        self.codes.clear();
        self.conditioning.clear();
    }

    fn add(&mut self, lane: usize, code: u8, vector: &[f32]) {
        self.lanes.push(lane);
        self.codes.push(code);
        self.conditioning.extend_from_slice(vector);
    }

    fn step(&mut self, packed: &Packed) {
        let logits = &mut self.logits[..self.lanes.len() * packed.config().levels];
        packed.step(&mut self.state, &self.lanes, &self.codes, &self.conditioning, logits);
    }
}
