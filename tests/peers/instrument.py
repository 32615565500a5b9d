"""What is listened to: a player's notes, and the recordings that its model was trained on."""

import dataclasses
import functools
import json
import pathlib
import resource
import struct
import subprocess
import tempfile

import librosa
import numpy as np
import soundfile

import ears
from ears import RATE

NOTE_OFF_S = 1.2
RELEASE_MS = 150
# What the trainer takes for recordings whose names tell none.
UNNAMED_VELOCITY = 100


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
    """The program `wavenet`, with a model (None: the built-in instruments)."""

    program: str
    model: str | None
    sound: str | None = None  # one of the model's classes
    temperature: float | None = None

    def options(self):
        return ["--model", self.model] if self.model else []

    def inspect(self):
        return json.loads(call(self.program, "inspect", "--json", *self.options()))

    def load(self, voices, rate_hz, seconds=8):
        """Share of a core that held notes take at the model's rate: processor time, the best of three.

        Processor time, and not the clock's, so that what else runs matters little.
        """
        with tempfile.TemporaryDirectory() as folder:
            chord = pathlib.Path(folder) / "chord.mid"
            chord.write_bytes(chord_midi(range(60, 60 + voices), seconds))
            command = [self.program, "render", "--midi", chord, "--voices", voices, "--rate", rate_hz]
            command += [*self.options(), "--out", f"{folder}/chord.wav"]
            shares = []
            for _ in range(3):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                call(*command)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                shares.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / seconds)
        return min(shares)

    def note(self, key, velocity, seed, note_off_s=NOTE_OFF_S):
        """One note, struck at 0, released at `note_off_s`, until the end of its release."""
        with tempfile.TemporaryDirectory() as folder:
            wav = pathlib.Path(folder) / "note.wav"
            command = [self.program, "render", "--note", key, "--velocity", velocity, "--seed", seed]
            command += [
                "--rate",
                RATE,
                "--release-ms",
                RELEASE_MS,
                "--seconds",
                note_off_s + RELEASE_MS / 1000,
            ]
            command += ["--class", self.sound] if self.sound else []
            command += [] if self.temperature is None else ["--temperature", self.temperature]
            call(*command, *self.options(), "--out", wav)
            return soundfile.read(wav)[0]


@dataclasses.dataclass(frozen=True)
class Recording:
    path: pathlib.Path
    key: int
    velocity: int
    # Of a note cut from a take: where it lies. A whole file has no length.
    begin_s: float = 0.0
    length_s: float | None = None

    @functools.cache
    def sound(self):
        place = {"offset": self.begin_s, "duration": self.length_s}
        return librosa.load(self.path, sr=RATE, mono=True, **place)[0].astype(np.float64)

    def distance(self, key, velocity):
        """In semitones; a whole loudness layer is farther than a few keys."""
        return abs(self.key - key) + abs(self.velocity - velocity) / 12

    def until_s(self):
        """How much after the onset can be compared with a note."""
        return float(np.clip(len(self.sound()) / RATE - ears.onset(self.sound()) - 0.05, 0.3, 1.0))


def chord_midi(keys, seconds):
    """A MIDI file of keys held together; a tick is 1/960 s."""
    events = b"".join(bytes([0, 0x90, key, 100]) for key in keys)
    ticks = int(960 * seconds)
    delta = bytes([0x80 | ticks >> 14, 0x80 | ticks >> 7 & 0x7F, ticks & 0x7F])
    events += delta + bytes([0x80, keys[0], 0])
    events += b"".join(bytes([0, 0x80, key, 0]) for key in keys[1:]) + bytes([0, 0xFF, 0x2F, 0])
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480)
    return header + b"MTrk" + struct.pack(">I", len(events)) + events


def recordings(trainer, folder, sound=None):
    """The recordings of a folder whose notes are known, as the trainer reads their names (or its CSV).

    Of a model with classes: those of one `sound`, or of none.
    """
    with tempfile.TemporaryDirectory() as prepared:
        call(trainer, "prepare", "--data", folder, "--out", f"{prepared}/prepared")
        index = json.loads(pathlib.Path(f"{prepared}/prepared/index.json").read_text())
    found = []
    for entry in index["entries"]:
        if entry["key"] is None or sound and entry["label"] not in (None, sound):
            continue
        file, place = entry["name"], {}
        if entry.get("at_frame") is not None:
            file = file.rsplit(" @", 1)[0]
            place["begin_s"] = entry["at_frame"] / index["rate_hz"]
            place["length_s"] = entry["frames"] / index["rate_hz"]
        velocity = entry["velocity"] or UNNAMED_VELOCITY
        found.append(Recording(pathlib.Path(folder) / file, entry["key"], velocity, **place))
    if not found:
        raise Failure(f"{folder}: no note is known; call the files A4.wav or A4_100.wav, or write a labels.csv")
    return found


def held_out_bits(trainer, model, folder, dtype, sound=None):
    """Bits a sample of the recordings that were set aside; recordings without classes are of `sound`."""
    folder = pathlib.Path(folder).resolve()
    if sound and not (folder / sound).is_dir():
        with tempfile.TemporaryDirectory() as labelled:
            (pathlib.Path(labelled) / sound).symlink_to(folder)
            return held_out_bits(trainer, model, labelled, dtype, sound)
    options = ["--split", "valid", "--dtype", dtype, "--threads", 1, "--json"]
    answer = call(trainer, "eval", "--model", model, "--data", folder, *options)
    return json.loads(answer.strip().splitlines()[-1])["bits_per_sample"]


def resampled(recording, key):
    """What a sampler would play for a key: the recording faster or slower."""
    ratio = 2 ** ((key - recording.key) / 12)
    return librosa.resample(recording.sound(), orig_sr=RATE * ratio, target_sr=RATE)
