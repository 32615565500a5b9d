"""Compiles the GPU's kernel with NVIDIA's run-time compiler, which needs no GPU.

    nvrtc.py build    writes engine/src/cuda/ptx/, one file a type of weights, of bytes one more for cards with
                      wider matrix units, and those of `--micro`: what the program carries
    nvrtc.py check    says as JSON whether these files are what the text gives, and what the kernel takes of
                      every card that it is compiled for

The oldest compiler that knows all of them makes the PTX: so the oldest drivers read it (525 and later).
"""

import ctypes
import json
import pathlib
import re
import sys

import nvidia.cuda_nvrtc

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "engine" / "src" / "cuda"
HEADERS = sorted(path.name for path in FOLDER.glob("*.cuh"))
DTYPES = ["f32", "bf16", "int8"]
# PTX for the oldest, which the driver compiles for newer ones; machine code only to see what it takes.
PTX_FOR = "compute_75"
CARDS = ["sm_75", "sm_86", "sm_90"]
FILES = {dtype: (PTX_FOR, "wavenet.cu", dtype.upper()) for dtype in DTYPES}
# Matrix units that take more bytes at once.
FILES["int8_wide"] = ("compute_80", "wavenet.cu", "INT8")
# A voice alone, for shapes that the compiler knows.
FILES["soloist"] = ("compute_80", "soloist.cu", "INT8")
FILES["micro"] = (PTX_FOR, "micro.cu", "MICRO")
# Clusters are younger.
FILES["micro_cluster"] = ("compute_90", "micro.cu", "CLUSTER")
FILES["micro_products"] = (PTX_FOR, "micro_products.cu", "INT8")
FILES["micro_products_wide"] = ("compute_80", "micro_products.cu", "INT8")


def library():
    folder = pathlib.Path(next(iter(nvidia.cuda_nvrtc.__path__))) / "lib"
    ctypes.CDLL(str(next(folder.glob("libnvrtc-builtins.so*"))), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(next(folder.glob("libnvrtc.so*"))))


NVRTC = library()


def text_of(program, size, get):
    length = ctypes.c_size_t()
    assert size(program, ctypes.byref(length)) == 0
    text = ctypes.create_string_buffer(length.value)
    assert get(program, text) == 0
    return text.value.decode()


def strings(values):
    return (ctypes.c_char_p * len(values))(*(value.encode() for value in values))


def compile_for(target, name, define):
    """The PTX, and what the compiler says."""
    program = ctypes.c_void_p()
    headers = [(FOLDER / header).read_text() for header in HEADERS]
    source = (FOLDER / name).read_text().encode()
    made = NVRTC.nvrtcCreateProgram(
        ctypes.byref(program), source, name.encode(), len(HEADERS), strings(headers), strings(HEADERS)
    )
    assert made == 0, made
    options = [f"--gpu-architecture={target}", "--std=c++17", f"-DWAVENET_{define}"]
    # The numeric contract: nothing is contracted, flushed or approximated.
    options += ["--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"]
    if target.startswith("sm_"):
        options.append("--ptxas-options=-v")
    failed = NVRTC.nvrtcCompileProgram(program, len(options), strings(options))
    log = text_of(program, NVRTC.nvrtcGetProgramLogSize, NVRTC.nvrtcGetProgramLog)
    if failed:
        sys.exit(f"{name}, {define} for {target}: {log}")
    ptx = text_of(program, NVRTC.nvrtcGetPTXSize, NVRTC.nvrtcGetPTX)
    NVRTC.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx, log


def ptx(file):
    """Without comments and indentation, which are a quarter of it."""
    text, _ = compile_for(*FILES[file])
    lines = (re.sub(r"//.*", "", line).strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line) + "\n"


def number(pattern, text):
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def usage(dtype, card):
    """What each entry takes: registers a thread, and bytes of stack, of spills, of static shared memory."""
    _, log = compile_for(card, "wavenet.cu", dtype.upper())
    entries = re.split(r"Compiling entry function '", log)[1:]
    assert len(entries) == 2, log
    for entry in entries:
        yield {
            "entry": entry.split("'")[0],
            "dtype": dtype,
            "card": card,
            "registers": number(r"Used (\d+) registers", entry),
            "stack": number(r"(\d+) bytes stack frame", entry),
            "spilled": number(r"(\d+) bytes spill stores", entry) + number(r"(\d+) bytes spill loads", entry),
            "shared": number(r"(\d+) bytes smem", entry),
        }


def check():
    stale = [name for name in FILES if (FOLDER / "ptx" / f"{name}.ptx").read_text() != ptx(name)]
    kernels = [use for card in CARDS for dtype in DTYPES for use in usage(dtype, card)]
    print(json.dumps({"stale": stale, "kernels": kernels}, indent=1))


def build():
    for name in FILES:
        (FOLDER / "ptx" / f"{name}.ptx").write_text(ptx(name))


if __name__ == "__main__":
    if sys.argv[1:] not in (["build"], ["check"]):
        sys.exit(__doc__)
    {"build": build, "check": check}[sys.argv[1]]()
