#!/usr/bin/env python3
"""An independent WaveNet in NumPy, written from docs/model-format.md alone.

It shares no line with the engine, so where both agree the document is complete and both read it
alike. Section numbers below are those of the document.

Usage: numpy_wavenet.py MODEL.safetensors < REQUEST.json > ANSWER.json

The request is a list of jobs, the answer the list of their results:

    {"job": "logits", "codes": [...], "conditioning": [[...], ...], "contract": type or null}
                                                                        -> [[...], ...]
    {"job": "pick", "logits": [[...], ...], "temperature": T, "top_p": P, "draws": [...]} -> [...]
    {"job": "draws", "seed": s, "stream": m, "count": n}  -> [...]
    {"job": "mulaw", "levels": n, "samples": [...]}  -> {"values": [...], "codes": [...]}
    {"job": "note", "key": k, "velocity": v, "frames": n}  -> [[local channels, added, level], ...]

A contract (section 9), "f32", "bf16" or "int8", is obeyed to the bit; without one the mathematics of
section 5 is computed in f64.
"""

import json
import sys

import numpy as np

F32, F64 = np.float32, np.float64


# Section 2: the file.

DEFAULTS = {
    "sample_rate_hz": 16000, "levels": 256, "residual_channels": 64, "gate_channels": 64,
    "skip_channels": 256, "end_channels": 256, "kernel_size": 2,
    "dilations": [1 << layer for layer in range(10)], "classes": [], "class_channels": 16,
    "conditioning": {"kind": "none"}, "root_key": 60, "default_dtype": "f32",
}
NOTE_DEFAULTS = {
    "partials": 32, "summed_partials": 0, "ages_ms": [], "decays_ms": [20, 200, 1500], "velocity_range_db": 30,
    "remainder": False, "keys": [],
}


def read_model(path):
    """The config as a dict, and the tensors as a dict of f32 arrays."""
    with open(path, "rb") as file:
        content = file.read()
    start = 8 + int.from_bytes(content[:8], "little")
    table = json.loads(content[8:start])
    header = json.loads(table.pop("__metadata__")["wavenet"])
    if header["format_version"] not in (1, 2, 3, 4):
        raise ValueError(f"format version {header['format_version']}")
    tensors = {}
    for name, entry in table.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        raw = content[begin:end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(F32)
        elif entry["dtype"] == "I8":
            values = np.frombuffer(raw, "i1").astype(F32)
        else:
            values = np.frombuffer(raw, "<f4")
        tensors[name] = values.reshape(entry["shape"])
    for name in [name for name in tensors if name.endswith(".scale")]:
        tensors[name.removesuffix(".scale")] *= tensors.pop(name)[..., None]
    return {**DEFAULTS, **header["config"]}, tensors


# Section 4: mu-law.

def mulaw_values(levels):
    mu = F64(levels - 1)
    y = 2 * np.arange(levels) / mu - 1
    return (np.sign(y) * ((1 + mu) ** np.abs(y) - 1) / mu).astype(F32)


def mulaw_encode(samples, levels):
    mu = F64(levels - 1)
    x = np.clip(np.asarray(samples, F64), -1, 1)
    compressed = np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu)
    return np.floor((compressed + 1) / 2 * mu + 0.5).astype(int)


# Section 5, the mathematics, and section 9, the contract. Rows are times, columns channels.

class Mathematics:
    """f64, in whatever order NumPy sums."""

    real = F64

    @staticmethod
    def weights(tensors):
        return {name: values.astype(F64) for name, values in tensors.items()}

    @staticmethod
    def units(f, g):
        return np.tanh(f) / (1 + np.exp(-g))

    @staticmethod
    def onto(c, weight, rows):
        return c + rows @ weight.T

    @classmethod
    def first_taps_onto(cls, c, weight, rows):
        return cls.onto(c, weight, rows)

    @classmethod
    def units_onto(cls, c, weights, units):
        for weight, z in zip(weights, units, strict=True):
            c = cls.onto(c, weight, z)
        return c

    @classmethod
    def relu_onto(cls, c, weight, rows):
        return cls.onto(c, weight, np.maximum(rows, cls.real(0)))


def fma(a, b, c):
    """a b + c in f32, rounded once: the product of two f32 is exact in f64; the sum is rounded there
    to odd, which makes the second rounding, to f32, as though it were the only one."""
    product = np.asarray(a, F64) * np.asarray(b, F64)
    c = np.asarray(c, F64)
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    odd = (total.view(np.int64) & 1).astype(bool)
    neighbour = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error == 0) | odd, total, neighbour).astype(F32)


def chain(x, first, rest):
    p = np.full_like(x, F32(first))
    for a in rest:
        p = fma(p, x, F32(a))
    return p


class Contract(Mathematics):
    """f32, to the bit."""

    real = F32

    @staticmethod
    def weights(tensors):
        return tensors

    @staticmethod
    def exp(x):
        x = np.minimum(np.maximum(x, F32(-87)), F32(88))
        n = fma(x, F32(1.44269504), F32(12582912)) - F32(12582912)
        r = fma(-n, F32(0.69314575), x)
        r = fma(-n, F32(1.4286068e-6), r)
        p = chain(r, 0.0013814599, [0.008368717, 0.04166839, 0.16666521, 0.49999994, 1, 1])
        return p * np.exp2(n).astype(F32)

    @staticmethod
    def tanh_parts(x):
        x = np.minimum(np.maximum(x, F32(-9.02)), F32(9.02))
        y = x * x
        p = chain(y, 1.3319061e-8, [2.0583473e-5, 0.003494034, 0.13379717, 1])
        q = chain(y, 7.762015e-7, [0.0003283092, 0.02587107, 0.46713033, 1])
        return x * p, q

    @staticmethod
    def tanh(x):
        p, q = Contract.tanh_parts(x)
        return np.minimum(np.maximum(p / q, F32(-1)), F32(1))

    @classmethod
    def units(cls, f, g):
        return cls.tanh(f) * fma(cls.tanh(F32(0.5) * g), F32(0.5), F32(0.5))

    @staticmethod
    def onto(c, weight, rows):
        inputs = weight.shape[1]
        quarter = -(-inputs // 4)
        missing = ((0, 0), (0, 4 * quarter - inputs))
        weight, rows = np.pad(weight, missing), np.pad(rows, missing)
        chains = []
        for first in range(0, 4 * quarter, quarter):
            total = np.zeros((rows.shape[0], weight.shape[0]), F32)
            for column in range(first, first + quarter):
                total = fma(weight[None, :, column], rows[:, column, None], total)
            chains.append(total)
        return c + (((chains[0] + chains[1]) + chains[2]) + chains[3])


class Bf16(Contract):
    """The same with rounded matrices."""

    @staticmethod
    def weights(tensors):
        def rounded(name, values):
            if values.ndim < 2 or "embedding" in name:
                return values
            bits = values.view(np.uint32)
            return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(F32)

        return {name: rounded(name, values) for name, values in tensors.items()}


class Int8(Contract):
    """Exact integer sums."""

    @staticmethod
    def quantise(weight):
        scale = np.abs(weight).max(axis=1) / F32(127)
        scale = ((scale.view(np.uint32) + 255) & np.uint32(0xFFFFFF00)).view(F32)[:, None]
        q = np.clip(np.rint(weight / np.where(scale > 0, scale, F32(1))), -127, 127)
        return q.astype(F64), scale

    @staticmethod
    def integers_onto(c, weight, q_x, b):
        q_w, a = Int8.quantise(weight)
        return fma((q_x @ q_w.T).astype(F32), a.T * b, c)

    @staticmethod
    def inputs(rows, most):
        m = np.abs(rows).max(axis=1, keepdims=True)
        m = np.where(m < F32(1e-30), F32(0), m)
        factor = F32(most) / np.where(m > 0, m, F32(1))
        return np.where(m > 0, np.rint(rows * factor), 0).astype(F64), m / F32(most)

    @classmethod
    def onto(cls, c, weight, rows):
        return cls.integers_onto(c, weight, *cls.inputs(rows, 127))

    @classmethod
    def first_taps_onto(cls, c, weight, rows):
        return Contract.onto(c, weight, rows)

    @classmethod
    def units(cls, f, g):
        (n, d), (m, e) = cls.tanh_parts(f), cls.tanh_parts(F32(0.5) * g)
        return np.rint(63.5 * ((n * (m + e)) / (d * e)).astype(F64))

    @classmethod
    def units_onto(cls, c, weights, units):
        weights, units = np.concatenate(weights, axis=1), np.concatenate(units, axis=1)
        return cls.integers_onto(c, weights, units, F32(1) / F32(127))

    @classmethod
    def relu_onto(cls, c, weight, rows):
        return cls.integers_onto(c, weight, *cls.inputs(np.maximum(rows, F32(0)), 255))


WAYS = {None: Mathematics, "f32": Contract, "bf16": Bf16, "int8": Int8}


def shift(rows, frames):
    return np.concatenate([np.zeros_like(rows[:frames]), rows[: len(rows) - frames]])


def logits(config, tensors, codes, conditioning, way):
    """Whole clip: the receptive field of silence (section 6), then the codes; [T, levels]."""
    taps, dilations = config["kernel_size"], config["dilations"]
    silent = 1 + (taps - 1) * sum(dilations)
    codes = np.concatenate([np.full(silent, config["levels"] // 2), np.asarray(codes, int)])
    get = way.weights(tensors)
    h = None
    if conditioning is not None and len(conditioning[0]) > 0:
        h = np.asarray(conditioning, F32).astype(way.real)
        h = np.concatenate([np.zeros((silent, h.shape[1]), way.real), h])

    x = get["embedding.weight"][codes]
    skip_bias = np.zeros(config["skip_channels"], way.real)
    for layer in range(len(dilations)):
        skip_bias = skip_bias + get[f"layers.{layer}.skip.bias"]
    skips, units = [], []
    for layer, dilation in enumerate(dilations):
        taps_onto = way.onto if layer else way.first_taps_onto

        def half(name):
            name = f"layers.{layer}.{name}"
            weight = get[f"{name}.weight"]
            total = get[f"{name}.bias"]
            for tap in range(taps - 1):
                total = taps_onto(total, weight[tap], shift(x, (taps - 1 - tap) * dilation))
            if h is not None:
                total = way.onto(total, get[f"{name}.conditioning.weight"], h)
            return taps_onto(total, weight[taps - 1], x)

        units.append(way.units(half("filter"), half("gate")))
        skips.append(get[f"layers.{layer}.skip.weight"])
        if layer + 1 < len(dilations):
            name = f"layers.{layer}.residual"
            change = way.units_onto(get[f"{name}.bias"], [get[f"{name}.weight"]], units[-1:])
            x = x + change
    s = way.units_onto(skip_bias, skips, units)
    hidden = way.relu_onto(get["end1.bias"], get["end1.weight"], s)
    return way.relu_onto(get["end2.bias"], get["end2.weight"], hidden)[silent:]


# Section 7: the conditioning vector of a note that is held.

def turns(x):
    return int(np.floor((x - np.floor(x)) * 2.0**32)) % 2**32


def blend(keys, key, velocity):
    """Pairs of a table and its weight."""
    def between(values, at):
        low = max((v for v in values if v <= at), default=min(values))
        high = min((v for v in values if v >= at), default=max(values))
        share = (at - low) / (high - low) if high > low else 0.0
        return [(low, 1 - share), (high, share)]

    for near, weight in between([k["key"] for k in keys], key):
        own = {k.get("velocity", 0): k for k in keys if k["key"] == near}
        for struck, share in between(list(own), velocity):
            yield own[struck], weight * share


def factors(recipe, tables, rate, frames):
    """Of the whole, then of each partial. Shape: [1 + partials, frames]."""
    ages = np.array(recipe["ages_ms"], F64)
    count = max(recipe["partials"], recipe["summed_partials"])
    if not len(ages):
        return np.ones((1 + count, frames), F32)
    rows = np.full((1 + count, len(ages)), -120.0)
    rows[0] = 0
    if tables:
        rows[0] = sum(w * np.array(t["level_db"]) for t, w in tables)
    for k in range(count):
        knowing = [(t, w) for t, w in tables if k < len(t["partial_db"])]
        if sum(w for _, w in knowing) > 0:
            against = [w * np.subtract(t["partial_db"][k], t["level_db"]) for t, w in knowing]
            rows[1 + k] = sum(against) / sum(w for _, w in knowing)
    rows = rows.astype(F32).astype(F64)
    points = np.arange(frames // 32 + 2) * 32 * 1000 / rate
    beyond = np.maximum(points - ages[-1], 0) / (ages[-1] - ages[-2])
    db = np.array([np.interp(points, ages, row) for row in rows])
    db[0] += min(rows[0, -1] - rows[0, -2], 0) * beyond
    at_points = (10 ** (np.maximum(db, -160) / 20)).astype(F32)
    # Partials above the highest that is heard at either end of a stretch are left out.
    loud = np.maximum(at_points[1:, :-1], at_points[1:, 1:]) >= F32(1e-4)
    heard = np.where(loud.any(0), count - np.argmax(loud[::-1], axis=0), 0)
    place, share = np.arange(frames) // 32, (np.arange(frames) % 32 / 32).astype(F32)
    lines = at_points[:, place] + (at_points[:, place + 1] - at_points[:, place]) * share
    lines[1:][np.arange(count)[:, None] >= heard[place]] = 0
    return lines


def note(config, key, velocity, frames):
    """The conditioning vectors of a note of the first class; what is added to its samples, and what they are
    multiplied with then."""
    recipe = {**NOTE_DEFAULTS, **config["conditioning"]}
    rate, levels = config["sample_rate_hz"], len(recipe["ages_ms"]) > 0
    keys = [k for k in recipe["keys"] if k.get("class", 0) == 0]
    partials = recipe["partials"]
    count = max(partials, recipe["summed_partials"])
    b, cents, start, told, tables = 0.0, 0.0, [0.0] * count, velocity, []
    if keys:
        tables = list(blend(keys, key, velocity))
        b, cents = (sum(w * t[field] for t, w in tables) for field in ("inharmonicity", "cents"))
        struck = [k.get("velocity", 0) for k in keys]
        if levels:
            told = min(max(velocity, min(struck)), max(struck))
        def distance(k):
            return abs(k["key"] - key), k["key"], abs(k.get("velocity", 0) - velocity)
        start = [float(F32(turn)) for turn in min(keys, key=distance)["start_turns"]]
    f1 = 440 * 2 ** ((key - 69 + cents / 100) / 12)
    table = np.sin(2 * np.pi * np.arange(4096 + 1024 + 1) / 4096).astype(F32)

    def sine(phase, ahead):
        i = (phase >> 20) + ahead
        return table[i] + (table[i + 1] - table[i]) * (F32(phase & 0xFFFFF) / F32(2**20))

    amplitudes = factors(recipe, tables, rate, frames)
    decays = len(recipe["decays_ms"])
    cosines = 2 + decays + (2 if levels else 0)
    rows = np.zeros((frames, cosines + 2 * partials), F32)
    rows[:, 0], rows[:, 1] = (key - 60) / 24, told / 127
    for index, ms in enumerate(recipe["decays_ms"]):
        decay, factor = 1.0, np.exp(-1000 / (F64(F32(ms)) * rate))
        for frame in range(frames):
            rows[frame, 2 + index] = decay
            decay = decay * factor if decay > 1e-9 else 0.0
    total = np.zeros(frames, F32)
    for k in range(1, count + 1):
        share = k * f1 * np.sqrt(1 + b * k * k) / rate
        if share > 0.46:
            continue
        step = turns(share)
        phases = [(turns(start[k - 1]) + frame * step) % 2**32 for frame in range(frames)]
        in_phase = amplitudes[k] * np.array([sine(phase, 1024) for phase in phases], F32)
        total += in_phase
        if k <= partials:
            rows[:, cosines + k - 1] = in_phase
            rows[:, cosines + partials + k - 1] = amplitudes[k] * np.array(
                [sine(phase, 0) for phase in phases], F32
            )
    if levels:
        mu = config["levels"] - 1
        x = np.clip((total * F32(0.25)).astype(F64), -1, 1)
        rows[:, 2 + decays] = F32(0.5) * total
        rows[:, 3 + decays] = np.sign(x) * np.log1p(mu * abs(x)) / np.log1p(mu)
    gain = amplitudes[0] / F32(0.25) if levels else amplitudes[0]
    added = F32(0.25) * total if recipe["remainder"] else np.zeros(frames, F32)
    return np.hstack([rows, added[:, None], gain[:, None]])


# Section 8: draws and the choice of a code.

def draw(seed, stream, number):
    mask = 0xFFFFFFFF
    block = number >> 2
    counter = [block & mask, block >> 32, stream & mask, stream >> 32]
    key = [seed & mask, seed >> 32]
    for _ in range(10):
        p, q = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [
            (q >> 32) ^ counter[1] ^ key[0], q & mask,
            (p >> 32) ^ counter[3] ^ key[1], p & mask,
        ]
        key = [(key[0] + 0x9E3779B9) & mask, (key[1] + 0xBB67AE85) & mask]
    return counter[number & 3]


def pick(row, temperature, top_p, number):
    row = np.asarray(row, F32)
    if temperature <= 0:
        return int(np.argmax(row))
    scaled = (row - row.max()) / F32(temperature)
    weights = [int(w) for w in Contract.exp(scaled) * F32(2**23)]
    total = sum(weights)
    if top_p < 1:
        goal = (int(float(F32(top_p)) * 2**32) * total) >> 32
        kept = 0
        for code in sorted(range(len(weights)), key=lambda code: (-weights[code], code)):
            if kept > 0 and kept >= goal:
                weights[code] = 0
            kept += weights[code]
        total = kept
    target = (number * total) >> 32
    for code, prefix in enumerate(np.cumsum(weights, dtype=np.int64)):
        if prefix > target:
            return code
    return int(np.argmax(row))


def answer(config, tensors, request):
    job = request["job"]
    if job == "logits":
        way = WAYS[request["contract"]]
        rows = logits(config, tensors, request["codes"], request["conditioning"], way)
        return rows.tolist()
    if job == "pick":
        rows, draws = request["logits"], request["draws"]
        settings = request["temperature"], request["top_p"]
        return [pick(row, *settings, number) for row, number in zip(rows, draws, strict=True)]
    if job == "draws":
        return [draw(request["seed"], request["stream"], n) for n in range(request["count"])]
    if job == "mulaw":
        levels = request["levels"]
        codes = mulaw_encode(request["samples"], levels)
        return {"values": mulaw_values(levels).tolist(), "codes": codes.tolist()}
    if job == "note":
        return note(config, request["key"], request["velocity"], request["frames"]).tolist()
    raise ValueError(f"no job is called {job}")


if __name__ == "__main__":
    model = read_model(sys.argv[1])
    json.dump([answer(*model, request) for request in json.load(sys.stdin)], sys.stdout)
