"""How long a training step of the same WaveNet takes in PyTorch and in candle, beside ours, in the same minutes.

    training.py TRAINER [--rounds N] [--threads N ...] [--shapes R,S,A,LAYERS ...]
    training.py TRAINER --device cuda [--rounds N] [--shapes R,S,A,LAYERS ...] [--seconds S]

TRAINER is `wavenet-trainer`, built with the feature `candle`. A step is all of it: forward, loss, backward, clipping by the global norm, AdamW; f32; four segments of 8,192 random
codes, every one of which counts. PyTorch runs in three formulations of the same function, eagerly and
compiled, and the fastest of each is the one reported: which it is depends on the machine. Its malloc is
told to keep what it has, since returning tens of megabytes to the system at each step and faulting them
in again costs more than the mathematics. Everybody takes turns, and the fastest of all rounds counts.
PyTorch is measured where it is installed. Run it by `./run peers`.

On a card (TRAINER built with the feature `cuda`) both also round the factors of their products to TF32, or
compute in bf16 with f32 weights, optimizer and loss; a third mode of PyTorch, `graphs`, is torch.compile with
CUDA graphs. All its processes start at once and then take turns; those that are not ready after --seconds are
left out, and named.
"""

import argparse
import json
import os
import selectors
import subprocess
import sys
import time

LEVELS, BATCH, WINDOW = 256, 4, 8192
SHAPES = ["32,64,256,10", "64,256,256,10"]
STEPS = 5

KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


def build(formulation, shape):
    """The model's loss as a module: (codes [B, T], targets [B, N]) -> mean cross-entropy in nats of the codes
    after the last N; targets of -100 do not count."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    r, s, a, layers = shape
    dilations = [1 << (layer % 10) for layer in range(layers)]

    class Matmul(nn.Module):
        """Time-major: filter and gate over both taps are one product, the skips of all layers another."""

        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(LEVELS, r)
            self.gates = nn.ModuleList(nn.Linear(2 * r, 2 * r) for _ in dilations)
            self.residuals = nn.ModuleList(nn.Linear(r, r) for _ in dilations[1:])
            self.skip = nn.Linear(layers * r, s)
            self.end1, self.end2 = nn.Linear(s, a), nn.Linear(a, LEVELS)

        def forward(self, codes, targets):
            x, gated = self.embedding(codes), []
            for layer, dilation in enumerate(dilations):
                past = F.pad(x, (0, 0, dilation, 0))[:, : x.shape[1]]
                filters, gates = self.gates[layer](torch.cat((past, x), 2)).chunk(2, 2)
                gated.append(torch.tanh(filters) * torch.sigmoid(gates))
                if layer + 1 < layers:
                    x = x + self.residuals[layer](gated[-1])
            counted = torch.cat([z[:, -targets.shape[1] :] for z in gated], 2)
            hidden = F.relu(self.end1(F.relu(self.skip(counted))))
            return F.cross_entropy(self.end2(hidden).flatten(0, 1), targets.flatten())

    class Conv(nn.Module):
        """As usually written: dilated conv1d, channels before times; the skips as in Matmul."""

        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(LEVELS, r)
            self.gates = nn.ModuleList(nn.Conv1d(r, 2 * r, 2, dilation=d) for d in dilations)
            self.residuals = nn.ModuleList(nn.Conv1d(r, r, 1) for _ in dilations[1:])
            self.skip = nn.Conv1d(layers * r, s, 1)
            self.end1, self.end2 = nn.Conv1d(s, a, 1), nn.Conv1d(a, LEVELS, 1)

        def forward(self, codes, targets):
            x, gated = self.embedding(codes).transpose(1, 2).contiguous(), []
            for layer, dilation in enumerate(dilations):
                filters, gates = self.gates[layer](F.pad(x, (dilation, 0))).chunk(2, 1)
                gated.append(torch.tanh(filters) * torch.sigmoid(gates))
                if layer + 1 < layers:
                    x = x + self.residuals[layer](gated[-1])
            counted = torch.cat([z[..., -targets.shape[1] :] for z in gated], 1)
            hidden = F.relu(self.end1(F.relu(self.skip(counted))))
            return F.cross_entropy(self.end2(hidden), targets)

    class ConvAdd(Conv):
        """As Conv, but each layer's residual and skip are one product, and the skips are added up."""

        def __init__(self):
            super().__init__()
            outputs = [s + r] * (layers - 1) + [s]
            self.residuals, self.skip = None, None
            self.outs = nn.ModuleList(nn.Conv1d(r, out, 1) for out in outputs)

        def forward(self, codes, targets):
            x, skips = self.embedding(codes).transpose(1, 2).contiguous(), 0
            for layer, dilation in enumerate(dilations):
                filters, gates = self.gates[layer](F.pad(x, (dilation, 0))).chunk(2, 1)
                out = self.outs[layer](torch.tanh(filters) * torch.sigmoid(gates))
                skips = skips + out[:, :s, -targets.shape[1] :]
                if layer + 1 < layers:
                    x = x + out[:, s:]
            return F.cross_entropy(self.end2(F.relu(self.end1(F.relu(skips)))), targets)

    return {"matmul": Matmul, "conv": Conv, "conv+": ConvAdd}[formulation]()


def peer(formulation, mode, threads, shape, device="cpu", precision="f32"):
    """A PyTorch process: each line on standard input is answered by the time of its best step in ms."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    model = build(formulation, shape).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    codes = torch.randint(0, LEVELS, (BATCH, WINDOW + 1)).to(device)
    inputs, targets = codes[:, :-1].contiguous(), codes[:, 1:].contiguous()
    options = {"eager": None, "compiled": {}, "graphs": {"mode": "reduce-overhead"}}[mode]
    loss_of = model if options is None else torch.compile(model, **options)
    narrow = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    # A card's steps are short and wait for each other anyway: many in a row are timed as one.
    in_a_row = 20 if device == "cuda" else 1

    def step():
        wait()
        began = time.perf_counter()
        for _ in range(in_a_row):
            with narrow:
                loss = loss_of(inputs, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        wait()
        return 1e3 * (time.perf_counter() - began) / in_a_row

    # The first steps compile and take the memory.
    for _ in range(3):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(min(step() for _ in range(STEPS)), flush=True)


class PyTorch:
    def __init__(self, formulation, mode, threads, shape, device="cpu", precision="f32"):
        self.name, self.precision, self.formulation = f"PyTorch {mode}", precision, formulation
        command = [sys.executable, __file__, "--peer", formulation, mode, str(threads), shape, device, precision]
        environment = os.environ | KEEP_MEMORY | {"OMP_NUM_THREADS": str(threads)}
        if device == "cuda":
            environment |= {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
        self.process = subprocess.Popen(
            command,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if device == "cuda" else None,
        )
        if device == "cpu" and not self.is_ready():
            raise SystemExit(f"{self.name} ({formulation}) did not start")

    def is_ready(self, deadline=None):
        """Waits for the first step; False where it failed or is late."""
        if deadline is not None:
            with selectors.DefaultSelector() as selector:
                selector.register(self.process.stdout, selectors.EVENT_READ)
                if not selector.select(max(deadline - time.monotonic(), 0.01)):
                    return False
        return self.process.stdout.readline() == "ready\n"

    def step_ms(self):
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def end(self):
        self.process.communicate()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Ours:
    """`device` candle is the same step in candle, whose gradients are the ones that ours must equal."""

    def __init__(self, name, program, device, threads, shape, precision="f32"):
        self.name, self.precision, self.formulation = name, precision, ""
        # candle spreads its products over the threads that this variable gives it.
        self.environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
        if device == "candle":
            self.environment |= KEEP_MEMORY
        self.command = [program, "bench", "--json", "--device", device, "--threads", str(threads)]
        self.command += ["--shape", shape, "--batch", str(BATCH), "--window", str(WINDOW)]
        self.command += ["--steps", str({"cpu": STEPS, "cuda": 100}.get(device, 2))]
        self.command += ["--precision", precision] if device == "cuda" else []
        # A card's steps differ little: what half of them take is nearer to many in a row.
        self.figure = "step_ms" if device == "cuda" else "fastest_step_ms"

    def step_ms(self):
        answer = subprocess.run(
            self.command, check=True, capture_output=True, text=True, env=self.environment
        )
        return json.loads(answer.stdout)[self.figure]

    def end(self):
        pass


def contestants(arguments, threads, shape):
    yield Ours("ours", arguments.trainer, "cpu", threads, shape)
    yield Ours("candle", arguments.trainer, "candle", threads, shape)
    try:
        import torch  # noqa: F401
    except ImportError as error:
        print(f"skipped: PyTorch ({error})")
        return
    for mode in ("eager", "compiled"):
        for formulation in ("matmul", "conv", "conv+"):
            yield PyTorch(formulation, mode, threads, shape)


def compare(arguments, threads, shape):
    everybody = list(contestants(arguments, threads, shape))
    best = {}
    for _ in range(arguments.rounds):
        for one in everybody:
            best[one.name] = min(best.get(one.name, float("inf")), one.step_ms())
    for one in everybody:
        one.end()
    for name, step_ms in best.items():
        rate = BATCH * WINDOW / step_ms * 1e3
        print(
            f"{shape:<15} {threads:>7} {name:<18} {step_ms:>9.1f} {rate:>16,.0f}"
            f" {step_ms / best['ours']:>8.2f}",
            flush=True,
        )


def compare_on_card(arguments):
    """Everybody on the card in turns; of PyTorch's formulations the fastest of each mode and precision."""
    precisions = ("f32", "tf32", "bf16")
    places = [(shape, precision) for shape in arguments.shapes for precision in precisions]
    best = {place: {} for place in places}
    ours = {
        place: Ours("ours", arguments.trainer, "cuda", 1, place[0], place[1]) for place in places
    }
    for _ in range(arguments.rounds):
        for place, one in ours.items():
            try:
                best[place]["ours"] = min(best[place].get("ours", float("inf")), one.step_ms())
            except subprocess.CalledProcessError as error:
                print(f"left out: ours, {place[1]}, {place[0]}: {error.stderr.strip()}")
    deadline = time.monotonic() + arguments.seconds
    theirs = [
        (place, PyTorch(formulation, mode, 1, place[0], "cuda", place[1]))
        for place in places
        for mode in arguments.modes
        for formulation in arguments.formulations
    ]
    ready = []
    for place, one in theirs:
        if one.is_ready(deadline):
            ready.append((place, one))
        else:
            one.kill()
            print(f"left out: {one.name} ({one.formulation}), {place[1]}, {place[0]}: failed or late")
    for _ in range(arguments.rounds):
        for place, one in ready:
            try:
                best[place][one.name] = min(best[place].get(one.name, float("inf")), one.step_ms())
            except (ValueError, BrokenPipeError):
                print(f"left out: {one.name} ({one.formulation}), {place[1]}, {place[0]}: failed")
    for _, one in ready:
        one.kill()
    print(f"{'R,S,A,layers':<15} {'':>5} {'':<18} {'ms a step':>9} {'samples a second':>16} {'x ours':>8}")
    for (shape, precision), times in best.items():
        for name, step_ms in times.items():
            rate = BATCH * WINDOW / step_ms * 1e3
            print(
                f"{shape:<15} {precision:>5} {name:<18} {step_ms:>9.3f} {rate:>16,.0f}"
                f" {step_ms / times.get('ours', float('nan')):>8.2f}"
            )


def main():
    if sys.argv[1:2] == ["--peer"]:
        formulation, mode, threads, shape, *rest = sys.argv[2:]
        return peer(formulation, mode, int(threads), [int(part) for part in shape.split(",")], *rest)
    parser = argparse.ArgumentParser()
    parser.add_argument("trainer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--shapes", nargs="*", default=SHAPES)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--modes", nargs="*", default=["eager", "compiled", "graphs"], help="of PyTorch, on a card")
    parser.add_argument("--formulations", nargs="*", default=["matmul", "conv", "conv+"], help="the same")
    parser.add_argument("--seconds", type=float, default=300.0, help="how long PyTorch may get ready, on a card")
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        return compare_on_card(arguments)
    print(f"{'R,S,A,layers':<15} {'threads':>7} {'':<18} {'ms a step':>9} {'samples a second':>16} {'x ours':>8}")
    for shape in arguments.shapes:
        for threads in arguments.threads:
            compare(arguments, threads, shape)


if __name__ == "__main__":
    main()
