"""Listens to an instrument with independent ears, and says whether it is in tune, clean and alive.

    listen.py PLAYER [--model FILE] [--recordings DIR] [--quick]

PLAYER is the built program `wavenet`; `wavenet-trainer` lies beside it. First the ears prove themselves
on sounds of known answer (`ears_proof.py`). Run it by `./run peers listen`.
"""

import argparse
import concurrent.futures
import csv
import pathlib
import sys
import time

import numpy as np

import ears
import ears_proof
from instrument import NOTE_OFF_S, RELEASE_MS, Failure, Player, held_out_bits, recordings, resampled

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOWEST, HIGHEST = 33, 96  # A1 to C7: where the ears are proved
VELOCITIES = (40, 110)
QUICK_KEYS = (33, 41, 49, 57, 64, 71, 78, 86, 96)
PICTURE_KEYS = (33, 48, 57, 72, 84)
HELD_OUT = (51, 66, 81)  # D#3, F#4, A5
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
# Above this share of the model's rate its resamplers fade.
BAND = 0.45


def name(key):
    return f"{NAMES[key % 12]}{key // 12 - 1}"


def read(sound, key, limit_hz, until_s, note_off_s=None):
    """All that the ears hear in one note; a recording has no note-off."""
    expected_hz = ears_proof.key_hz(key)
    loudest_db = float(ears.level_db(sound).max())
    reading = {"key": key, "level_db": loudest_db, "clipped": ears.clipped(sound)}
    if loudest_db < ears.SILENCE_DB:
        return reading | {"silent": True, "voiced": 0.0, "cents": None, "hnr_db": -90.0}
    begins = ears.onset(sound)
    part = ears.sounding(sound, begins + 0.03, note_off_s or begins + until_s)
    heard_hz, voiced = ears.pitch(part)
    cents = None if heard_hz is None else float(ears.cents(heard_hz, expected_hz))
    near_hz = heard_hz if cents is not None and abs(cents) < 60 else expected_hz
    tone = ears.harmonicity(sound, begins, near_hz, limit_hz, until_s)
    reading |= {"silent": False, "voiced": voiced, "cents": cents, "onset_ms": 1000 * begins}
    reading |= {"hnr_db": tone.hnr_db, "inharmonicity": tone.inharmonicity}
    reading |= {"centroid_hz": ears.centroid_hz(sound, begins, limit_hz)}
    if note_off_s is not None:
        reading["decay_s"] = ears.decay(sound, note_off_s)
    return reading


def read_recording(recording, limit_hz):
    return read(recording.sound(), recording.key, limit_hz, recording.until_s())


def read_note(player, key, velocity, seed, limit_hz, until_s):
    reading = read(player.note(key, velocity, seed), key, limit_hz, until_s, NOTE_OFF_S)
    return reading | {"velocity": velocity, "seed": seed}


def likeness(player, corpus, seeds, limit_hz):
    """Of each held-out recording: the distance of the model's notes, and of its neighbours resampled."""
    for recording in corpus:
        if recording.key not in HELD_OUT:
            continue
        others = [r for r in corpus if r.key not in HELD_OUT and r.velocity == recording.velocity]
        nearest = min(abs(r.key - recording.key) for r in others)
        neighbours = [r for r in others if abs(r.key - recording.key) == nearest]
        truth = from_onset(recording.sound())

        def distance(sound, truth=truth):
            return ears.log_spectral_distance(from_onset(sound), truth, limit_hz)

        notes = [player.note(recording.key, recording.velocity, seed) for seed in seeds]
        yield recording, np.mean([distance(note) for note in notes]), np.mean(
            [distance(resampled(r, recording.key)) for r in neighbours]
        )


def from_onset(sound):
    return sound[int(ears.onset(sound) * ears.RATE) :]


# The table ---------------------------------------------------------------------------------------


class Table:
    """Rows of what is measured, the goal, and the verdict."""

    def __init__(self):
        self.rows = []

    def row(self, measure, goal, measured, passes):
        verdict = {True: "ok", False: "FAILS", None: "-"}[None if passes is None else bool(passes)]
        self.rows.append((measure, goal, measured, verdict))

    def text(self):
        rows = [("measure", "goal", "measured", "verdict"), *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
        return "\n".join([lines[0], "-|-".join("-" * width for width in widths), *lines[1:]])

    def fails(self):
        return any(row[3] == "FAILS" for row in self.rows)


def share(flags):
    return 100 * np.mean(list(flags))


def tabulate_notes(table, notes):
    tuned = [note["cents"] for note in notes if note["cents"] is not None]
    off = np.abs(tuned) if tuned else np.array([1200.0])
    table.row("tuning, median", "5 cents", f"{np.median(off):.1f} cents", np.median(off) <= 5)
    near = 100 * np.sum(off <= 15) / len(notes)
    table.row("tuning, within 15 cents", "95 %", f"{near:.1f} %, worst {off.max():.0f} cents", near >= 95)
    bad = {
        "silent": [note["silent"] for note in notes],
        "noise-like": [not note["silent"] and note["voiced"] < 0.5 for note in notes],
        "clipped": [note["clipped"] for note in notes],
    }
    counts = ", ".join(f"{sum(flags)} {what}" for what, flags in bad.items())
    table.row("silent, noise-like, clipped notes", "none", counts, not any(map(any, bad.values())))
    lack = np.array([note["recorded_hnr_db"] - note["hnr_db"] for note in notes])
    measured = f"{share(lack <= 6):.1f} % of notes; median {np.median(lack):.1f} dB less, worst {lack.max():.1f}"
    table.row("harmonic-to-noise ratio, 0.1-1 s, within 6 dB", "95 %", measured, share(lack <= 6) >= 95)
    late = np.array([note.get("onset_ms", np.inf) for note in notes])
    table.row("onset after note-on", "10 ms", f"median {np.median(late):.1f}, worst {late.max():.1f} ms", late.max() <= 10)
    decays = [np.inf if note.get("decay_s") is None else 1000 * note["decay_s"] for note in notes]
    measured = f"median {np.median(decays):.0f}, worst {max(decays):.0f} ms"
    table.row("decay to -40 dB after note-off", f"{RELEASE_MS} ms", measured, max(decays) <= RELEASE_MS)
    brighter = share(rises(notes))
    table.row("centroid rises with velocity", "95 %", f"{brighter:.1f} %", brighter >= 95)


def rises(notes):
    """For every key and seed: whether the harder note is the brighter one."""
    places = {(n["key"], n["seed"], n["velocity"]): n.get("centroid_hz", np.nan) for n in notes}
    soft, hard = VELOCITIES
    for key, seed, velocity in places:
        if velocity == soft:
            yield places[key, seed, hard] > places[key, seed, soft]


def print_readings(notes):
    print("key  vel seed | cents voiced | HNR recorded dB | onset decay ms | centroid Hz")
    for note in notes:
        cents = "   -  " if note["cents"] is None else f"{note['cents']:+6.1f}"
        decay = "never" if note.get("decay_s") is None else f"{1000 * note['decay_s']:5.0f}"
        print(
            f"{name(note['key']):<4} {note['velocity']:>3} {note['seed']:>4} | {cents} {note['voiced']:5.2f}"
            f" | {note['hnr_db']:6.1f} {note['recorded_hnr_db']:6.1f} | {note.get('onset_ms', np.inf):6.1f} {decay}"
            f" | {note.get('centroid_hz', np.nan):6.0f}" + (" clipped" if note["clipped"] else "")
        )


def write_csv(path, notes):
    columns = list(dict.fromkeys(column for note in notes for column in note))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(notes)


# One after the other -----------------------------------------------------------------------------


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("player", metavar="PLAYER", help="the built program wavenet")
    parser.add_argument("--model", metavar="FILE", help="default: the built-in piano")
    parser.add_argument("--recordings", metavar="DIR", default=str(ROOT / "../shared/data/piano-kw"))
    parser.add_argument("--evaluation-model", metavar="FILE", help="trained without D#3, F#4 and A5")
    parser.add_argument("--float-model", metavar="FILE", help="the model before its export to int8")
    parser.add_argument("--quick", action="store_true", help="9 keys, one seed")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes [default: 1]")
    parser.add_argument("--verbose", action="store_true", help="a line for every note")
    parser.add_argument("--csv", metavar="FILE", help="write every reading")
    parser.add_argument("--pictures", metavar="DIR", help="draw recorded beside generated notes")
    return parser.parse_args()


def keys_of(player, quick):
    """The keys to listen to: those of a piano's middle that the model has recordings around."""
    recipe = player.inspect()["conditioning"]
    recorded = recipe.get("keys") if isinstance(recipe, dict) else None
    if not recorded:
        raise Failure("this model knows no notes: there is no tuning to listen to")
    low, high = max(LOWEST, recorded[0]), min(HIGHEST, recorded[-1])
    keys = [key for key in range(low, high + 1)]
    if quick and len(keys) > len(QUICK_KEYS):
        keys = [key for key in QUICK_KEYS if key in keys] if len(keys) == 64 else keys[:: -(-len(keys) // 9)]
    return keys


def listen(options):
    began = time.monotonic()
    player = Player(options.player, options.model)
    trainer = str(pathlib.Path(options.player).with_name("wavenet-trainer"))
    limit_hz = BAND * player.inspect()["sample_rate_hz"]
    keys, seeds = keys_of(player, options.quick), (1,) if options.quick else (1, 2, 3)
    corpus = recordings(trainer, options.recordings)

    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        nearest = {(k, v): min(corpus, key=lambda r: r.distance(k, v)) for k in keys for v in VELOCITIES}
        used = sorted(set(nearest.values()), key=lambda r: (r.key, r.velocity))
        recorded = dict(zip(used, pool.map(read_recording, used, [limit_hz] * len(used))))
        jobs = {
            (k, v, s): pool.submit(read_note, player, k, v, s, limit_hz, nearest[k, v].until_s())
            for (k, v) in nearest
            for s in seeds
        }
        notes = []
        for (key, velocity, _), job in jobs.items():
            notes.append(job.result() | {"recorded_hnr_db": recorded[nearest[key, velocity]]["hnr_db"]})
            if sys.stderr.isatty():
                print(f"\r{len(notes)} of {len(jobs)} notes", end="", file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)

    table = Table()
    tabulate_notes(table, notes)
    tabulate_likeness(table, options, corpus, seeds, limit_hz)
    tabulate_bits(table, options, trainer)
    percent = 100 / player.bench(8)
    table.row("8 voices at the model's rate", "25 % of a core", f"{percent:.1f} %", percent <= 25)

    if options.verbose:
        print_readings(notes)
    if options.pictures:
        draw_pictures(options.pictures, player, corpus, limit_hz)
    if options.csv:
        write_csv(options.csv, notes)
    what = f"{len(notes)} notes, {name(keys[0])} to {name(keys[-1])}, velocities 40 and 110"
    off = np.array([reading["cents"] for reading in recorded.values() if reading["cents"] is not None])
    print(f"{options.model or 'built-in piano'}: {what}; {time.monotonic() - began:.0f} s")
    print(f"(the {len(used)} recordings beside them: median {np.median(np.abs(off)):.1f} cents off, "
          f"{share(np.abs(off) <= 15):.0f} % within 15)")
    print(table.text())
    return table


def draw_pictures(folder, player, corpus, limit_hz):
    """A picture of each loudness layer: a few recordings beside what the model plays."""
    import pictures

    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    for velocity in VELOCITIES:
        chosen = {min(corpus, key=lambda r: r.distance(key, velocity)) for key in PICTURE_KEYS}
        notes = [
            (f"{name(r.key)}, velocity {r.velocity}", r.sound(), player.note(r.key, r.velocity, 1))
            for r in sorted(chosen, key=lambda r: r.key)
        ]
        pictures.draw(f"{folder}/velocity-{velocity}.png", notes, limit_hz)


def tabulate_likeness(table, options, corpus, seeds, limit_hz):
    measure = "held-out keys: log-spectral distance"
    if options.evaluation_model is None:
        table.row(measure, "a sampler's", "not measured: no --evaluation-model", None)
        return
    player = Player(options.player, options.evaluation_model)
    found = list(likeness(player, corpus, seeds, limit_hz))
    if not found:
        table.row(measure, "a sampler's", "not measured: no D#3, F#4 or A5 among the recordings", None)
        return
    if options.verbose:
        for recording, ours, sampler in found:
            print(f"{recording.path.name}: model {ours:.2f} dB, neighbours resampled {sampler:.2f} dB")
    ours, sampler = (np.mean([entry[column] for entry in found]) for column in (1, 2))
    table.row(measure, f"{sampler:.2f} dB, a sampler's", f"{ours:.2f} dB", ours <= sampler)


def tabulate_bits(table, options, trainer):
    model = options.model or str(ROOT / "models/piano.safetensors")
    exact = held_out_bits(trainer, options.float_model or model, options.recordings, "f32")
    int8 = held_out_bits(trainer, model, options.recordings, "int8")
    measured = f"f32 {exact:.4f}, int8 {int8:.4f}"
    table.row("bits a sample on held-out files", "int8 within 0.01", measured, int8 - exact <= 0.01)


def main():
    options = arguments()
    try:
        print(f"the ears, on sounds of known answer: {ears_proof.prove()}", flush=True)
        table = listen(options)
    except (Failure, AssertionError) as error:
        print(f"listen.py: {error}", file=sys.stderr)
        return 2
    return 1 if table.fails() else 0


if __name__ == "__main__":
    sys.exit(main())
