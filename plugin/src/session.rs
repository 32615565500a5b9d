//! The model that is loaded and the stream that plays it, for whoever may wait.
//!
//! The host's main thread activates, deactivates and restores projects; the audio thread only has the
//! [`Player`] that `Session::start` gave it. A project that is restored while the plugin is active
//! changes the model in the running stream, and is done before the host goes on, so that a bounce
//! begins with the right one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use nice_plug::params::persist::PersistentField;
use nice_plug::prelude::*;
use wavenet_engine::cuda::{self, Lanes, Mode};
use wavenet_engine::renderer::Renderer;
use wavenet_engine::stream::{self, Controls, Player, StreamOptions};
use wavenet_engine::synth::{MAX_VOICES, Settings, Synth};
use wavenet_engine::{Config, Error, Isa, Packed, Result, Weights};

use crate::model::ModelRef;

/// What a stream is made with: the settings of now.
pub(crate) trait Wishes: Send + Sync {
    /// The engine's settings for a model.
    fn settings(&self, config: &Config) -> Settings;
    /// Whether a GPU shall make the sound, where there is one.
    fn wants_gpu(&self) -> bool;
}

/// One instance's model and stream.
#[derive(Default)]
pub struct Session {
    state: Mutex<State>,
    /// What is playing needs another latency or another stream: ask the host to activate anew.
    restart: AtomicBool,
    /// Another model plays, with settings that may have changed while it was made.
    renewed: AtomicBool,
    params: OnceLock<Weak<dyn Wishes>>,
    sounds: Sounds,
}

/// What a host shows for the numbers of the model's sounds. Never locked on the audio thread.
#[derive(Clone)]
pub(crate) struct Sounds(Arc<Mutex<Vec<String>>>);

impl Default for Sounds {
    /// Those of the model that plays unless another is chosen.
    fn default() -> Self {
        Self(Arc::new(Mutex::new(wavenet_models::SOUNDS.map(String::from).to_vec())))
    }
}

impl Sounds {
    /// The name of a number; the number where the model has none.
    pub(crate) fn name(&self, number: i32) -> String {
        let sounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = usize::try_from(number).ok().and_then(|number| sounds.get(number));
        name.cloned().unwrap_or_else(|| number.to_string())
    }

    /// The number of a name, or of a number in digits.
    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        let sounds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = sounds.iter().position(|sound| sound == name.trim());
        place.and_then(|place| place.try_into().ok()).or_else(|| name.trim().parse().ok())
    }
}

#[derive(Default)]
struct State {
    model: ModelRef,
    /// The model, once it was needed.
    loaded: Option<Weights>,
    active: Option<Active>,
}

/// While the host has the plugin active.
struct Active {
    rate_hz: u32,
    /// None where there is no model to play.
    controls: Option<Controls>,
}

impl Session {
    /// The names of the sounds of the model that plays.
    pub(crate) fn sounds(&self) -> Sounds {
        self.sounds.clone()
    }

    /// Where the settings for a model are to be found.
    pub(crate) fn attach(&self, params: Weak<dyn Wishes>) {
        // Set once, by the one who made both.
        let _ = self.params.set(params);
    }

    /// Plays another model, from a file, or the built-in one.
    ///
    /// # Errors
    /// If it cannot be read; the plugin is then silent, and the project keeps its name.
    pub fn choose(&self, model: ModelRef) -> Result<()> {
        let mut state = self.lock();
        if state.loaded.is_some() && state.model.is(&model) {
            return Ok(());
        }
        state.model = model;
        state.loaded = None;
        let loaded = state.load();
        let Some(rate_hz) = state.active.as_ref().map(|active| active.rate_hz) else {
            // Read again, and said again, when it is needed.
            return loaded;
        };
        let renderer = loaded.and_then(|()| self.renderer(&state, rate_hz));
        let Some(active) = &mut state.active else {
            return Ok(());
        };
        match renderer {
            // Another look-ahead is another latency, and only a new activation may change that.
            Ok(renderer) => {
                let playing = active.controls.as_ref().map(|controls| controls.load(renderer));
                match playing {
                    Some(Ok(())) => self.renewed.store(true, Ordering::Release),
                    _ => self.restart.store(true, Ordering::Release),
                }
                Ok(())
            }
            Err(error) => {
                active.controls = None;
                Err(error)
            }
        }
    }

    /// Starts a stream; what ran before ends. None where there is no model to play.
    pub(crate) fn start(&self, rate_hz: u32, options: StreamOptions) -> Option<Player> {
        let mut state = self.lock();
        state.active = None;
        self.restart.store(false, Ordering::Release);
        let started = state
            .load()
            .and_then(|()| self.renderer(&state, rate_hz))
            .and_then(|renderer| stream::start(renderer, options));
        let (player, controls) = match started {
            Ok((player, controls)) => (Some(player), Some(controls)),
            Err(error) => {
                nice_error!("{}: {error}", state.model.name());
                (None, None)
            }
        };
        state.active = Some(Active { rate_hz, controls });
        player
    }

    /// Ends the stream.
    pub(crate) fn stop(&self) {
        self.lock().active = None;
    }

    /// Whether the host should activate the plugin anew; says so once. Real-time safe.
    pub(crate) fn take_restart(&self) -> bool {
        self.restart.swap(false, Ordering::AcqRel)
    }

    /// Whether the engine should be told every setting again; says so once. Real-time safe.
    pub(crate) fn take_renewed(&self) -> bool {
        self.renewed.swap(false, Ordering::AcqRel)
    }

    /// The model for a rate, with the settings of now and room for every voice.
    fn renderer(&self, state: &State, rate_hz: u32) -> Result<Renderer> {
        let Some(weights) = &state.loaded else {
            return Err(Error::Unsupported("no model is loaded".into()));
        };
        let config = weights.config();
        *self.sounds.0.lock().unwrap_or_else(PoisonError::into_inner) = config.classes.clone();
        let params = self.params.get().and_then(Weak::upgrade);
        let settings = params.as_ref().map(|params| params.settings(config)).unwrap_or_default();
        let packed = Packed::new(weights, config.default_dtype, Isa::Auto)?;
        let synth = if params.is_some_and(|params| params.wants_gpu()) {
            let packed = Arc::new(packed);
            // A project goes from machine to machine: where there is no GPU it sounds the same.
            let lanes = cuda::lanes(weights, Arc::clone(&packed), MAX_VOICES, Mode::Exact)
                .unwrap_or_else(|error| {
                    nice_warn!("{error}; the processor plays, with the same sound");
                    Lanes::on_processor(packed, MAX_VOICES)
                });
            let lanes = lanes.telling_loss(|why| {
                nice_warn!(
                    "the GPU is given up ({why}); the processor plays on, with the same sound"
                );
            });
            Synth::on_lanes(lanes, settings)?
        } else {
            Synth::with_room(packed, settings, MAX_VOICES)?
        };
        Renderer::new(synth, rate_hz)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing here half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Reads the model unless that was done.
    fn load(&mut self) -> Result<()> {
        if self.loaded.is_none() {
            let (weights, sha256) = self.model.load()?;
            if self.model.differs_from(&sha256) {
                nice_warn!("{} has changed since the project was saved", self.model.name());
            }
            self.model.sha256 = sha256;
            self.loaded = Some(weights);
        }
        Ok(())
    }
}

impl PersistentField<'_, ModelRef> for Session {
    fn set(&self, model: ModelRef) {
        let name = model.name();
        if let Err(error) = self.choose(model) {
            nice_error!("{name}: {error}");
        }
    }

    fn map<F, R>(&self, f: F) -> R
    where
        F: Fn(&ModelRef) -> R,
    {
        f(&self.lock().model)
    }
}
