//! What learns: the network and the optimizer, on the processor or on a card.
//!
//! A run sees one interface, and the host's weights and moments are the truth of it whenever
//! [`Learner::fetch`] was called since the last step.

use anyhow::Result;
use wavenet_engine::{Config, Weights};

#[cfg(feature = "candle")]
use crate::card::Card;
use crate::network::{Device, Loss, Network, Precision, Segment};
use crate::optimizer::{AdamW, Moments};

/// Takes steps.
pub struct Learner {
    adam: AdamW,
    place: Place,
}

enum Place {
    Host {
        network: Box<Network>,
        gradient: Vec<f32>,
    },
    #[cfg(feature = "candle")]
    Card(Box<Card>),
}

impl Learner {
    /// On a device; of threads only the processor has a choice.
    ///
    /// # Errors
    /// This program was not built for the device, there is none, or it does not compute so.
    pub fn on(
        device: Device,
        precision: Precision,
        config: &Config,
        adam: AdamW,
        threads: usize,
    ) -> Result<Self> {
        device.check()?;
        precision.check(device)?;
        let place = match device {
            #[cfg(feature = "candle")]
            Device::Cuda => Place::Card(Box::new(Card::first(config, precision, threads)?)),
            _ => Place::Host {
                network: Box::new(Network::on(device, config, threads)?),
                gradient: Vec::new(),
            },
        };
        Ok(Self { adam, place })
    }

    /// Loss of a batch and the norm of its mean gradient, which is kept for [`Learner::step`]. The segments come
    /// back in some state.
    ///
    /// # Errors
    /// That of the device.
    pub fn gradient(
        &mut self,
        weights: &Weights,
        moments: &Moments,
        batch: &mut [Segment],
    ) -> Result<(Loss, f64)> {
        match &mut self.place {
            Place::Host { network, gradient } => {
                gradient.resize(moments.mean.len(), 0.0);
                let loss = network.gradient_of(weights, batch, gradient)?;
                Ok((loss, self.adam.clip(gradient)))
            }
            #[cfg(feature = "candle")]
            Place::Card(card) => card.gradient(weights, moments, batch),
        }
    }

    /// Moves the weights against the gradient, shortened to the norm allowed.
    ///
    /// # Errors
    /// That of the device.
    pub fn step(
        &mut self,
        weights: &mut Weights,
        moments: &mut Moments,
        learning_rate: f32,
    ) -> Result<()> {
        match &mut self.place {
            Place::Host { gradient, .. } => {
                self.adam.step(moments, learning_rate, gradient, weights.values_mut());
                Ok(())
            }
            #[cfg(feature = "candle")]
            Place::Card(card) => card.step(&self.adam, moments, learning_rate),
        }
    }

    /// Brings weights and moments up to date.
    ///
    /// # Errors
    /// That of the device.
    pub fn fetch(&mut self, weights: &mut Weights, moments: &mut Moments) -> Result<()> {
        match &mut self.place {
            Place::Host { .. } => {
                let _ = (weights, moments);
                Ok(())
            }
            #[cfg(feature = "candle")]
            Place::Card(card) => card.fetch(weights, moments),
        }
    }

    /// From here on the weights and moments that are given count, whatever they were before.
    pub fn forget(&mut self) {
        match &mut self.place {
            Place::Host { .. } => (),
            #[cfg(feature = "candle")]
            Place::Card(card) => card.forget(),
        }
    }

    /// Loss of any weights over `count` segments, without a gradient.
    ///
    /// # Errors
    /// The first error of `fill`, or of the device.
    pub fn loss(
        &mut self,
        weights: &Weights,
        count: usize,
        fill: &(dyn Fn(usize, &mut Segment) -> Result<()> + Sync),
    ) -> Result<Loss> {
        match &mut self.place {
            Place::Host { network, .. } => network.loss(weights, count, fill),
            #[cfg(feature = "candle")]
            Place::Card(card) => card.loss(weights, count, fill),
        }
    }
}
