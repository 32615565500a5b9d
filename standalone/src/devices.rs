//! `wavenet devices`: what `wavenet play` can play through, what it can listen to, and the GPU.

use anyhow::Result;
use serde::Serialize;
use wavenet_engine::cuda;

use crate::cli::DevicesArgs;
use crate::play::{device, midi_input};

#[derive(Debug, Serialize)]
struct Devices {
    hosts: Vec<Host>,
    midi_inputs: Vec<String>,
    /// The GPU, or why there is none.
    cuda: String,
}

/// A sound system.
#[derive(Debug, Serialize)]
struct Host {
    name: &'static str,
    outputs: Vec<Output>,
}

#[derive(Debug, Serialize)]
struct Output {
    name: String,
    id: String,
    default: bool,
    rate_hz: u32,
    channels: u16,
    formats: Vec<String>,
}

/// Lists the devices of this machine. That there is none is no error.
///
/// # Errors
/// If the list cannot be written as JSON.
pub fn devices(args: &DevicesArgs) -> Result<String> {
    device::quieten();
    let devices =
        Devices { hosts: hosts(), midi_inputs: midi_input::names(), cuda: cuda::describe() };
    if args.json {
        return Ok(serde_json::to_string_pretty(&devices)?);
    }
    Ok(devices.list())
}

fn hosts() -> Vec<Host> {
    let outputs = |host: &cpal::Host| {
        device::outputs(host)
            .into_iter()
            .map(|listed| Output {
                rate_hz: listed.config.sample_rate(),
                channels: listed.config.channels(),
                name: listed.name,
                id: listed.id,
                default: listed.is_default,
                formats: listed.formats,
            })
            .collect()
    };
    device::hosts()
        .into_iter()
        .map(|id| {
            let host = cpal::host_from_id(id);
            Host { name: id.name(), outputs: host.map_or(Vec::new(), |host| outputs(&host)) }
        })
        .collect()
}

impl Devices {
    fn list(&self) -> String {
        let mut lines = vec!["Outputs:".to_owned()];
        for host in &self.hosts {
            for output in &host.outputs {
                let Output { name, id, rate_hz, channels, formats, .. } = output;
                let mark = if output.default { '*' } else { ' ' };
                let plural = if *channels == 1 { "" } else { "s" };
                lines.push(format!(
                    "{mark} {}: {name} [{id}], {rate_hz} Hz, {channels} channel{plural}, {}",
                    host.name,
                    formats.join(" ")
                ));
            }
        }
        if self.hosts.iter().all(|host| host.outputs.is_empty()) {
            let names: Vec<&str> = self.hosts.iter().map(|host| host.name).collect();
            lines.push(format!("  none (looked for {})", names.join(" and ")));
        }
        lines.push("MIDI inputs:".into());
        lines.extend(self.midi_inputs.iter().map(|name| format!("  {name}")));
        if self.midi_inputs.is_empty() {
            lines.push("  none".into());
        }
        lines.push(format!("GPU:\n  cuda: {}", self.cuda));
        if self.hosts.iter().flat_map(|host| &host.outputs).any(|output| output.default) {
            lines.push("* the default of its sound system".into());
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_at_a_glance() {
        let output = |name: &str, default, channels| Output {
            name: name.into(),
            id: "hw:0".into(),
            default,
            rate_hz: 44_100,
            channels,
            formats: vec!["f32".into(), "i16".into()],
        };
        let outputs = vec![output("Speaker", true, 2), output("Horn", false, 1)];
        let devices = Devices {
            hosts: vec![Host { name: "ALSA", outputs }],
            midi_inputs: vec!["Keystation".into()],
            cuda: "Card".into(),
        };
        let expected = "\
Outputs:
* ALSA: Speaker [hw:0], 44100 Hz, 2 channels, f32 i16
  ALSA: Horn [hw:0], 44100 Hz, 1 channel, f32 i16
MIDI inputs:
  Keystation
GPU:
  cuda: Card
* the default of its sound system";
        assert_eq!(devices.list(), expected);
        let hosts = ["ALSA", "JACK"].map(|name| Host { name, outputs: vec![] }).into();
        let none = Devices { hosts, midi_inputs: vec![], cuda: "not available (x)".into() };
        let expected = "Outputs:\n  none (looked for ALSA and JACK)\nMIDI inputs:\n  none\n\
            GPU:\n  cuda: not available (x)";
        assert_eq!(none.list(), expected);
    }
}
