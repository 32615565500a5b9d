"""What the same minutes teach the same model in PyTorch: bits a sample on what was set aside.

    learning.py PREPARED [--minutes 10] [--threads 2] [--formulation conv]

PREPARED is a folder of `wavenet-trainer prepare`. The model, the segments (a receptive field of warm-up,
silence before a recording's start), AdamW, the schedule by the clock, clipping and the averaged weights are
those of `wavenet-trainer train --conditioning none`. Run it with the environment of training.py's peers:

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776 python learning.py digits.prepared
"""

import argparse
import json
import math
import pathlib
import time

import numpy as np
import torch

from training import BATCH, LEVELS, build

SHAPE = (32, 64, 256, 10)
WINDOW = 2048
RECEPTIVE_FIELD = 1 + sum(1 << layer for layer in range(SHAPE[3]))
PEAK, WARM_UP, FINAL_SHARE, DECAY, CLIP, AVERAGE = 3e-3, 100, 0.02, 0.01, 1.0, 0.999
SILENCE, IGNORED = LEVELS // 2, -100


class Corpus:
    """The codes of one part's recordings."""

    def __init__(self, folder, split):
        index = json.loads((folder / "index.json").read_text())
        samples = np.fromfile(folder / "samples.f32", "<f4").astype(np.float64)
        mu = LEVELS - 1
        codes = np.sign(samples) * np.log1p(mu * np.abs(samples)) / np.log1p(mu)
        codes = np.floor((codes + 1) / 2 * mu + 0.5).astype(np.int64)
        self.clips = [
            codes[entry["offset_frames"] :][: entry["frames"]]
            for entry in index["entries"]
            if entry["split"] == split
        ]
        self.ends = np.cumsum([len(clip) for clip in self.clips])

    def segment(self, clip, start, frames):
        """Codes `[warm-up + frames]` and targets `[WINDOW]` of a stretch."""
        padded = np.concatenate([np.full(RECEPTIVE_FIELD, SILENCE), clip[: start + frames]])
        inputs = padded[start : start + RECEPTIVE_FIELD + frames - 1]
        targets = np.full(WINDOW, IGNORED)
        targets[:frames] = clip[start : start + frames]
        return np.pad(inputs, (0, WINDOW - frames), constant_values=SILENCE), targets

    def random(self, rng):
        place = rng.integers(self.ends[-1])
        index = int(np.searchsorted(self.ends, place, side="right"))
        clip = self.clips[index]
        middle = int(place - (self.ends[index] - len(clip)))
        frames = min(WINDOW, len(clip))
        start = min(max(middle - frames // 2, 0), len(clip) - frames)
        return self.segment(clip, start, frames)

    def all(self):
        for clip in self.clips:
            for start in range(0, len(clip), WINDOW):
                yield self.segment(clip, start, min(WINDOW, len(clip) - start))


def batch(segments):
    codes, targets = zip(*segments)
    return torch.from_numpy(np.stack(codes)), torch.from_numpy(np.stack(targets))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("prepared", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--formulation", default="conv")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    train = Corpus(arguments.prepared, "train")
    model = build(arguments.formulation, SHAPE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=DECAY, fused=True)
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE)
    )
    began, step = time.monotonic(), 0
    while (progress := (time.monotonic() - began) / (60 * arguments.minutes)) < 1:
        rate = FINAL_SHARE + (1 - FINAL_SHARE) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min((step + 1) / WARM_UP, 1) * rate
        loss = model(*batch([train.random(rng) for _ in range(BATCH)]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        averaged.update_parameters(model)
        step += 1
        if step % 500 == 0:
            print(f"step {step}: {loss.item() / math.log(2):.3f} bits a sample", flush=True)
    nats, samples = 0.0, 0
    with torch.no_grad():
        segments = list(Corpus(arguments.prepared, "valid").all())
        for first in range(0, len(segments), 16):
            codes, targets = batch(segments[first : first + 16])
            counted = int((targets != IGNORED).sum())
            nats += averaged(codes, targets).item() * counted
            samples += counted
    bits = nats / samples / math.log(2)
    print(f"{step} steps: {bits:.4f} bits a sample on {samples} samples of validation data")


main()
