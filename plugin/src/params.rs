//! What a host can set and automate, and how it reaches the engine.
//!
//! Values travel as events: `Changes` remembers what the engine was told and says what is new. The
//! host's blocks are cut where automation moves, so a change lands on its frame.

use std::collections::BTreeMap;
use std::sync::Arc;

use nice_plug::plugin::ParamValue;
use nice_plug::prelude::*;
use wavenet_engine::config::Config;
use wavenet_engine::synth::{MAX_VOICES, Parameter, Settings};

use crate::model::ModelRef;
use crate::session::{Session, Wishes};

/// The plugin's parameters and the rest of its state.
#[derive(Params)]
#[expect(missing_docs, reason = "each is named for the host")]
pub struct InstrumentParams {
    /// Which model; see [`Session`].
    #[persist = "model"]
    pub session: Session,

    #[id = "temp"]
    pub temperature: FloatParam,
    #[id = "top_p"]
    pub top_p: FloatParam,
    #[id = "seed"]
    pub seed: IntParam,
    #[id = "class"]
    pub class: IntParam,
    #[id = "attack"]
    pub attack_ms: FloatParam,
    #[id = "decay"]
    pub decay_ms: FloatParam,
    #[id = "sustn"]
    pub sustain: FloatParam,
    #[id = "reles"]
    pub release_ms: FloatParam,
    #[id = "gain"]
    pub gain_db: FloatParam,
    #[id = "voices"]
    pub voices: IntParam,
    #[id = "bend"]
    pub bend_range_semitones: IntParam,
    #[id = "buffer"]
    pub buffer_ms: IntParam,
    #[id = "wait"]
    pub always_wait: BoolParam,
    #[id = "gpu"]
    pub gpu: BoolParam,
}

// Values have steps: hosts keep them as shares of the whole way, and back they come a little changed.

/// Times are short more often than long: half of the knob is a tenth of the range.
fn ms(name: &str, default: f32) -> FloatParam {
    let range = FloatRange::Skewed { min: 0.0, max: 10_000.0, factor: 0.3 };
    FloatParam::new(name, default, range).with_unit(" ms").with_step_size(0.1)
}

fn share(name: &str, default: f32) -> FloatParam {
    let range = FloatRange::Linear { min: 0.0, max: 1.0 };
    FloatParam::new(name, default, range).with_step_size(0.001)
}

fn whole(name: &str, default: i32, min: i32, max: i32) -> IntParam {
    IntParam::new(name, default, IntRange::Linear { min, max })
}

impl InstrumentParams {
    /// The defaults, for a session of its own.
    pub(crate) fn new(session: Session) -> Self {
        let range = FloatRange::Linear { min: 0.0, max: 2.0 };
        let (shown, meant) = (session.sounds(), session.sounds());
        Self {
            session,
            // The built-in model's own.
            temperature: FloatParam::new("Temperature", 0.6, range).with_step_size(0.001),
            top_p: share("Top-p", 1.0),
            seed: whole("Seed", 1, 0, 9_999),
            class: whole("Sound", 0, 0, 1_023)
                .with_value_to_string(Arc::new(move |number| shown.name(number)))
                .with_string_to_value(Arc::new(move |name| meant.number(name)))
                .non_automatable(),
            attack_ms: ms("Attack", 0.0),
            decay_ms: ms("Decay", 0.0),
            sustain: share("Sustain", 1.0),
            release_ms: ms("Release", 150.0),
            gain_db: FloatParam::new("Gain", 0.0, FloatRange::Linear { min: -60.0, max: 24.0 })
                .with_unit(" dB")
                .with_step_size(0.1),
            voices: whole("Voices", 8, 1, MAX_VOICES as i32).non_automatable(),
            bend_range_semitones: whole("Bend range", 2, 0, 48)
                .with_unit(" semitones")
                .non_automatable(),
            buffer_ms: whole("Buffer", 20, 5, 500).with_unit(" ms").non_automatable(),
            always_wait: BoolParam::new("Always wait", false).non_automatable(),
            gpu: BoolParam::new("GPU", false).non_automatable(),
        }
    }

    /// What the engine is told. Real-time safe.
    fn parameters(&self) -> [Parameter; PARAMETERS] {
        let index = |param: &IntParam| param.value().max(0) as usize;
        [
            Parameter::Temperature(self.temperature.value()),
            Parameter::TopP(self.top_p.value()),
            Parameter::Seed(self.seed.value().max(0) as u64),
            Parameter::Class(index(&self.class)),
            Parameter::AttackMs(self.attack_ms.value()),
            Parameter::DecayMs(self.decay_ms.value()),
            Parameter::Sustain(self.sustain.value()),
            Parameter::ReleaseMs(self.release_ms.value()),
            Parameter::GainDb(self.gain_db.value()),
            Parameter::Voices(index(&self.voices)),
        ]
    }

    /// How far ahead the generator works, within what the parameter allows.
    pub(crate) fn margin_ms(&self) -> u32 {
        self.buffer_ms.value().clamp(5, 500).unsigned_abs()
    }
}

impl Wishes for InstrumentParams {
    fn settings(&self, config: &Config) -> Settings {
        let mut settings = Settings::default();
        for parameter in self.parameters() {
            settings.set(parameter, config);
        }
        settings
    }

    fn wants_gpu(&self) -> bool {
        self.gpu.value()
    }
}

/// How many settings the engine is told.
pub(crate) const PARAMETERS: usize = 10;

/// What the engine was told last.
#[derive(Debug)]
pub(crate) struct Changes {
    told: [Parameter; PARAMETERS],
}

impl Changes {
    /// The engine begins with what the parameters are now.
    pub(crate) fn new(params: &InstrumentParams) -> Self {
        Self { told: params.parameters() }
    }

    /// Calls `tell` for every setting. Real-time safe.
    pub(crate) fn tell_all(&mut self, params: &InstrumentParams, tell: impl FnMut(Parameter)) {
        self.told = params.parameters();
        self.told.iter().copied().for_each(tell);
    }

    /// Calls `tell` for each setting that is another than it was. Real-time safe.
    pub(crate) fn tell(&mut self, params: &InstrumentParams, mut tell: impl FnMut(Parameter)) {
        for (told, now) in self.told.iter_mut().zip(params.parameters()) {
            if *told != now {
                *told = now;
                tell(now);
            }
        }
    }
}

/// Adds to a state what it lacks: a framework that leaves a missing parameter as it was would make a
/// preset sound after whatever was played before.
pub(crate) fn complete(
    params: &mut BTreeMap<String, ParamValue>,
    fields: &mut BTreeMap<String, String>,
) {
    let defaults = InstrumentParams::new(Session::default());
    let float = |param: &FloatParam| ParamValue::F32(param.default_plain_value());
    let int = |param: &IntParam| ParamValue::I32(param.default_plain_value());
    for (id, value) in [
        ("temp", float(&defaults.temperature)),
        ("top_p", float(&defaults.top_p)),
        ("seed", int(&defaults.seed)),
        ("class", int(&defaults.class)),
        ("attack", float(&defaults.attack_ms)),
        ("decay", float(&defaults.decay_ms)),
        ("sustn", float(&defaults.sustain)),
        ("reles", float(&defaults.release_ms)),
        ("gain", float(&defaults.gain_db)),
        ("voices", int(&defaults.voices)),
        ("bend", int(&defaults.bend_range_semitones)),
        ("buffer", int(&defaults.buffer_ms)),
        ("wait", ParamValue::Bool(defaults.always_wait.default_plain_value())),
        ("gpu", ParamValue::Bool(defaults.gpu.default_plain_value())),
    ] {
        params.entry(id.to_owned()).or_insert(value);
    }
    if let Ok(model) = serde_json::to_string(&ModelRef::default()) {
        fields.entry("model".to_owned()).or_insert(model);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_without_anything_is_the_default_of_everything() {
        let (mut params, mut fields) = (BTreeMap::new(), BTreeMap::new());
        complete(&mut params, &mut fields);
        let all = InstrumentParams::new(Session::default());
        let mut ids: Vec<String> = all.param_map().into_iter().map(|(id, ..)| id).collect();
        ids.sort();
        assert!(params.keys().eq(&ids), "{:?} {ids:?}", params.keys());
        assert!(fields.keys().eq(all.serialize_fields().keys()));
    }

    #[test]
    fn a_sound_is_shown_by_its_name() {
        let params = InstrumentParams::new(Session::default());
        let shown = |number| {
            params.class.normalized_value_to_string(params.class.preview_normalized(number), false)
        };
        assert_eq!(
            (shown(0).as_str(), shown(1).as_str(), shown(7).as_str()),
            ("piano", "string", "7")
        );
        let number = params.class.string_to_normalized_value("wind-pad");
        assert_eq!(number, Some(params.class.preview_normalized(2)));
        assert_eq!(
            params.class.string_to_normalized_value("12"),
            Some(params.class.preview_normalized(12))
        );
    }

    #[test]
    fn only_changes_are_told() {
        let params = InstrumentParams::new(Session::default());
        let mut changes = Changes::new(&params);
        let mut told = Vec::new();
        changes.tell(&params, |parameter| told.push(parameter));
        assert_eq!(told, []);
        let mut other = InstrumentParams::new(Session::default());
        other.seed = whole("Seed", 7, 0, 9);
        changes.tell(&other, |parameter| told.push(parameter));
        changes.tell(&other, |parameter| told.push(parameter));
        assert_eq!(told, [Parameter::Seed(7)]);
    }

    #[test]
    fn defaults_are_those_of_the_engine_and_of_the_built_in_model() {
        let (weights, _) = ModelRef::default().load().unwrap();
        let params = InstrumentParams::new(Session::default());
        let settings = params.settings(weights.config());
        let mut expected = Settings::default();
        expected.sampling.temperature = weights.config().default_temperature();
        assert_eq!(settings, expected);
    }
}
