"""Compiles the GPU's kernel with NVIDIA's run-time compiler, which needs no GPU.

    nvrtc.py build    writes engine/src/cuda/ptx/, one file a type of weights, of bytes one more for cards with
                      wider matrix units, one of the single-stream kernels, one of the pipelines, one for each
                      shape of the batch kernel, and those of `--micro`: what the program carries
    nvrtc.py check    says as JSON whether these files are what the text gives, and what the kernel takes of
                      every card that it is compiled for; and the trainer's

The oldest compiler that knows all of them makes the PTX: so the oldest drivers read it (525 and later). Messages
between the blocks of a cluster are younger: pipelines have the next compiler, and need a driver from 530 on.
"""

import ctypes
import json
import pathlib
import re
import sys

import nvidia.cuda_nvrtc
import nvidia.cuda_runtime

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "engine" / "src" / "cuda"
KERNELS = FOLDER / "kernels"
# The trainer's, which its build compiles where there is CUDA's toolkit; here only to see that they compile.
TRAINING = FOLDER.parents[2] / "trainer" / "src" / "card" / "cuda" / "kernels.cu"
TRAINING_CARDS = ["sm_80", "sm_86", "sm_90"]
INCLUDED = pathlib.Path(next(iter(nvidia.cuda_runtime.__path__))) / "include"
# By the names that the texts include them by.
HEADERS = sorted(path.relative_to(KERNELS).as_posix() for path in KERNELS.rglob("*.cuh"))
DTYPES = ["f32", "bf16", "int8"]
# PTX for the oldest, which the driver compiles for newer ones; machine code only to see what it takes.
PTX_FOR = "compute_75"
CARDS = ["sm_75", "sm_86", "sm_90"]
CARDS_WITH_CLUSTERS = ["sm_90"]
# Channels of the residual stream, of skips and of the layer before the last, which the batch kernel is compiled for:
# `BATCH_SHAPES` in shapes.rs has the same.
SHAPES = [(32, 64, 128), (64, 256, 256), (128, 256, 256)]
FILES = {dtype: (PTX_FOR, "general/general.cu", [dtype.upper()]) for dtype in DTYPES}
# Matrix units that take more bytes at once.
WIDE_FOR = "compute_80"
FILES["int8_wide"] = (WIDE_FOR, "general/general.cu", ["INT8"])
# A voice alone, for shapes that the compiler knows.
FILES["single"] = (WIDE_FOR, "single/single.cu", ["INT8"])
# A voice on many multiprocessors.
PIPELINES = {"pipeline_int8/pipeline_int8.cu": "INT8", "pipeline_bf16/pipeline_bf16.cu": "BF16"}
FILES["pipeline_int8"] = ("compute_90", "pipeline_int8/pipeline_int8.cu", ["INT8"])
FILES["pipeline_bf16"] = ("compute_90", "pipeline_bf16/pipeline_bf16.cu", ["BF16"])
FILES["micro"] = (PTX_FOR, "micro/micro.cu", ["MICRO"])
# Clusters are younger.
FILES["micro_cluster"] = ("compute_90", "micro/micro.cu", ["CLUSTER"])
FILES["micro_message"] = ("compute_90", "micro/micro_message.cu", ["MICRO"])
FILES["micro_products"] = (PTX_FOR, "micro/micro_products.cu", ["INT8"])
FILES["micro_products_wide"] = (WIDE_FOR, "micro/micro_products.cu", ["INT8"])


def of_shape(r, s, a):
    return ["INT8", f"R={r}", f"S={s}", f"A={a}"]


for shape in SHAPES:
    FILES["batch_" + "_".join(map(str, shape))] = (WIDE_FOR, "batch/batch.cu", of_shape(*shape))


def library(package):
    folder = pathlib.Path(package) / "lib"
    ctypes.CDLL(str(next(folder.glob("libnvrtc-builtins.so*"))), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(next(folder.glob("libnvrtc.so*"))))


OLDEST = library(next(iter(nvidia.cuda_nvrtc.__path__)))
# Beside the environment's own packages, for it has the same name: nvrtc-requirements.txt.
NEXT = library(pathlib.Path(sys.prefix) / "nvrtc" / "nvidia" / "cuda_nvrtc")


def compiler_of(name):
    return NEXT if name in PIPELINES or name == "micro/micro_message.cu" else OLDEST


def text_of(program, size, get):
    length = ctypes.c_size_t()
    assert size(program, ctypes.byref(length)) == 0
    text = ctypes.create_string_buffer(length.value)
    assert get(program, text) == 0
    return text.value.decode()


def strings(values):
    return (ctypes.c_char_p * len(values))(*(value.encode() for value in values))


def compile_for(target, name, defines):
    """The PTX, and what the compiler says."""
    nvrtc = compiler_of(name)
    program = ctypes.c_void_p()
    headers = [(KERNELS / header).read_text() for header in HEADERS]
    source = (KERNELS / name).read_text().encode()
    made = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source, str(name).encode(), len(HEADERS), strings(headers), strings(HEADERS)
    )
    assert made == 0, made
    options = [f"--gpu-architecture={target}", "--std=c++17", f"--include-path={INCLUDED}"]
    options += [f"-DWAVENET_{define}" for define in defines]
    # The numeric contract: nothing is contracted, flushed or approximated.
    options += ["--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"]
    if target.startswith("sm_"):
        options.append("--ptxas-options=-v")
    failed = nvrtc.nvrtcCompileProgram(program, len(options), strings(options))
    log = text_of(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
    if failed:
        sys.exit(f"{name}, {defines} for {target}: {log}")
    ptx = text_of(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx, log


def ptx(file):
    """Without comments and indentation, which are a quarter of it."""
    text, _ = compile_for(*FILES[file])
    lines = (re.sub(r"//.*", "", line).strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line) + "\n"


def number(pattern, text):
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def usage(name, defines, card):
    """What each entry takes: registers a thread, and bytes of stack, of spills, of static shared memory."""
    _, log = compile_for(card, name, defines)
    entries = re.split(r"Compiling entry function '", log)[1:]
    assert entries, log
    for entry in entries:
        yield {
            "entry": entry.split("'")[0],
            "defines": defines,
            "card": card,
            "registers": number(r"Used (\d+) registers", entry),
            "stack": number(r"(\d+) bytes stack frame", entry),
            "spilled": number(r"(\d+) bytes spill stores", entry) + number(r"(\d+) bytes spill loads", entry),
            "shared": number(r"(\d+) bytes smem", entry),
        }


def check():
    stale = [name for name in FILES if (FOLDER / "ptx" / f"{name}.ptx").read_text() != ptx(name)]
    texts = [(card, "general/general.cu", [dtype.upper()]) for card in CARDS for dtype in DTYPES]
    for card in CARDS:
        if card >= "sm_80":
            texts += [(card, "batch/batch.cu", of_shape(*shape)) for shape in SHAPES]
            texts.append((card, "single/single.cu", ["INT8"]))
        if card in CARDS_WITH_CLUSTERS:
            texts += [(card, name, [dtype]) for name, dtype in PIPELINES.items()]
    kernels = [use for card, name, defines in texts for use in usage(name, defines, card)]
    training = [use for card in TRAINING_CARDS for use in usage(TRAINING, [], card)]
    print(json.dumps({"stale": stale, "kernels": kernels, "training": training}, indent=1))


def build():
    for name in FILES:
        (FOLDER / "ptx" / f"{name}.ptx").write_text(ptx(name))


if __name__ == "__main__":
    if sys.argv[1:] not in (["build"], ["check"]):
        sys.exit(__doc__)
    {"build": build, "check": check}[sys.argv[1]]()
