"""784-128-10 on MNIST: the spiking network beside what its user would take instead.

One script, one set of images, GCC at -O2, exact instruction counts on emulated cores:

* the spiking network of examples/mnist as qspinn emits it, T = 25 steps, pixels as rates;
* an int8 ANN in plain C that multiplies every input;
* the same ANN skipping inputs and hidden units that are zero, which is the rival to beat;
* emlearn's float MLP (`pip install emlearn`; left out with a line where it is absent).

onnx2c is no Python package and has to be built from source: left out.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from counting import Counted, Program, core, linked, stages
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build

from qspinn.evaluate import chunks
from qspinn.fixed import IntArray
from qspinn.ir import Graph
from qspinn.job import plan_for, prepare
from qspinn.pipeline import lower
from qspinn.plan import Plan

FloatArray = npt.NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[2]
HIDDEN, CLASSES, PIXELS = 128, 10, 784
CORES = ("M0+", "M3", "M4", "M33")
TRAIN = 20000
RATES = (0.01, 0.05, 0.1)
STEPS = (10, 25, 50)
STUBS = {
    "stdio.h": b"#define stderr 0\n#define fprintf(...) 0\n#define printf(...) 0\n",
    "stdlib.h": b"#include <stddef.h>\n",
    "math.h": b"""static inline float expf(float x) { float s = 1.0f, t = 1.0f; int i;
    for (i = 1; i < 8; i++) { t *= x / i; s += t; } return s; }
static inline float logf(float x) { return x; }
static inline float tanhf(float x) { return x; }
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define fabs(x) __builtin_fabs(x)
#define fabsf(x) __builtin_fabsf(x)
""",
}
"""What freestanding compilers lack; the ten exponentials and the logarithm (which shifts all scores
alike) at the end do not weigh."""


@dataclass(frozen=True)
class Ann:
    """Weights (inputs, outputs) and biases of both layers, in reals."""

    w1: FloatArray
    b1: FloatArray
    w2: FloatArray
    b2: FloatArray

    def scores(self, x: FloatArray) -> FloatArray:
        """The logits of images."""
        return np.maximum(x @ self.w1 + self.b1, 0) @ self.w2 + self.b2


def trained(x: FloatArray, y: IntArray, epochs: int = 2) -> Ann:
    """Stochastic gradient descent with momentum on the cross entropy."""
    rng = np.random.default_rng(1)
    ann = [
        rng.normal(0, np.sqrt(2 / PIXELS), (PIXELS, HIDDEN)), np.zeros(HIDDEN),
        rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, CLASSES)), np.zeros(CLASSES),
    ]  # fmt: skip
    speed = [np.zeros_like(part) for part in ann]
    for _ in range(epochs):
        for part in np.array_split(rng.permutation(len(x)), len(x) // 100):
            hidden = np.maximum(x[part] @ ann[0] + ann[1], 0)
            logits = hidden @ ann[2] + ann[3]
            error = np.exp(logits - logits.max(1, keepdims=True))
            error /= error.sum(1, keepdims=True)
            error[np.arange(len(part)), y[part]] -= 1
            back = (error @ ann[2].T) * (hidden > 0)
            slopes = [x[part].T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
            for held, moving, slope in zip(ann, speed, slopes, strict=True):
                moving *= 0.9
                moving -= 0.1 * slope / len(part)
                held += moving
    return Ann(*ann)


def quantized(ann: Ann, x: FloatArray) -> dict[str, IntArray]:
    """int8 weights, int32 biases, and the shift that brings hidden sums to 0..127."""
    first, second = (127 / np.abs(w).max() for w in (ann.w1, ann.w2))
    w1, w2 = np.rint(ann.w1 * first).astype(int), np.rint(ann.w2 * second).astype(int)
    b1 = np.rint(ann.b1 * first * 255).astype(int)
    sums = np.maximum(np.rint(x * 255).astype(int) @ w1 + b1, 0)
    shift = max(int(np.ceil(np.log2(np.quantile(sums, 0.9999) / 127))), 0)
    b2 = np.rint(ann.b2 * second * first * 255 / 2**shift).astype(int)
    return {"w1": w1, "b1": b1, "w2": w2, "b2": b2, "shift": np.array(shift)}


def decided(ann: Mapping[str, IntArray], pixels: IntArray) -> IntArray:
    """What the int8 ANN answers."""
    hidden = np.maximum(pixels @ ann["w1"] + ann["b1"], 0) >> int(ann["shift"])
    found: IntArray = (np.minimum(hidden, 127) @ ann["w2"] + ann["b2"]).argmax(1)
    return found


def table(name: str, kind: str, values: IntArray) -> str:
    """A constant array."""
    body = ", ".join(map(str, values.reshape(-1).tolist()))
    return f"static const {kind} {name}[] = {{{body}}};\n"


def source(ann: Mapping[str, IntArray], skip: bool) -> bytes:
    """The int8 ANN in C; weights lie as its loops go through them."""
    held = {name: ann[name] if skip else ann[name].T for name in ("w1", "w2")}
    tables = "".join(
        [table(n, "int8_t", held[n]) for n in held]
        + [table(n, "int32_t", ann[n]) for n in ("b1", "b2")]
    )
    layer = """
static void layer(const uint8_t *x, uint32_t ins, const int8_t *w, const int32_t *b,
                  int32_t *y, uint32_t outs)
{
    uint32_t i, o;
    for (o = 0; o < outs; o++) {
        const int8_t *row = w + o * ins;
        int32_t sum = b[o];
        for (i = 0; i < ins; i++)
            sum += x[i] * row[i];
        y[o] = sum;
    }
}
"""
    if skip:
        layer = """
static void layer(const uint8_t *x, uint32_t ins, const int8_t *w, const int32_t *b,
                  int32_t *y, uint32_t outs)
{
    uint32_t i, o;
    for (o = 0; o < outs; o++)
        y[o] = b[o];
    for (i = 0; i < ins; i++) {
        const int32_t value = x[i];
        const int8_t *row = w + i * outs;
        if (value)
            for (o = 0; o < outs; o++)
                y[o] += value * row[o];
    }
}
"""
    body = f"""
uint8_t ann_input[{PIXELS}];
static uint8_t hidden[{HIDDEN}];
static int32_t sums[{HIDDEN}];
uint32_t ann_predict(void)
{{
    uint32_t o, best = 0;
    layer(ann_input, {PIXELS}, w1, b1, sums, {HIDDEN});
    for (o = 0; o < {HIDDEN}; o++) {{
        const int32_t s = sums[o] < 0 ? 0 : sums[o] >> {int(ann["shift"])};
        hidden[o] = s > 127 ? 127 : s;
    }}
    layer(hidden, {HIDDEN}, w2, b2, sums, {CLASSES});
    for (o = 1; o < {CLASSES}; o++)
        if (sums[o] > sums[best])
            best = o;
    return best;
}}
"""
    return ("#include <stdint.h>\n" + tables + layer + body).encode()


def emlearn_files(ann: Ann) -> dict[str, bytes] | None:
    """Emlearn's C of the same ANN in float, without its libraries; None where it is absent."""
    try:
        net = importlib.import_module("emlearn.net")
    except ImportError:
        return None
    folder = Path(str(net.__file__)).parent
    weights, biases = [ann.w1, ann.w2], [ann.b1, ann.b2]
    made = net.Wrapper(["relu", "softmax"], weights, biases, classifier="loadable")
    main = f"""#include "net.h"
float ann_input[{PIXELS}];
uint32_t ann_predict(void) {{ return (uint32_t)eml_net_predict(&net, ann_input, {PIXELS}); }}
void *memcpy(void *a, const void *b, size_t n)
{{ char *p = a; const char *q = b; while (n--) *p++ = *q++; return a; }}
void *memset(void *a, int v, size_t n) {{ char *p = a; while (n--) *p++ = (char)v; return a; }}
"""
    headers = {path.name: path.read_bytes() for path in folder.glob("eml_*.h")}
    return {**STUBS, **headers, "net.h": made.save(name="net").encode(), "net.c": main.encode()}


def sizes(program: Program) -> tuple[int, int]:
    """Bytes of flash and of variables."""
    import io

    from elftools.elf.elffile import ELFFile

    flash = ram = 0
    for section in ELFFile(io.BytesIO(program.image)).iter_sections():
        if section["sh_flags"] & 2 and not section.name.startswith(".ARM"):
            writable = bool(section["sh_flags"] & 1)
            ram += section["sh_size"] if writable else 0
            flash += section["sh_size"] if section["sh_type"] == "SHT_PROGBITS" else 0
    return flash, ram


def measured(program: Program, images: npt.NDArray[np.generic]) -> tuple[float, list[int]]:
    """Instructions an image and the answers."""
    board, answers = Counted(program), []
    board.enable_floats()
    with board.counting() as total:
        for image in images:
            board.emulator.write(board.emulator.symbols["ann_input"], image.tobytes())
            answers.append(board.emulator.call("ann_predict"))
    return sum(total.values()) / len(images), answers


def spiking(x: IntArray, y: IntArray, count: int) -> tuple[Graph, IntArray]:
    """The network of examples/mnist under the default plan, and spikes of the first images."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        np.savez(path, x=x.astype(np.uint8), y=y)
        job = prepare(ROOT / "examples" / "mnist" / "mnist.nir", path)
        assert job.dataset is not None
        graph = lower(job.graph, plan_for(job, BACKEND), BACKEND).final
        index = np.arange(count)
        parts = [spikes for spikes, _ in chunks(graph, job.dataset, job.encoder, index)]
    return graph, np.concatenate(parts).astype(np.int64)


def instructions(graph: Graph, data: IntArray, place: str) -> tuple[float, int, int]:
    """Instructions a sample of the emitted code, flash and RAM."""
    network, device = build(graph), BACKEND.devices[BACKEND.default_device]
    files = BACKEND.emit(graph, device, Plan({})).files
    program = linked(files, core(place), "gcc")
    total, _ = stages(program, network, data)
    events = network.port.size * network.port.index.bytes
    flash, _ = sizes(program)
    return sum(total.values()) / len(data), flash, network.struct.bytes + events


def slopes(graph: Graph, place: str) -> tuple[float, float]:
    """Instructions of a step: with no input, and for each 1 % of inputs that spike."""
    rng, shape = np.random.default_rng(3), graph.input.shape
    found = []
    for rate in (0.0, *RATES):
        data = (rng.random((1, 20, *shape)) < rate).astype(np.int64)
        found.append(instructions(graph, data, place)[0] / 20)
    slope, base = np.polyfit([0.0, *RATES], found, 1)
    return float(base), float(slope) / 100


def row(name: str, place: str, count: float, flash: int, ram: int, note: str = "") -> None:
    """One line of the table."""
    print(f"{place:4} | {name:28} | {count / 1e3:9.1f} k | {flash:7} | {ram:6} | {note}")


def main() -> None:
    """Print the table, then from where on the spiking network needs less."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of mnist.npz")
    parser.add_argument("--cores", nargs="+", default=list(CORES), choices=CORES)
    parser.add_argument("--images", type=int, default=5)
    arguments = parser.parse_args()
    with np.load(arguments.data / "mnist.npz") as file:
        x, y, test, truth = (file[n] for n in ("x_train", "y_train", "x_test", "y_test"))
    x, test = (part.reshape(len(part), -1) for part in (x, test))
    ann = trained(x[:TRAIN] / 255, y[:TRAIN].astype(int))
    small = quantized(ann, x[:2000] / 255)
    right = (decided(small, test.astype(int)) == truth).mean()
    images = test[: arguments.images]
    lit = (images > 0).mean()
    print(f"int8 ANN: {right:.2%} of the test images; {lit:.1%} of the pixels run are not 0")
    graph, spikes = spiking(test[:1000], truth[:1000], arguments.images)
    print(f"spiking: {spikes.shape[1]} steps, {spikes.mean():.1%} of the inputs spike in a step")
    theirs = emlearn_files(ann)
    if theirs is None:
        print("emlearn is not installed (pip install emlearn): its row is left out")
    print("onnx2c has to be built from source: its row is left out")
    print("core | what                         | instructions | flash B | RAM B  |")
    for place in arguments.cores:
        _place(place, graph, spikes, small, theirs, images)


def _place(
    place: str, graph: Graph, spikes: IntArray, small: Mapping[str, IntArray],
    theirs: Mapping[str, bytes] | None, images: IntArray,
) -> None:  # fmt: skip
    """The rows of a core."""
    rivals = {}
    want = decided(small, images.astype(int)).tolist()
    for name, skip in (("int8 ANN", False), ("int8 ANN, skips zeros", True)):
        program = linked({"ann.c": source(small, skip)}, core(place), "gcc")
        rivals[name], answers = measured(program, images.astype(np.uint8))
        if answers != want:
            raise SystemExit(f"{name} on {place} answers {answers}, not {want}")
        row(name, place, rivals[name], *sizes(program))
    if theirs is not None:
        hard = ("-mfloat-abi=hard", "-mfpu=auto") if place in ("M4", "M33") else ()
        program = linked(theirs, core(place), "gcc", "-I.", *hard)
        scaled = (images / 255).astype(np.float32)
        count, answers = measured(program, scaled)
        same = np.mean(np.array(answers) == np.array(want))
        row("emlearn, float", place, count, *sizes(program), note=f"{same:.0%} answer alike")
    count, flash, ram = instructions(graph, spikes, place)
    row("spiking, qspinn", place, count, flash, ram)
    base, slope = slopes(graph, place)
    print(f"       a step: {base / 1e3:.2f} k + {slope / 1e3:.2f} k for 1 % of inputs that spike")
    for name, limit in rivals.items():
        rates = [(steps, (limit / steps - base) / slope) for steps in STEPS]
        text = ", ".join(f"T = {t}: {f'below {r:.1f} %' if r > 0 else 'never'}" for t, r in rates)
        print(f"       fewer than {name} where the input's rate is: {text}", flush=True)


if __name__ == "__main__":
    main()
