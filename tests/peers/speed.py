"""How fast other step-by-step implementations of the same WaveNet run, beside ours, in the same minute.

    speed.py WAVENET

WAVENET is the built program. Each peer keeps dilated queues, computes a whole step (activations, softmax
and draw included) on one core in f32, and feeds what it drew back. PyTorch is measured where it is
installed. Run it by `./run peers`.
"""

import json
import subprocess
import sys
import time

import numpy as np

R, S, A, LAYERS, LEVELS = 64, 256, 256, 10, 256
SECONDS = 3.0


def weights(rng):
    """Random weights; filter and gate over both taps are one matrix, skip and residual another."""

    def matrix(rows, columns):
        return (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    layers = [(matrix(2 * R, 2 * R), matrix(S + R, R)) for _ in range(LAYERS)]
    return matrix(LEVELS, R), layers, matrix(A, S), matrix(LEVELS, A)


class Numpy:
    name = "NumPy"

    def __init__(self, rng):
        self.rng = rng
        self.embedding, self.layers, self.end1, self.end2 = weights(rng)
        self.queues = [np.zeros((1 << layer, R), np.float32) for layer in range(LAYERS)]
        self.code, self.time = 128, 0

    def step(self):
        x = self.embedding[self.code]
        skips = np.zeros(S, np.float32)
        joined = np.empty(2 * R, np.float32)
        for (gates, outs), queue in zip(self.layers, self.queues):
            row = self.time & (len(queue) - 1)
            joined[:R], joined[R:] = queue[row], x
            queue[row] = x
            pre = gates @ joined
            z = np.tanh(pre[:R]) / (1.0 + np.exp(-pre[R:]))
            out = outs @ z
            skips += out[:S]
            x = x + out[S:]
        hidden = np.maximum(self.end1 @ np.maximum(skips, 0.0), 0.0)
        logits = self.end2 @ hidden
        prefix = np.cumsum(np.exp(logits - logits.max()))
        self.code = int(np.searchsorted(prefix, self.rng.random() * prefix[-1]))
        self.time += 1


class PyTorch:
    name = "PyTorch eager"

    def __init__(self, rng):
        import torch

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        self.torch = torch
        embedding, layers, end1, end2 = weights(rng)
        tensor = torch.from_numpy
        self.embedding, self.end1, self.end2 = tensor(embedding), tensor(end1), tensor(end2)
        self.layers = [(tensor(gates), tensor(outs)) for gates, outs in layers]
        self.queues = [torch.zeros((1 << layer, R)) for layer in range(LAYERS)]
        self.code, self.time = 128, 0

    def step(self):
        torch = self.torch
        x = self.embedding[self.code]
        skips = torch.zeros(S)
        for (gates, outs), queue in zip(self.layers, self.queues):
            row = self.time & (len(queue) - 1)
            pre = torch.mv(gates, torch.cat((queue[row], x)))
            queue[row] = x
            out = torch.mv(outs, torch.tanh(pre[:R]) * torch.sigmoid(pre[R:]))
            skips += out[:S]
            x = x + out[S:]
        hidden = torch.relu(torch.mv(self.end1, torch.relu(skips)))
        logits = torch.mv(self.end2, hidden)
        self.code = int(torch.multinomial(torch.softmax(logits, 0), 1))
        self.time += 1


def samples_per_second(peer):
    for _ in range(200):
        peer.step()
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        for _ in range(100):
            peer.step()
        steps += 100
    return steps / (time.perf_counter() - began)


def ours(program, dtype, voices):
    shape = f"{R},{S},{A},{LAYERS}"
    command = [program, "bench", "--json", "--shape", shape, "--seconds", str(SECONDS)]
    command += ["--dtype", dtype, "--voices", str(voices)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(answer)["samples_per_second"]


def main():
    rows = []
    for peer in (Numpy, PyTorch):
        try:
            rows.append((peer.name, samples_per_second(peer(np.random.default_rng(1)))))
        except ImportError as error:
            print(f"skipped: {peer.name} ({error})")
    slowest = rows[0][1]
    for dtype in ("f32", "bf16", "int8"):
        rows.append((f"wavenet {dtype}", ours(sys.argv[1], dtype, 1)))
    rows.append(("wavenet int8, 8 voices", ours(sys.argv[1], "int8", 8)))
    print(f"R={R} S={S} A={A}, {LAYERS} layers, one core")
    for name, rate in rows:
        print(f"{name:<24} {rate:>10,.0f} samples a second {rate / slowest:>7.1f} x {rows[0][0]}")


main()
