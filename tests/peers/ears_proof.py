"""The ears prove themselves: sounds whose answer is known, before any is believed about others."""

import numpy as np

import ears
from ears import RATE

LIMIT_HZ = 7200.0
# Stiffness of the strings of a piano, about, by key.
INHARMONICITY = {33: 4e-4, 45: 2e-4, 57: 3e-4, 69: 7e-4, 81: 2e-3, 96: 4e-3}


class Deaf(Exception):
    """An ear read a known sound wrong."""


def demand(holds, otherwise):
    if not holds:
        raise Deaf(otherwise)


def key_hz(key):
    return 440.0 * 2 ** ((key - 69) / 12)


def tone(f0_hz, seconds=1.5, inharmonicity=0.0, decay_s=0.5, brightness=1.0, seed=1):
    """Partials below LIMIT_HZ, falling by their number, the higher ones decaying faster."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    sound = np.zeros(len(t))
    for k in range(1, 200):
        f = k * f0_hz * np.sqrt(1 + inharmonicity * k * k)
        if f > 0.97 * LIMIT_HZ:
            break
        phase = rng.uniform(0, 2 * np.pi)
        falls = np.exp(-t * (1 + f / 5000) / decay_s)
        sound += np.sin(2 * np.pi * f * t + phase) * falls * k**-brightness
    return sound / np.abs(sound).max() / 2


def noise(seconds, seed=2):
    """White up to LIMIT_HZ."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(int(seconds * RATE)))
    spectrum[np.fft.rfftfreq(int(seconds * RATE), 1 / RATE) > LIMIT_HZ] = 0
    return np.fft.irfft(spectrum)


def energy(sound, f0_hz, begin_s=0.1, end_s=1.0):
    """What `harmonicity` should count: from half the pitch to LIMIT_HZ."""
    part = sound[int(begin_s * RATE) : int(end_s * RATE)]
    power = np.abs(np.fft.rfft(part * 1.0)) ** 2
    frequency = np.fft.rfftfreq(len(part), 1 / RATE)
    return np.sum(power[(frequency > 0.5 * f0_hz) & (frequency < LIMIT_HZ)])


def pitch_errors():
    for key in (33, 39.41, 45, 52, 57.77, 64, 69, 74, 81, 88.41, 93, 96):
        f0 = key_hz(key)
        heard, voiced = ears.pitch(tone(f0, 1.0) + 0.003 * noise(1.0))
        demand(voiced > 0.9, f"a tone of {f0:.1f} Hz is not heard as one")
        yield abs(ears.cents(heard, f0))
    demand(ears.pitch(noise(1.0))[1] < 0.5, "noise is heard as a tone")


def hnr_errors():
    for key, inharmonicity in INHARMONICITY.items():
        for decay_s in (0.25, 1.0):
            for wanted_db in (0.0, 10.0, 20.0, 30.0):
                f0 = key_hz(key)
                sound = tone(f0, 1.5, inharmonicity, decay_s)
                hiss = noise(1.5) * np.exp(-np.arange(len(sound)) / RATE / decay_s)
                gain = np.sqrt(energy(sound, f0) / energy(hiss, f0)) * 10 ** (-wanted_db / 20)
                read = ears.harmonicity(sound + gain * hiss, 0.0, f0 * 2 ** (5 / 1200), LIMIT_HZ)
                yield abs(read.hnr_db - wanted_db), (key, decay_s, wanted_db, read)
    read = ears.harmonicity(noise(1.5), 0.0, 220.0, LIMIT_HZ)
    demand(read.hnr_db < -10, "partials are heard in noise")


def onset_errors_ms():
    for key in (33, 57, 96):
        for begins in (0.0, 0.0123, 0.1):
            for attack_ms in (0.5, 5.0):
                sound = tone(key_hz(key), 1.0)
                sound *= np.minimum(np.arange(len(sound)) / (attack_ms / 1000 * RATE), 1)
                # -20 dB of a straight rise lie at a tenth of it.
                expected = begins + 0.1 * attack_ms / 1000
                sound = np.concatenate([np.zeros(int(begins * RATE)), sound])
                sound += 1e-4 * noise(1.2)[: len(sound)]
                yield 1000 * abs(ears.onset(sound) - expected)


def decay_errors_ms():
    for key in (33, 69, 96):
        for fall_db_s in (200.0, 400.0):
            sound = tone(key_hz(key), 1.0, decay_s=5.0)
            after = np.maximum(np.arange(len(sound)) / RATE - 0.6, 0)
            sound *= 10 ** (-fall_db_s * after / 20)
            yield 1000 * abs(ears.decay(sound, 0.6) - 40 / fall_db_s)
    demand(ears.decay(tone(440.0, 1.0), 0.6) is None, "a tone that goes on is heard as ended")


def orders():
    """Readings that are only ever compared."""
    for key in (33, 57, 81):
        f0 = key_hz(key)
        places = [ears.centroid_hz(tone(f0, brightness=b), 0.0, LIMIT_HZ) for b in (2.0, 1.5, 1.0)]
        demand(places == sorted(places), "brighter tones do not have the higher centroid")
        same, other = (tone(f0, seed=seed) + 1e-3 * noise(1.5, seed) for seed in (1, 9))
        near = ears.log_spectral_distance(same, other, LIMIT_HZ)
        far = ears.log_spectral_distance(same, tone(f0 * 2 ** (3 / 12)), LIMIT_HZ)
        duller = ears.log_spectral_distance(same, tone(f0, brightness=2.0), LIMIT_HZ)
        demand(near < min(far, duller), "the same tone is not the nearest")
        demand(ears.log_spectral_distance(same, 0.1 * same, LIMIT_HZ) < 1e-6, "level counts")
    pure = tone(220.0) / np.abs(tone(220.0)).max()
    demand(ears.clipped(np.clip(1.5 * pure, -1, 1)), "a clipped tone is not noticed")
    demand(not ears.clipped(0.9 * pure), "an unclipped tone is called clipped")


def prove():
    """Raises `Deaf` if an ear is wrong; else what each is known to read within."""
    worst = max(pitch_errors())
    demand(worst <= 2, f"pitch is read {worst:.1f} cents wrong")
    hnr, where = max(hnr_errors())
    demand(hnr <= 1, f"the harmonic-to-noise ratio is read {hnr:.1f} dB wrong: {where}")
    late = max(onset_errors_ms())
    demand(late <= 3, f"onsets are read {late:.1f} ms wrong")
    lasts = max(decay_errors_ms())
    demand(lasts <= 10, f"decays are read {lasts:.1f} ms wrong")
    orders()
    return (
        f"pitch within {worst:.1f} cents, harmonic-to-noise ratio within {hnr:.1f} dB, "
        f"onsets within {late:.1f} ms, decays within {lasts:.1f} ms"
    )


if __name__ == "__main__":
    print(prove())
