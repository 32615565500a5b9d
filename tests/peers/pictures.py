"""Spectrograms of recorded beside generated notes, at one scale, to be told apart at a glance (or not)."""

import librosa
import matplotlib
import numpy as np

import ears
from ears import RATE

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend is chosen first)

SECONDS = 1.1
RANGE_DB = 80
# Long enough to tell the partials of A1 apart.
WINDOW = 4096


def spectrogram(sound, limit_hz):
    """Levels below the loudest, in dB: `[frequencies, frames]`, from 50 ms before the onset."""
    before, frames = int(0.05 * RATE) + WINDOW // 2, int(SECONDS * RATE)
    begin = int(ears.onset(sound) * RATE)
    part = np.pad(sound, (before, frames))[begin:][: frames + before + WINDOW // 2]
    power = np.abs(librosa.stft(part, n_fft=WINDOW, hop_length=256, center=False)) ** 2
    power = power[: int(limit_hz * WINDOW / RATE)]
    return ears.decibels(power) - ears.decibels(power.max())


def draw(path, notes, limit_hz):
    """One column a note, recorded above generated. `notes` are (title, recorded, generated)."""
    size = (2.6 * len(notes) + 1.4, 6.4)
    figure, axes = plt.subplots(
        2, len(notes), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for column, (title, *sounds) in enumerate(notes):
        for axis, sound in zip(axes[:, column], sounds):
            image = axis.imshow(
                spectrogram(sound, limit_hz),
                origin="lower",
                aspect="auto",
                extent=(-0.05, SECONDS, 0, limit_hz / 1000),
                vmin=-RANGE_DB,
                vmax=0,
                cmap="magma",
            )
        axes[0, column].set_title(title)
        axes[1, column].set_xlabel("time, s")
    axes[0, 0].set_ylabel("recorded\nfrequency, kHz")
    axes[1, 0].set_ylabel("generated\nfrequency, kHz")
    figure.colorbar(image, ax=axes, label="dB below the note's loudest", aspect=40)
    figure.savefig(path, dpi=80)
    plt.close(figure)
