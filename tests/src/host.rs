//! A small CLAP host on clack: one instance of the plugin, driven as a DAW drives it.

use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use clack_extensions::latency::{HostLatency, HostLatencyImpl, PluginLatency};
use clack_extensions::params::{
    HostParams, HostParamsImplMainThread, HostParamsImplShared, ParamClearFlags, ParamInfoBuffer,
    ParamRescanFlags, PluginParams,
};
use clack_extensions::render::{PluginRender, RenderMode};
use clack_extensions::state::{HostState, HostStateImpl, PluginState};
use clack_host::events::Match;
use clack_host::events::event_types::{
    MidiEvent, NoteChokeEvent, NoteOffEvent, NoteOnEvent, ParamValueEvent,
};
use clack_host::prelude::*;

/// What the plugin may ask of the host.
#[derive(Debug, Default)]
pub struct Asked {
    restarts: AtomicU32,
}

impl SharedHandler<'_> for Asked {
    fn request_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }
    fn request_process(&self) {}
    fn request_callback(&self) {}
}

impl HostParamsImplShared for Asked {
    fn request_flush(&self) {}
}

/// What the plugin may tell the host's main thread.
#[derive(Debug)]
pub struct Told;

impl MainThreadHandler<'_> for Told {}

impl HostLatencyImpl for Told {
    fn changed(&self) {}
}

impl HostParamsImplMainThread for Told {
    fn rescan(&self, _flags: ParamRescanFlags) {}
    fn clear(&self, _param_id: ClapId, _flags: ParamClearFlags) {}
}

impl HostStateImpl for Told {
    fn mark_dirty(&self) {}
}

/// The types of this host.
#[derive(Debug)]
pub struct Handlers;

impl HostHandlers for Handlers {
    type Shared<'a> = Asked;
    type MainThread<'a> = Told;
    type AudioProcessor<'a> = ();

    fn declare_extensions(builder: &mut HostExtensions<Self>, _shared: &Asked) {
        builder.register::<HostLatency>().register::<HostParams>().register::<HostState>();
    }
}

/// Something that happens in a block. `None` is a wildcard.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "CLAP's own names")]
pub enum Happening {
    NoteOn { channel: u16, key: u16, id: Option<u32>, velocity: f64 },
    NoteOff { channel: Option<u16>, key: Option<u16>, id: Option<u32> },
    Choke { channel: Option<u16>, key: Option<u16>, id: Option<u32> },
    Midi([u8; 3]),
    Set { id: ClapId, value: f64 },
}

impl Happening {
    /// A key of channel 0 goes down. Velocity 1 to 127.
    pub fn on(key: u16, velocity: u8) -> Self {
        let velocity = f64::from(velocity) / 127.0;
        Self::NoteOn { channel: 0, key, id: None, velocity }
    }

    /// A key of channel 0 goes up.
    pub fn off(key: u16) -> Self {
        Self::NoteOff { channel: Some(0), key: Some(key), id: None }
    }

    /// Appends it to a block's events.
    pub fn push(self, frame: u32, events: &mut EventBuffer) {
        fn any<T>(value: Option<T>) -> Match<T> {
            value.map_or(Match::All, Match::Specific)
        }
        match self {
            Self::NoteOn { channel, key, id, velocity } => {
                let whom = Pckn::new(0_u16, channel, key, any(id));
                events.push(&NoteOnEvent::new(frame, whom, velocity));
            }
            Self::NoteOff { channel, key, id } => {
                let whom = Pckn::new(0_u16, any(channel), any(key), any(id));
                events.push(&NoteOffEvent::new(frame, whom, 0.0));
            }
            Self::Choke { channel, key, id } => {
                let whom = Pckn::new(0_u16, any(channel), any(key), any(id));
                events.push(&NoteChokeEvent::new(frame, whom));
            }
            Self::Midi(bytes) => events.push(&MidiEvent::new(frame, 0, bytes)),
            Self::Set { id, value } => {
                events.push(&ParamValueEvent::new(frame, id, Pckn::match_all(), value));
            }
        }
    }
}

/// The audio thread's half: a processor that was started, and its buffers.
pub struct Audio {
    processor: PluginAudioProcessor<Handlers>,
    ports: AudioPorts,
    channels: [Vec<f32>; 2],
    events: EventBuffer,
    status: ProcessStatus,
}

impl std::fmt::Debug for Audio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audio").finish_non_exhaustive()
    }
}

impl Audio {
    /// One block. Allocates nothing itself once it has had as many events and frames.
    pub fn process(&mut self, events: &[(u32, Happening)], frames: usize) -> &[f32] {
        self.events.clear();
        for &(frame, happening) in events {
            happening.push(frame, &mut self.events);
        }
        // What a plugin leaves alone must not pass for silence.
        self.channels.iter_mut().for_each(|channel| channel[..frames].fill(f32::NAN));
        let output = AudioPortBuffer {
            latency: 0,
            channels: AudioPortBufferType::f32_output_only(
                self.channels.iter_mut().map(|channel| &mut channel[..frames]),
            ),
        };
        let mut outputs = self.ports.with_output_buffers([output]);
        self.status = self
            .processor
            .as_started_mut()
            .expect("processing was started")
            .process(
                &InputAudioBuffers::empty(),
                &mut outputs,
                &self.events.as_input(),
                &mut OutputEvents::void(),
                None,
                None,
            )
            .expect("the plugin processes");
        let [left, right] = &self.channels;
        assert!(
            left[..frames].iter().zip(&right[..frames]).all(|(a, b)| a.to_bits() == b.to_bits())
        );
        &left[..frames]
    }

    /// Frames from a phrase, whose events are at frames from its beginning, in blocks.
    pub fn play(&mut self, phrase: &[(u64, Happening)], frames: usize, block: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(frames);
        let mut rest = phrase;
        while out.len() < frames {
            let start = out.len() as u64;
            let block = block.min(frames - out.len());
            let here = rest.partition_point(|&(frame, _)| frame < start + block as u64);
            let (now, later) = rest.split_at(here);
            rest = later;
            let now: Vec<(u32, Happening)> =
                now.iter().map(|&(frame, happening)| ((frame - start) as u32, happening)).collect();
            out.extend_from_slice(self.process(&now, block));
        }
        out
    }

    /// One block; whether the plugin wants to be called again although it is silent.
    pub fn play_and_ask(&mut self, events: &[(u32, Happening)], frames: usize) -> bool {
        self.process(events, frames);
        self.status == ProcessStatus::Continue
    }

    /// What the last block of so many frames was.
    pub fn heard(&self, frames: usize) -> &[f32] {
        &self.channels[0][..frames]
    }

    /// The host's reset.
    pub fn reset(&mut self) {
        self.processor.reset();
    }

    /// Starts processing.
    pub fn start(&mut self) {
        self.processor.ensure_processing_started().expect("processing starts");
    }

    /// Stops processing.
    pub fn stop(&mut self) {
        self.processor.ensure_processing_stopped();
    }

    /// Parameters without audio, while active.
    pub fn flush(&mut self, changes: &[Happening]) {
        let mut events = EventBuffer::new();
        changes.iter().for_each(|change| change.push(0, &mut events));
        let mut plugin = self.processor.plugin_handle();
        let params: PluginParams = plugin.get_extension().expect("parameters");
        params.flush_active(&mut plugin, &events.as_input(), &mut OutputEvents::void());
    }
}

/// The plugin's entry, linked into this program.
pub fn linked_entry() -> PluginEntry {
    // SAFETY: the entry is a static that nice-plug makes; it keeps CLAP's promises.
    unsafe { PluginEntry::load_from_raw(&wavenet_plugin::clap_entry, c"/WaveNet.clap") }
        .expect("the entry loads")
}

/// The entry of a bundle on disk.
pub fn bundled_entry(path: &Path) -> PluginEntry {
    // SAFETY: a bundle of ours; it keeps CLAP's promises.
    unsafe { PluginEntry::load(path) }.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One instance of the plugin. Its thread is the main thread, and the audio thread too unless the
/// [`Audio`] is sent to another.
pub struct Host {
    // Before the instance, which is destroyed when the last that holds it is gone.
    audio: Option<Audio>,
    instance: PluginInstance<Handlers>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new(&linked_entry())
    }
}

impl Host {
    /// A new instance.
    pub fn new(entry: &PluginEntry) -> Self {
        let info = HostInfo::new("test", "test", "", "1").expect("no NUL");
        let id = c"org.wavenet-instrument.wavenet";
        let instance =
            PluginInstance::new(|_| Asked::default(), |_| Told, entry, id, &info).expect("created");
        Self { audio: None, instance }
    }

    fn extension<E>(&mut self) -> E
    where
        E: clack_host::extensions::Extension<
                ExtensionSide = clack_host::extensions::PluginExtensionSide,
            >,
    {
        self.instance.plugin_handle().get_extension().expect("the extension is there")
    }

    /// Tells whether rendering to a file; the plugin hears of it when activated.
    pub fn set_offline(&mut self, offline: bool) {
        let render: PluginRender = self.extension();
        let mode = if offline { RenderMode::Offline } else { RenderMode::Realtime };
        render.set(&self.instance.plugin_handle(), mode).expect("the mode is known");
    }

    /// Activates, and starts processing. What was active ends.
    pub fn activate(&mut self, rate_hz: f64, max_block: usize) -> &mut Audio {
        self.deactivate();
        let configuration = PluginAudioConfiguration {
            sample_rate: rate_hz,
            min_frames_count: 1,
            max_frames_count: max_block as u32,
        };
        let stopped = self.instance.activate(|_, _| (), configuration).expect("it activates");
        let mut audio = Audio {
            processor: stopped.into(),
            ports: AudioPorts::with_capacity(2, 1),
            channels: [vec![0.0; max_block], vec![0.0; max_block]],
            events: EventBuffer::with_capacity(256),
            status: ProcessStatus::Continue,
        };
        audio.start();
        self.audio.insert(audio)
    }

    /// The audio thread's half.
    pub fn audio(&mut self) -> &mut Audio {
        self.audio.as_mut().expect("it is active")
    }

    /// Gives the audio thread's half away.
    pub fn take_audio(&mut self) -> Audio {
        self.audio.take().expect("it is active")
    }

    /// Takes it back.
    pub fn give_audio(&mut self, audio: Audio) {
        self.audio = Some(audio);
    }

    /// Stops and deactivates, if it is active.
    pub fn deactivate(&mut self) {
        if let Some(audio) = self.audio.take() {
            self.instance.deactivate(audio.processor.into_stopped());
        }
    }

    /// The latency that the plugin tells, in frames.
    pub fn latency(&mut self) -> usize {
        let latency: PluginLatency = self.extension();
        latency.get(&self.instance.plugin_handle()) as usize
    }

    /// What a phrase sounds like, the latency taken off.
    pub fn bounce(&mut self, phrase: &[(u64, Happening)], frames: usize, block: usize) -> Vec<f32> {
        let latency = self.latency();
        self.audio().play(phrase, latency + frames, block).split_off(latency)
    }

    /// Times that the plugin asked to be activated anew. nice-plug itself does so at each activation
    /// that changes the latency.
    pub fn restarts(&self) -> u32 {
        self.instance.access_shared_handler(|asked: &Asked| asked.restarts.load(Ordering::Relaxed))
    }

    /// The state as the plugin saves it.
    pub fn save(&mut self) -> Vec<u8> {
        let state: PluginState = self.extension();
        let mut bytes = Vec::new();
        state.save(&self.instance.plugin_handle(), &mut bytes).expect("it saves");
        bytes
    }

    /// Loads a state; whether the plugin took it.
    pub fn load(&mut self, bytes: &[u8]) -> bool {
        let state: PluginState = self.extension();
        state.load(&self.instance.plugin_handle(), &mut &bytes[..]).is_ok()
    }

    /// The parameters: id, name, and the lowest and highest value.
    pub fn parameters(&mut self) -> Vec<(ClapId, String, f64, f64)> {
        let params: PluginParams = self.extension();
        let plugin = self.instance.plugin_handle();
        let mut buffer = ParamInfoBuffer::new();
        (0..params.count(&plugin))
            .map(|index| {
                let info = params.get_info(&plugin, index, &mut buffer).expect("a parameter");
                let name = String::from_utf8_lossy(info.name).into_owned();
                (info.id, name, info.min_value, info.max_value)
            })
            .collect()
    }

    /// A parameter's change to what a user would type.
    pub fn set(&mut self, name: &str, text: &str) -> Happening {
        let all = self.parameters();
        let id = all.iter().find(|parameter| parameter.1 == name).expect("its name is known").0;
        let params: PluginParams = self.extension();
        let text = CString::new(text).expect("no NUL");
        let value = params.text_to_value(&self.instance.plugin_handle(), id, &text);
        Happening::Set { id, value: value.expect("a value") }
    }

    /// A parameter's value as a user reads it.
    pub fn shown(&mut self, name: &str) -> String {
        let all = self.parameters();
        let id = all.iter().find(|parameter| parameter.1 == name).expect("its name is known").0;
        let params: PluginParams = self.extension();
        let plugin = self.instance.plugin_handle();
        let value = params.get_value(&plugin, id).expect("a value");
        let mut text = [0; 256];
        let text = params.value_to_text(&plugin, id, value, &mut text).expect("a text");
        String::from_utf8_lossy(text).into_owned()
    }

    /// Parameters without audio: while active on the audio thread, else on the main thread.
    pub fn flush(&mut self, changes: &[Happening]) {
        if let Some(audio) = &mut self.audio {
            return audio.flush(changes);
        }
        let params: PluginParams = self.extension();
        let mut events = EventBuffer::new();
        changes.iter().for_each(|change| change.push(0, &mut events));
        let mut plugin = self.instance.inactive_plugin_handle().expect("it is not active");
        params.flush(&mut plugin, &events.as_input(), &mut OutputEvents::void());
    }
}
