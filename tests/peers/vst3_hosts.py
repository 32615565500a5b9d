"""Plays the VST3 plugin in a real host, offline, at several rates and block sizes.

    vst3_hosts.py HOST WaveNet.vst3 FOLDER < jobs.json

HOST is pedalboard (which tells the plugin that it renders offline) or dawdreamer (which says it plays in
real time, and runs faster). A job is {"rate", "block", "seconds", "messages": [[bytes, time], ...]}, or
for dawdreamer "notes": [[key, velocity, start, length], ...]. The left and right samples of job N go to
FOLDER/N.f32, interleaved; the latency that the plugin told the host is printed, a line a job.
"""

import json
import sys

import numpy as np


def pedalboard_renderer(path):
    from pedalboard import load_plugin

    # Loading takes seconds (it tries a thousand values of each of the two thousand parameters that
    # VST3 wants for MIDI controllers), so one instance plays everything.
    plugin = load_plugin(path)

    def render(job):
        messages = [(bytes(message), time) for message, time in job["messages"]]
        audio = plugin(
            messages,
            duration=job["seconds"],
            sample_rate=job["rate"],
            buffer_size=job["block"],
        )
        return audio, plugin.reported_latency_samples

    return render


def dawdreamer_renderer(path):
    import dawdreamer

    def render(job):
        engine = dawdreamer.RenderEngine(job["rate"], job["block"])
        plugin = engine.make_plugin_processor("wavenet", path)
        for note in job["notes"]:
            plugin.add_midi_note(*note)
        engine.load_graph([(plugin, [])])
        engine.render(job["seconds"])
        return engine.get_audio(), plugin.get_latency_samples()

    return render


def main():
    host, path, folder = sys.argv[1:]
    renderers = {"pedalboard": pedalboard_renderer, "dawdreamer": dawdreamer_renderer}
    render = renderers[host](path)
    for number, job in enumerate(json.load(sys.stdin)):
        audio, latency = render(job)
        np.ascontiguousarray(audio.T, dtype="<f4").tofile(f"{folder}/{number}.f32")
        print(latency)


main()
