//! Lanes that make codes, wherever that is: on the GPU while it is there, else on the processor, with
//! the same bytes; but for the fast mode, which has its own.
//!
//! What a lane remembers is a function of what it last heard, so a lost GPU loses nothing: the host
//! keeps the codes and vectors of one receptive field, and the processor hears them again.

use std::collections::VecDeque;
use std::sync::Arc;

use super::session::Session;
use crate::crew::{in_shares, share_of};
use crate::kernels::{Packed, State};
use crate::sampling::{Philox, Sampling};

/// Lanes of the processor that a thread has to itself at least, and those whose past one thread keeps.
const FEWEST_STEPPED: usize = 64;
const FEWEST_REMEMBERED: usize = 64;

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
    tell_loss: fn(&str),
}

#[derive(Debug)]
enum Place {
    Device(Box<Session>),
    Processor(Processors),
}

impl Lanes {
    /// So many lanes on the processor, of which many share out its threads.
    pub fn on_processor(packed: Arc<Packed>, lanes: usize) -> Self {
        Self::in_shares(packed, lanes, share_of(lanes, FEWEST_STEPPED))
    }

    /// The same with so many lanes a thread.
    pub(super) fn in_shares(packed: Arc<Packed>, lanes: usize, share: usize) -> Self {
        let place = Place::Processor(Processors::new(&packed, lanes, share));
        Self { packed, place, count: lanes, history: Vec::new(), loss: None, tell_loss: |_| () }
    }

    /// So many lanes on a device.
    pub(super) fn on_device(packed: Arc<Packed>, session: Session, lanes: usize) -> Self {
        let history = (0..lanes).map(|_| History::default()).collect();
        let place = Place::Device(Box::new(session));
        Self { packed, place, count: lanes, history, loss: None, tell_loss: |_| () }
    }

    /// Lets `tell` be called once with the reason, should the GPU be given up: by the thread that runs the lanes.
    pub fn telling_loss(self, tell: fn(&str)) -> Self {
        Self { tell_loss: tell, ..self }
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

    /// Voices that play in clusters of their own at once, in the modes that have them; more of them play as in
    /// [`Mode::Exact`](super::Mode::Exact), or one after another in the fast mode. 0 elsewhere.
    pub fn clusters(&self) -> usize {
        match &self.place {
            Place::Device(session) => session.clusters(),
            Place::Processor(_) => 0,
        }
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
                    let why = error.to_string();
                    (self.tell_loss)(&why);
                    self.loss = Some(why);
                    let share = share_of(self.count, FEWEST_STEPPED);
                    let mut processors = Processors::new(&self.packed, self.count, share);
                    processors.hear_again(&self.packed, &self.history);
                    self.history = Vec::new();
                    self.place = Place::Processor(processors);
                }
            }
        }
        if let Place::Processor(processors) = &mut self.place {
            processors.run(&self.packed, orders, conditioning, codes);
        }
    }

    /// Keeps what the lanes heard, for as long as it is heard.
    fn remember(&mut self, orders: &[Order], conditioning: &[f32], codes: &[u8]) {
        let most = self.packed.config().receptive_field() - 1;
        let rows = Rows::new(&self.packed, orders, conditioning);
        let mut codes = codes;
        let mut heard: Vec<Option<(usize, &[u8])>> = vec![None; self.count];
        for (index, order) in orders.iter().enumerate() {
            heard[order.lane] = Some((index, codes.split_off(..order.count).unwrap_or_default()));
        }
        in_shares(
            &mut self.history,
            share_of(self.count, FEWEST_REMEMBERED),
            |first, histories| {
                for (history, heard) in histories.iter_mut().zip(&heard[first..]) {
                    if let &Some((index, made)) = heard {
                        history.add(&orders[index], made, rows.of(index), rows.are_constant);
                        history.forget(most, rows.h, rows.are_constant);
                    }
                }
            },
        );
    }
}

/// What a lane heard last: one receptive field, or all since its silence.
#[derive(Debug, Default)]
struct History {
    codes: VecDeque<u8>,
    /// A vector a code, or one for all.
    vectors: VecDeque<f32>,
}

impl History {
    /// An order, the codes that were made, and the vectors that were heard.
    fn add(&mut self, order: &Order, made: &[u8], vectors: &[f32], are_constant: bool) {
        if order.made == 0 {
            self.codes.clear();
            self.vectors.clear();
        }
        let Some((_, heard)) = made.split_last() else { return };
        self.codes.push_back(order.code);
        self.codes.extend(heard);
        if are_constant {
            self.vectors.clear();
        }
        self.vectors.extend(vectors);
    }

    /// What is more than so many codes.
    fn forget(&mut self, most: usize, h: usize, are_constant: bool) {
        let beyond = self.codes.len().saturating_sub(most);
        self.codes.drain(..beyond);
        if !are_constant {
            self.vectors.drain(..beyond * h);
        }
    }
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

/// Lanes on the processor, so many a thread.
#[derive(Debug)]
struct Processors {
    share: usize,
    all: Vec<Processor>,
}

impl Processors {
    fn new(packed: &Packed, lanes: usize, share: usize) -> Self {
        let of_share = |first| Processor::new(packed, first, share.min(lanes - first));
        Self { share, all: (0..lanes).step_by(share).map(of_share).collect() }
    }

    fn run(&mut self, packed: &Packed, orders: &[Order], vectors: &[f32], codes: &mut [u8]) {
        let rows = Rows::new(packed, orders, vectors);
        let mut left = codes;
        let mut asked: Vec<Vec<Asked<'_>>> = self.all.iter().map(|_| Vec::new()).collect();
        for (index, order) in orders.iter().enumerate() {
            let codes = left.split_off_mut(..order.count).unwrap_or_default();
            asked[order.lane / self.share].push(Asked { index, order, codes });
        }
        // A few voices are one thread's, which needs no start.
        let is_asked = |(_, asked): &(&mut Processor, Vec<Asked<'_>>)| !asked.is_empty();
        let mut work: Vec<_> = self.all.iter_mut().zip(asked).filter(is_asked).collect();
        in_shares(&mut work, 1, |_, work| {
            work.iter_mut().for_each(|(processor, asked)| processor.run(packed, &rows, asked));
        });
    }

    /// Brings lanes to where they were.
    fn hear_again(&mut self, packed: &Packed, history: &[History]) {
        let share = self.share;
        in_shares(&mut self.all, 1, |first, all| {
            for (processor, history) in all.iter_mut().zip(history[first * share..].chunks(share)) {
                processor.hear_again(packed, history);
            }
        });
    }
}

/// An order, its number among all, and where its codes go.
struct Asked<'a> {
    index: usize,
    order: &'a Order,
    codes: &'a mut [u8],
}

/// Some lanes, stepped together.
#[derive(Debug)]
struct Processor {
    first_lane: usize,
    state: State,
    // Of one step.
    lanes: Vec<usize>,
    codes: Vec<u8>,
    conditioning: Vec<f32>,
    logits: Vec<f32>,
}

impl Processor {
    fn new(packed: &Packed, first_lane: usize, lanes: usize) -> Self {
        Self {
            first_lane,
            state: State::new(packed, lanes),
            lanes: Vec::with_capacity(lanes),
            codes: Vec::with_capacity(lanes),
            conditioning: Vec::with_capacity(lanes * packed.config().conditioning_channels()),
            logits: vec![0.0; lanes * packed.config().levels],
        }
    }

    /// Makes what its lanes are asked for.
    fn run(&mut self, packed: &Packed, rows: &Rows<'_>, asked: &mut [Asked<'_>]) {
        for Asked { order, .. } in asked.iter().filter(|a| a.order.made == 0 && a.order.count > 0) {
            self.state.reset(packed, order.lane - self.first_lane);
        }
        let longest = asked.iter().map(|asked| asked.order.count).max().unwrap_or(0);
        for sample in 0..longest {
            self.begin_step();
            for Asked { index, order, codes } in asked.iter().filter(|a| sample < a.order.count) {
                let before = sample.checked_sub(1).map_or(order.code, |last| codes[last]);
                self.add(order.lane - self.first_lane, before, rows.of_sample(*index, sample));
            }
            self.step(packed);
            let owing = asked.iter_mut().filter(|a| sample < a.order.count);
            let logits = self.logits.chunks_exact(packed.config().levels);
            for (Asked { order, codes, .. }, logits) in owing.zip(logits) {
                let draw = order.draws.draw(order.made + sample as u64);
                codes[sample] = packed.pick(logits, order.sampling, draw);
            }
        }
    }

    /// Brings its lanes to where they were.
    fn hear_again(&mut self, packed: &Packed, history: &[History]) {
        let h = packed.config().conditioning_channels();
        let longest = history.iter().map(|history| history.codes.len()).max().unwrap_or(0);
        let mut vector = Vec::with_capacity(h);
        for sample in 0..longest {
            self.begin_step();
            for (lane, history) in history.iter().enumerate() {
                let Some(&code) = history.codes.get(sample) else { continue };
                let start = if history.vectors.len() == h { 0 } else { sample * h };
                vector.clear();
                vector.extend(history.vectors.range(start..start + h));
                self.add(lane, code, &vector);
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
