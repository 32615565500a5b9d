"""What readings of many notes come to: a table of measures, goals and verdicts."""

import csv

import numpy as np

from instrument import RELEASE_MS

VELOCITIES = (40, 110)
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def name(key):
    return f"{NAMES[key % 12]}{key // 12 - 1}"


def share(flags):
    """Of how many per cent something is true."""
    return 100 * np.mean(list(flags))


class Table:
    """Rows of what is measured, the goal, and the verdict."""

    def __init__(self):
        self.rows = []

    def row(self, measure, goal, measured, passes):
        """`passes` None: it was not measured, or there is no goal."""
        verdict = "-" if passes is None else "ok" if passes else "FAILS"
        self.rows.append((measure, goal, measured, verdict))

    def text(self):
        rows = [("measure", "goal", "measured", "verdict"), *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
        return "\n".join([lines[0], "-|-".join("-" * width for width in widths), *lines[1:]])

    def fails(self):
        return any(row[3] == "FAILS" for row in self.rows)


def tabulate_notes(table, notes, loudness_layers):
    """The rows that single notes decide; `notes` are readings by `listen.read_note`."""
    # No pitch at all is an octave off.
    off = np.array([1200.0 if note["cents"] is None else abs(note["cents"]) for note in notes])
    table.row("tuning, median", "5 cents", f"{np.median(off):.1f} cents", np.median(off) <= 5)
    near = share(off <= 15)
    table.row("tuning, within 15 cents", "95 %", f"{near:.1f} %, worst {off.max():.0f} cents", near >= 95)

    bad = {
        "silent": [note["silent"] for note in notes],
        "noise-like": [not note["silent"] and note["voiced"] < 0.5 for note in notes],
        "clipped": [note["clipped"] for note in notes],
    }
    counts = ", ".join(f"{sum(flags)} {what}" for what, flags in bad.items())
    table.row("silent, noise-like, clipped notes", "none", counts, not any(map(any, bad.values())))

    lack = np.array([note["recorded_hnr_db"] - note["hnr_db"] for note in notes])
    clean = share(lack <= 6)
    measured = f"{clean:.1f} %; median {np.median(lack):.1f} dB less than recorded, worst {lack.max():.1f}"
    table.row("harmonic-to-noise ratio, within 6 dB", "95 %", measured, clean >= 95)

    late = np.array([note.get("onset_ms", np.inf) for note in notes])
    measured = f"median {np.median(late):.1f}, worst {late.max():.1f} ms"
    table.row("onset after note-on", "10 ms", measured, late.max() <= 10)

    decays = [np.inf if note.get("decay_s") is None else 1000 * note["decay_s"] for note in notes]
    measured = f"median {np.median(decays):.0f}, worst {max(decays):.0f} ms"
    table.row("decay to -40 dB after note-off", f"{RELEASE_MS} ms", measured, max(decays) <= RELEASE_MS)

    brighter = share(rises(notes))
    if loudness_layers > 1:
        table.row("centroid rises with velocity", "95 %", f"{brighter:.1f} %", brighter >= 95)
    else:
        measured = f"{brighter:.1f} %, recorded at one loudness"
        table.row("centroid rises with velocity", "-", measured, None)


def rises(notes):
    """For every key and seed: whether the harder note is the brighter one."""
    places = {(n["key"], n["seed"], n["velocity"]): n.get("centroid_hz", np.nan) for n in notes}
    soft, hard = VELOCITIES
    for key, seed, velocity in places:
        if velocity == soft:
            yield places[key, seed, hard] > places[key, seed, soft]


def print_readings(notes):
    print("key  vel seed |  cents voiced | HNR, recorded dB | onset decay ms | centroid Hz")
    for note in notes:
        cents = "     -" if note["cents"] is None else f"{note['cents']:+6.1f}"
        decay = "never" if note.get("decay_s") is None else f"{1000 * note['decay_s']:5.0f}"
        print(
            f"{name(note['key']):<4} {note['velocity']:>3} {note['seed']:>4} | {cents} {note['voiced']:6.2f} "
            f"| {note['hnr_db']:6.1f}  {note['recorded_hnr_db']:6.1f} "
            f"   | {note.get('onset_ms', np.inf):5.1f} {decay}    | {note.get('centroid_hz', np.nan):6.0f}"
            + (" clipped" if note["clipped"] else "")
        )


def write_csv(path, notes):
    columns = list(dict.fromkeys(column for note in notes for column in note))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(notes)
