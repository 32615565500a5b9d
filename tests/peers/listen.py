"""Listens to an instrument with independent ears, and says whether it is in tune, clean and alive.

    listen.py PLAYER [--model FILE] [--recordings DIR] [--quick]

PLAYER is the built program `wavenet`; `wavenet-trainer` lies beside it. First the ears prove themselves
on sounds of known answer (`ears_proof.py`). Run it by `./run peers listen`.
"""

import argparse
import concurrent.futures
import dataclasses
import pathlib
import sys
import time

import librosa
import numpy as np

import ears
import ears_proof
from instrument import NOTE_OFF_S, Failure, Player, held_out_bits, recordings, resampled
from verdicts import VELOCITIES, Table, name, print_readings, share, tabulate_notes, write_csv

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOWEST, HIGHEST = 33, 96  # A1 to C7: where the ears are proved
PICTURE_KEYS = (33, 48, 57, 72, 84)
# Above this share of the model's rate its resamplers fade.
BAND = 0.45


def read(sound, key, limit_hz, until_s, note_off_s=None):
    """All that the ears hear in one note; a recording has no note-off."""
    expected_hz = ears_proof.key_hz(key)
    loudest_db = float(ears.level_db(sound).max())
    reading = {"key": key, "level_db": loudest_db, "clipped": ears.clipped(sound)}
    if loudest_db < ears.SILENCE_DB:
        return reading | {"silent": True, "voiced": 0.0, "cents": None, "hnr_db": -30.0}
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


def likeness(player, corpus, held_out, seeds, limit_hz):
    """Of each held-out recording: the distance of the model's notes, and of its neighbours resampled."""
    for recording in corpus:
        if recording.key not in held_out:
            continue
        others = [r for r in corpus if r.key not in held_out and r.velocity == recording.velocity]
        nearest = min(abs(r.key - recording.key) for r in others)
        neighbours = [r for r in others if abs(r.key - recording.key) == nearest]
        truth = from_onset(recording.sound())

        def distance(sound, truth=truth):
            return ears.log_spectral_distance(from_onset(sound), truth, limit_hz)

        notes = [player.note(recording.key, recording.velocity, seed) for seed in seeds]
        ours = np.mean([distance(note) for note in notes])
        sampler = np.mean([distance(resampled(r, recording.key)) for r in neighbours])
        yield recording, ours, sampler


def from_onset(sound):
    return sound[int(ears.onset(sound) * ears.RATE) :]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("player", metavar="PLAYER", help="the built program wavenet")
    parser.add_argument("--model", metavar="FILE", help="default: the built-in instruments")
    parser.add_argument("--recordings", metavar="DIR", default=str(ROOT / "../shared/data/piano-kw"))
    parser.add_argument("--class", metavar="NAME", dest="sound", help="which of the model's sounds")
    parser.add_argument(
        "--evaluation-model", metavar="FILE", help="a model trained without the held-out keys"
    )
    parser.add_argument(
        "--held-out", metavar="KEYS", default="D#3,F#4,A5", help="those keys [default: %(default)s]"
    )
    parser.add_argument("--temperature", type=float, metavar="T", help="default: the player's")
    parser.add_argument("--float-model", metavar="FILE", help="the model before its export to int8")
    parser.add_argument("--quick", action="store_true", help="9 keys, one seed")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes [default: 1]")
    parser.add_argument("--verbose", action="store_true", help="a line for every note")
    parser.add_argument("--csv", metavar="FILE", help="write every reading")
    parser.add_argument("--pictures", metavar="DIR", help="draw recorded beside generated notes")
    return parser.parse_args()


@dataclasses.dataclass
class Subject:
    """Who is listened to."""

    player: Player
    trainer: str
    corpus: list
    keys: list
    seeds: tuple
    rate_hz: int

    @property
    def limit_hz(self):
        """Up to where the model's rate lets it sound."""
        return BAND * self.rate_hz


def subject(options):
    """The model, its recordings, and the keys to listen to: where there are recordings around."""
    about = Player(options.player, options.model).inspect()
    sound = options.sound or (about["classes"] or [None])[0]
    recipe = about["conditioning"]
    recorded = recipe.get("keys") if isinstance(recipe, dict) else None
    if not recorded:
        raise Failure("this model knows no notes: there is no tuning to listen to")
    keys = list(range(max(LOWEST, recorded[0]), min(HIGHEST, recorded[-1]) + 1))
    if not keys:
        raise Failure(
            f"all of its keys lie outside {name(LOWEST)} to {name(HIGHEST)}, where these ears are proved"
        )
    if options.quick:
        keys = sorted({keys[round(place)] for place in np.linspace(0, len(keys) - 1, 9)})
    trainer = str(pathlib.Path(options.player).with_name("wavenet-trainer"))
    return Subject(
        player=Player(options.player, options.model, sound, options.temperature),
        trainer=trainer,
        corpus=recordings(trainer, options.recordings, sound),
        keys=keys,
        seeds=(1,) if options.quick else (1, 2, 3),
        rate_hz=about["sample_rate_hz"],
    )


def hear(who, jobs):
    """Readings of every note, and of the recordings nearest to them."""
    wanted = [(key, velocity) for key in who.keys for velocity in VELOCITIES]
    nearest = {note: min(who.corpus, key=lambda r: r.distance(*note)) for note in wanted}
    pool = concurrent.futures.ProcessPoolExecutor(jobs)
    try:
        recorded = {r: pool.submit(read_recording, r, who.limit_hz) for r in set(nearest.values())}
        made = [
            (r, pool.submit(read_note, who.player, *note, seed, who.limit_hz, r.until_s()))
            for note, r in nearest.items()
            for seed in who.seeds
        ]
        notes = []
        for recording, job in made:
            beside = {"recorded_hnr_db": recorded[recording].result()["hnr_db"]}
            notes.append(job.result() | beside)
            show(f"{len(notes)} of {len(made)} notes")
        return notes, [job.result() for job in recorded.values()]
    finally:
        pool.shutdown(cancel_futures=True)
        show("")


def show(progress):
    if sys.stderr.isatty():
        print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)


def listen(options):
    began = time.monotonic()
    who = subject(options)
    notes, recorded = hear(who, options.jobs)
    table = Table()
    tabulate_notes(table, notes, len({r.velocity for r in who.corpus}))
    tabulate_likeness(table, options, who)
    tabulate_bits(table, options, who.trainer, who.player.sound)
    percent = 100 * who.player.load(8, who.rate_hz)
    table.row("8 voices at the model's rate", "25 % of a core", f"{percent:.1f} %", percent <= 25)
    if options.pictures:
        draw_pictures(options.pictures, who)
    if options.verbose:
        print_readings(notes)
    if options.csv:
        write_csv(options.csv, notes)
    what = f"{len(notes)} notes, {name(who.keys[0])} to {name(who.keys[-1])}, velocities 40 and 110"
    print(f"{options.model or 'built-in instruments'}: {what}; {time.monotonic() - began:.0f} s")
    off = np.abs([reading["cents"] for reading in recorded if reading["cents"] is not None])
    print(
        f"the {len(recorded)} recordings beside them, by the same ears: "
        f"median {np.median(off):.1f} cents off, {share(off <= 15):.0f} % within 15"
    )
    print(table.text())
    return table


def draw_pictures(folder, who):
    """A picture of each loudness layer: a few recordings beside what the model plays."""
    import pictures

    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    for velocity in VELOCITIES:
        chosen = {min(who.corpus, key=lambda r: r.distance(key, velocity)) for key in PICTURE_KEYS}
        notes = [
            (f"{name(r.key)}, velocity {r.velocity}", r.sound(), who.player.note(r.key, r.velocity, 1))
            for r in sorted(chosen, key=lambda r: r.key)
        ]
        pictures.draw(f"{folder}/velocity-{velocity}.png", notes, who.limit_hz)


def tabulate_likeness(table, options, who):
    measure = "held-out keys: log-spectral distance"
    if options.evaluation_model is None:
        table.row(measure, "a sampler's", "not measured: no --evaluation-model", None)
        return
    player = dataclasses.replace(who.player, model=options.evaluation_model, sound=None)
    if who.player.sound in player.inspect()["classes"]:
        player = dataclasses.replace(player, sound=who.player.sound)
    held_out = [int(librosa.note_to_midi(key)) for key in options.held_out.split(",")]
    found = list(likeness(player, who.corpus, held_out, who.seeds, who.limit_hz))
    if not found:
        table.row(measure, "a sampler's", f"not measured: no {options.held_out} among the recordings", None)
        return
    if options.verbose:
        for recording, ours, sampler in found:
            print(f"{recording.path.name}: model {ours:.2f} dB, neighbours resampled {sampler:.2f} dB")
    ours, sampler = (np.mean([entry[column] for entry in found]) for column in (1, 2))
    table.row(measure, f"{sampler:.2f} dB, a sampler's", f"{ours:.2f} dB", ours <= sampler)


def tabulate_bits(table, options, trainer, sound):
    model = options.model or str(ROOT / "models/instruments.safetensors")
    exact = held_out_bits(trainer, options.float_model or model, options.recordings, "f32", sound)
    int8 = held_out_bits(trainer, model, options.recordings, "int8", sound)
    measured = f"f32 {exact:.4f}, int8 {int8:.4f}"
    table.row("bits a sample on held-out files", "int8 within 0.01", measured, int8 - exact <= 0.01)


def main():
    options = arguments()
    try:
        print(f"the ears, on sounds of known answer: {ears_proof.prove()}", flush=True)
        table = listen(options)
    except (Failure, ears_proof.Deaf) as error:
        print(f"listen.py: {error}", file=sys.stderr)
        return 2
    return 1 if table.fails() else 0


if __name__ == "__main__":
    sys.exit(main())
