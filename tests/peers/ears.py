"""Readings of one note: pitch, noise between the partials, onset, decay, brightness, likeness.

Sounds are `float [frames]` at RATE, mono; times in seconds, levels in decibels. The pitch is librosa's
pYIN; the rest are a few lines of NumPy each, proved on sounds of known answer by `ears_proof.py`.
"""

import dataclasses

import librosa
import numpy as np

RATE = 48_000
# Softer than this a sound is silent.
SILENCE_DB = -70.0


def decibels(power):
    return 10 * np.log10(np.maximum(power, 1e-20))


def level_db(sound, frames=240):
    """RMS level of each stretch of `frames` (5 ms): `[len(sound) // frames]`."""
    whole = sound[: len(sound) // frames * frames].reshape(-1, frames)
    return decibels(np.mean(whole**2, axis=1))


def onset(sound, threshold_db=-20.0):
    """When the sound begins: the first sample within 20 dB of the loudest of the 0.3 s after it."""
    loud = np.abs(sound)
    begins = int(np.argmax(loud > 0.01 * loud.max()))
    attack = loud[begins : begins + int(0.3 * RATE)].max()
    return int(np.argmax(loud >= attack * 10 ** (threshold_db / 20))) / RATE


def sounding(sound, begins, ends):
    """The part from an onset to a note-off that is within 40 dB of the loudest, at most one second."""
    part = sound[int(begins * RATE) : int(ends * RATE)]
    level = level_db(part)
    heard = np.flatnonzero(level > level.max() - 40)
    return part[: max(min((heard[-1] + 1) * 240, RATE), RATE // 10)]


def decay(sound, note_off, fall_db=40.0):
    """Seconds from a note-off until the sound stays 40 dB below its level just before; None if never.

    What was silent at the note-off, or 60 dB below its own loudest, has decayed already.
    """
    off, around = int(note_off * RATE), RATE // 100
    before = decibels(np.mean(sound[off - RATE // 20 : off] ** 2))
    if before < max(SILENCE_DB, level_db(sound).max() - 60):
        return 0.0
    level = decibels(np.convolve(sound[off:] ** 2, np.ones(around) / around, "same"))
    above = np.flatnonzero(level > max(before - fall_db, SILENCE_DB - 20))
    return None if above[-1] >= len(level) - around // 2 else above[-1] / RATE


def pitch(part):
    """Median f0 in Hz and the voiced share, heard twice: anywhere on the piano, then finely around it.

    pYIN in steps of a cent over seven octaves would take minutes a note.
    """
    settings = {"sr": RATE, "frame_length": 4096, "max_transition_rate": 12}
    coarse, voiced, _ = librosa.pyin(part, fmin=26, fmax=4500, hop_length=1024, resolution=0.2, **settings)
    if not voiced.any():
        return None, 0.0
    middle = np.nanmedian(coarse)
    around = {"fmin": middle * 2 ** (-2 / 12), "fmax": middle * 2 ** (2 / 12)}
    fine, _, _ = librosa.pyin(part, hop_length=512, resolution=0.01, **around, **settings)
    heard = np.nanmedian(fine) if np.isfinite(fine).any() else middle
    return float(heard), float(np.mean(voiced))


def cents(heard_hz, expected_hz):
    return 1200 * np.log2(heard_hz / expected_hz)


def centroid_hz(sound, begins, limit_hz):
    """librosa's spectral centroid of the first half second's mean spectrum, up to `limit_hz`.

    Weighted by amplitude, not by energy: of all 28 pairs of the piano's recordings the harder one has the
    higher, which energy, nearly all of it in two or three partials, does not show.
    """
    spectrum = np.abs(librosa.stft(sound[int(begins * RATE) :][: RATE // 2], n_fft=2048))
    mean = spectrum.mean(axis=1, keepdims=True)
    frequency = librosa.fft_frequencies(sr=RATE, n_fft=2048)
    mean[frequency > limit_hz] = 0
    return float(librosa.feature.spectral_centroid(S=mean, freq=frequency)[0, 0])


def clipped(sound):
    """Whether three samples in a row lie at full scale, or a thousandth of all above 0.95 of it.

    A soft limiter never quite reaches full scale.
    """
    high = np.abs(sound) >= 0.999
    return bool((high[2:] & high[1:-1] & high[:-2]).any() or np.mean(np.abs(sound) > 0.95) > 1e-3)


# The noise between the partials ------------------------------------------------------------------

# Long enough to tell the partials of A1 apart, short enough that a partial hardly decays within.
FRAME_S = 0.3
HALF_WIDTH_HZ = 15.0
PADDING = 4


@dataclasses.dataclass
class Harmonicity:
    hnr_db: float
    first_hz: float
    inharmonicity: float
    partials: int


def blackman_harris(frames):
    """Four terms: side lobes 92 dB down, so that strong partials do not leak into the gaps."""
    phase = 2 * np.pi * np.arange(frames) / frames
    return 0.35875 - 0.48829 * np.cos(phase) + 0.14128 * np.cos(2 * phase) - 0.01168 * np.cos(3 * phase)


def power_spectrum(sound, begin_s, end_s):
    """Energy of a stretch by frequency, summed over overlapping frames, and the width of a bin in Hz.

    Frames reach a quarter of their length beyond either end, where the window hardly hears.
    """
    frames = int(FRAME_S * RATE)
    window = blackman_harris(frames)
    begin = max(int((begin_s - FRAME_S / 4) * RATE), 0)
    last = int((end_s + FRAME_S / 4) * RATE) - frames
    total = 0
    for start in range(begin, max(last, begin) + 1, frames // 4):
        part = sound[start : start + frames]
        part = np.pad(part, (0, frames - len(part)))
        total = total + np.abs(np.fft.rfft(part * window, PADDING * frames)) ** 2
    return total, RATE / (PADDING * frames)


def follow_partials(power, bin_hz, f0_hz, limit_hz, inharmonicity):
    """Places of the partials of a stiff string, f_k = k f1 sqrt(1 + B k^2), followed upwards.

    Each is looked for where the ones below it predict; those that stand out refine f1 and B by least
    squares: (f_k / k)^2 is a straight line in k^2. Returns f1, B, the places in Hz (a partial that does
    not stand out lies where it is predicted) and how many dB they stand out in all.
    """
    level = decibels(power)
    numbers, squares, weights = [0.5], [f0_hz**2], [2.0]
    first2, slope = f0_hz**2, inharmonicity * f0_hz**2
    places, prominence = [], 0.0
    for k in range(1, 400):
        expected = k * np.sqrt(max(first2 + slope * k * k, 1.0))
        if expected > limit_hz:
            break
        reach = min(0.2 * f0_hz, 4.0 + 0.006 * expected) / bin_hz
        gap = 0.5 * f0_hz / bin_hz
        centre = expected / bin_hz
        near = level[int(centre - reach) : int(centre + reach) + 2]
        around = level[int(centre - gap) : int(centre + gap) + 2]
        peak = int(centre - reach) + int(np.argmax(near))
        stands_out = min(level[peak] - np.median(around), 40.0)
        prominence += stands_out
        if stands_out < 15 or level[peak] < max(level[peak - 1], level[peak + 1]):
            places.append(expected)
            continue
        places.append(peak_hz(level, peak, bin_hz))
        numbers.append(k)
        squares.append((places[-1] / k) ** 2)
        weights.append(k)
        if len(numbers) > 2:
            slope, first2 = np.polyfit(np.square(numbers), squares, 1, w=weights)
            slope = np.clip(slope, 0.0, 0.02 * first2)
    return np.sqrt(first2), slope / first2, places, prominence


def peak_hz(level, peak, bin_hz):
    """The top of the parabola through a peak and its neighbours."""
    below, top, above = level[peak - 1 : peak + 2]
    return (peak + 0.5 * (below - above) / (below - 2 * top + above)) * bin_hz


def harmonicity(sound, begins, f0_hz, limit_hz, until_s=1.0):
    """Energy of the partials against all else up to `limit_hz`, from 0.1 s after the onset to `until_s`.

    A partial is what lies within 15 Hz of its true place, less the noise that the gaps beside it
    suggest lies there too. Noise alone reads -30 dB at least.
    """
    power, bin_hz = power_spectrum(sound, begins + 0.1, begins + until_s)
    guesses = [0.0, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2]
    fits = [follow_partials(power, bin_hz, f0_hz, limit_hz, guess) for guess in guesses]
    first_hz, inharmonicity, places, _ = max(fits, key=lambda fit: fit[3])

    half_width = min(HALF_WIDTH_HZ, 0.3 * first_hz)
    edges = [0.5 * first_hz]
    for place in places:
        edges += [max(place - half_width, edges[-1] + bin_hz), place + half_width]
    edges.append(max(limit_hz, edges[-1] + half_width))
    bins = np.round(np.array(edges) / bin_hz).astype(int)
    sums = np.add.reduceat(power, bins)[:-1]
    density = sums[0::2] / np.diff(bins)[0::2]
    hidden = 0.5 * (density[:-1] + density[1:]) * np.diff(bins)[1::2]
    tone = np.sum(sums[1::2] - hidden)
    noise = np.sum(sums[0::2]) + np.sum(hidden)
    hnr_db = float(decibels(max(tone, 1e-3 * noise)) - decibels(noise))
    return Harmonicity(hnr_db, float(first_hz), float(inharmonicity), len(places))


# Likeness ----------------------------------------------------------------------------------------


def log_spectral_distance(a, b, limit_hz, seconds=1.0, floor_db=-60.0):
    """Root mean square difference of two spectrograms in dB, mean over frames and four resolutions.

    Both begin at their onsets and are brought to the same energy; what lies 60 dB below a spectrogram's
    loudest is silence.
    """
    frames = min(len(a), len(b), int(seconds * RATE))
    a, b = (sound[:frames] / np.sqrt(np.sum(sound[:frames] ** 2)) for sound in (a, b))
    distances = []
    for size in (1024, 2048, 4096, 8192):
        heard = int(limit_hz * size / RATE)
        spectra = [np.abs(librosa.stft(x, n_fft=size, hop_length=size // 4))[1:heard] ** 2 for x in (a, b)]
        loudest = decibels(max(spectrum.max() for spectrum in spectra))
        levels = [np.maximum(decibels(spectrum), loudest + floor_db) for spectrum in spectra]
        distances.append(np.mean(np.sqrt(np.mean((levels[0] - levels[1]) ** 2, axis=0))))
    return float(np.mean(distances))
