"""What is listened to: a player's notes, and the recordings that its model was trained on."""

import dataclasses
import functools
import json
import pathlib
import subprocess
import tempfile

import librosa
import numpy as np
import soundfile

import ears
from ears import RATE

NOTE_OFF_S = 1.2
RELEASE_MS = 150


class Failure(Exception):
    """One line for the user."""


def call(*command):
    """Standard output of a program."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    except OSError as error:
        raise Failure(f"{command[0]} cannot be started ({error}); build it with ./run demo") from error
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))} failed: {done.stderr.strip()}")
    return done.stdout


@dataclasses.dataclass(frozen=True)
class Player:
    """The program `wavenet`, with a model (None: the built-in piano)."""

    program: str
    model: str | None

    def options(self):
        return ["--model", self.model] if self.model else []

    def inspect(self):
        return json.loads(call(self.program, "inspect", "--json", *self.options()))

    def bench(self, voices, seconds=1.0):
        """Times real time, the best of three: whatever else runs only slows it down."""
        command = [self.program, "bench", "--json", "--voices", voices, "--seconds", seconds, *self.options()]
        return max(json.loads(call(*command))["realtime_factor"] for _ in range(3))

    def note(self, key, velocity, seed, note_off_s=NOTE_OFF_S):
        """One note, struck at 0, released at `note_off_s`, until the end of its release."""
        with tempfile.TemporaryDirectory() as folder:
            wav = pathlib.Path(folder) / "note.wav"
            command = [self.program, "render", "--note", key, "--velocity", velocity, "--seed", seed]
            command += ["--rate", RATE, "--release-ms", RELEASE_MS, "--seconds", note_off_s + RELEASE_MS / 1000]
            call(*command, *self.options(), "--out", wav)
            return soundfile.read(wav)[0]


@dataclasses.dataclass(frozen=True)
class Recording:
    path: pathlib.Path
    key: int
    velocity: int

    @functools.cache
    def sound(self):
        return librosa.load(self.path, sr=RATE, mono=True)[0].astype(np.float64)

    def distance(self, key, velocity):
        """In semitones; a whole loudness layer is farther than a few keys."""
        return abs(self.key - key) + abs(self.velocity - velocity) / 12

    def until_s(self):
        """How much after the onset can be compared with a note."""
        return float(np.clip(len(self.sound()) / RATE - ears.onset(self.sound()) - 0.05, 0.3, 1.0))


def recordings(trainer, folder):
    """The labelled recordings of a folder, as the trainer reads their names (or its CSV)."""
    with tempfile.TemporaryDirectory() as prepared:
        call(trainer, "prepare", "--data", folder, "--out", f"{prepared}/prepared")
        index = json.loads(pathlib.Path(f"{prepared}/prepared/index.json").read_text())
    found = [
        Recording(pathlib.Path(folder) / entry["name"], entry["key"], entry["velocity"])
        for entry in index["entries"]
        if entry["key"] is not None
    ]
    if not found:
        raise Failure(f"{folder}: no file's name says its note; call them A4.wav or A4_100.wav")
    return found


def held_out_bits(trainer, model, folder, dtype):
    """Bits a sample of the recordings that were set aside."""
    options = ["--split", "valid", "--dtype", dtype, "--threads", 1, "--json"]
    answer = call(trainer, "eval", "--model", model, "--data", folder, *options)
    return json.loads(answer.strip().splitlines()[-1])["bits_per_sample"]


def resampled(recording, key):
    """What a sampler would play for a key: the recording faster or slower."""
    ratio = 2 ** ((key - recording.key) / 12)
    return librosa.resample(recording.sound(), orig_sr=RATE * ratio, target_sr=RATE)
