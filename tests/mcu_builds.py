"""Small integer networks for the mcu target, and its files compiled in all the ways users do."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND, tiles
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.builds import Files
from qspinn.backends.mcu.execute import record
from qspinn.backends.mcu.network import Network
from qspinn.backends.mcu.samples import trace
from qspinn.backends.mcu.toolchain import Core

from qspinn import interp
from qspinn.backend import Artifact
from qspinn.fixed import QFormat, Rounding
from qspinn.ir import (
    Array,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    Param,
    State,
    SumPool2d,
)
from qspinn.neurons import integrator, spiking
from qspinn.plan import Plan
from qspinn.readout import predict, summarize
from qspinn.validate import compare

WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wundef", "-Werror")
ZIG = (sys.executable, "-m", "ziglang")
DECAY = QFormat(13, 12, signed=False)


def param(values: object, fmt: str, rounding: Rounding = Rounding.FLOOR) -> Param:
    return Param(np.asarray(values, np.int64), QFormat.parse(fmt), rounding)


def state(fmt: str = "s16f4", init: object = 0, **options: Any) -> State:
    return State(param(init, fmt), QFormat.parse(fmt), **options)


def lif(
    name: str, source: str | tuple[str, ...], shape: int | tuple[int, ...], threshold: object,
    **options: Any,
) -> Neuron:  # fmt: skip
    """Leaky neurons with 16-bit states and a 12-bit decay."""
    model = spiking(**options)
    values = {
        "threshold": param(threshold, "s16f4"), "decay": param(3686, "u13f12"),
        "current_decay": param(3000, "u13f12"), "v_reset": param(-8, "s16f4"),
        "refractory": param(2, "u2f0"), "bias": param(3, "s16f4"), "v_min": param(-999, "s16f4"),
        "adaptation_decay": param(4000, "u13f12"), "adaptation_step": param(5, "s16f4"),
    }  # fmt: skip
    kinds = {"fired": state("u1f0"), "wait": state("u2f0")}
    return Neuron(
        name=name, inputs=(source,) if isinstance(source, str) else source,
        shape=(shape,) if isinstance(shape, int) else shape, model=model,
        values={k: values[k] for k in model.params},
        states={k: kinds.get(k, state()) for k in model.states},
    )  # fmt: skip


def dense(
    rng: np.random.Generator, name: str, source: str, outs: int, ins: int, bits: int = 8,
    bias: bool = False,
) -> Linear:  # fmt: skip
    top = (1 << (bits - 1)) - 1
    weight = np.clip(np.rint(rng.normal(0, top / 2.5, (outs, ins))), -top - 1, top)
    starts = param(rng.integers(-50, 50, outs), "s16f4") if bias else None
    return Linear(
        name=name, inputs=(source,), weight=param(weight, f"s{bits}f{bits - 4}"), bias=starts
    )


def chain(name: str, *nodes: Node, readout: str = "count") -> Graph:
    return Graph(name, (*nodes, Output(name="out", inputs=(nodes[-1].name,), readout=readout)))


def mlp(name: str = "mlp", sizes: Sequence[int] = (12, 9, 4), bits: int = 8) -> Graph:
    """What the default plan makes of a fully connected network."""
    rng = np.random.default_rng(sum(sizes))
    nodes: list[Node] = [Input(name="x", shape=(sizes[0],))]
    for i, (ins, outs) in enumerate(itertools.pairwise(sizes), 1):
        nodes.append(dense(rng, f"fc{i}", nodes[-1].name, outs, ins, bits, bias=True))
        level = int(16 * 2 * np.sqrt(ins / 5))
        nodes.append(lif(f"lif{i}", f"fc{i}", outs, level, reset="subtract"))
    return chain(name, *nodes)


def deaf(name: str = "deaf", sizes: Sequence[int] = (300, 48, 10), bits: int = 8) -> Graph:
    """The same without the weights of about a third of its inputs."""
    graph = mlp(name, sizes, bits)
    kept = np.random.default_rng(3).random(sizes[0]) < 2 / 3

    def change(node: Node) -> Node:
        if not isinstance(node, Linear) or node.name != "fc1":
            return node
        return replace(node, weight=replace(node.weight, values=node.weight.values * kept))

    return graph.map(change)


def valued(name: str = "valued") -> Graph:
    """The same with values as its input."""
    fmt = QFormat.parse("s8f0")
    return mlp(name).map(
        lambda node: replace(node, kind="current", fmt=fmt) if isinstance(node, Input) else node
    )


def recurrent(name: str = "recurrent", ins: int = 20, size: int = 24) -> Graph:
    """A layer with synaptic currents that reads itself, and an integrator."""
    rng = np.random.default_rng(5)
    back = Delay(name="back", inputs=("lif1",), shape=(size,), steps=2)
    hidden = lif("lif1", ("fc1", "rec1"), size, rng.integers(20, 90, size), synapse="new")
    output = Neuron(
        name="li", inputs=("fc2",), shape=(5,), model=integrator(synapse="new"),
        values={"decay": param(4, "leak4"), "current_decay": param(3500, "u13f12")},
        states={"u": state(), "v": state("s16f2")},
    )  # fmt: skip
    return chain(
        name, Input(name="x", shape=(ins,)), dense(rng, "fc1", "x", size, ins), back,
        dense(rng, "rec1", "back", size, size, 4), hidden, dense(rng, "fc2", "lif1", 5, size),
        output, readout="membrane_max",
    )  # fmt: skip


def convolutional(name: str = "conv", side: int = 12, channels: int = 8) -> Graph:
    """Convolution, pooling, convolution and a layer of outputs, as for event cameras."""
    rng = np.random.default_rng(7)

    def conv(name: str, source: str, outs: int, ins: int) -> Conv2d:
        weight = param(rng.integers(-60, 100, (outs, ins, 3, 3)), "s8f4")
        return Conv2d(name=name, inputs=(source,), weight=weight, padding=(1, 1))

    half = side // 2
    levels = param(rng.integers(100, 200, (channels, 1, 1)), "s16f4").values
    return chain(
        name, Input(name="x", shape=(2, side, side)), conv("c1", "x", channels, 2),
        lif("lif1", "c1", (channels, side, side), levels),
        SumPool2d(name="pool", inputs=("lif1",), kernel=(2, 2), stride=(2, 2)),
        conv("c2", "pool", channels, channels), lif("lif2", "c2", (channels, half, half), 250),
        Flatten(name="flat", inputs=("lif2",)), dense(rng, "fc", "flat", 10, channels * half**2),
        lif("lif3", "fc", 10, 60, reset="subtract"),
    )  # fmt: skip


def events(graph: Graph, seed: int = 0, batch: int = 2, steps: int = 12) -> Array:
    """Random input in the range of the graph's."""
    rng, node = np.random.default_rng(seed), graph.input
    size = (batch, steps, *node.shape)
    if node.kind == "current":
        assert node.fmt is not None, "an integer graph"
        return rng.integers(node.fmt.range.lo, node.fmt.range.hi + 1, size)
    return rng.integers(1, node.high + 1, size) * (rng.random(size) < 0.25)


def busy(graph: Graph, steps: int) -> Array:
    """A usual sample of an image, whose upper rows fall silent, and one with far more events."""
    data = events(graph, batch=2, steps=steps)
    data[1] = np.random.default_rng(5).random(data[1].shape) < 0.7
    data[0, steps // 2 :, :, :5] = 0  # places that nothing reaches
    return data


def emitted(graph: Graph, device: str = "generic", **options: str) -> Artifact:
    part = BACKEND.devices[device]
    return BACKEND.emit(BACKEND.legalize(graph), part, Plan({}, options=options))


def files_of(graph: Graph, device: str = "generic") -> tuple[tuple[str, bytes], ...]:
    return tuple(emitted(graph, device).files.items())


def agrees(
    graph: Graph, data: Array, executor: str, made: tuple[Network, Files] | None = None
) -> None:
    """Every state, output and decision of an executor is the interpreter's."""
    network, files = made or (build(BACKEND.legalize(graph)), files_of(graph))
    found = record(files, network, data, executor)
    want = interp.run(graph, data)
    mismatch = compare(want, trace(network, found))
    assert mismatch is None, str(mismatch)
    for node, winners in zip(graph.of_type(Output), (found.winners, *found.others.T), strict=True):
        assert np.array_equal(winners, predict(node, summarize(graph, want, node))), node.name


@contextmanager
def rows_alone() -> Iterator[None]:
    """No layer is summed in tiles: rows are added as events come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "FEWEST", 1 << 30)
        build.cache_clear()
        yield
    build.cache_clear()


def write(folder: Path, graph: Graph, device: str = "generic") -> Network:
    """The emitted files in ``folder``."""
    for name, content in emitted(graph, device).files.items():
        (folder / name).write_bytes(content)
    return build(graph)


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    said: str


def run(folder: Path, *command: str) -> Done:
    done = subprocess.run(command, cwd=folder, check=False, text=True, capture_output=True)
    return Done(done.returncode, done.stdout + done.stderr)


def compiles(folder: Path, *command: str) -> None:
    done = run(folder, *command)
    assert done.code == 0, done.said


def zig_object(folder: Path, core: Core, prefix: str, *options: str) -> Path:
    """The object that zig's clang makes for a core at -O2."""
    command = (*ZIG, "cc", "-target", core.target, f"-mcpu={core.cpu}", "-O2", "-std=c99")
    made = folder / f"{prefix}_{core.name}.o"
    compiles(folder, *command, "-fno-unwind-tables", *options, "-c", f"{prefix}.c", "-o", made.name)
    return made


def elf_of(path: Path) -> Any:
    from elftools.elf.elffile import ELFFile

    return ELFFile(io.BytesIO(path.read_bytes()))


def undefined(path: Path) -> list[str]:
    """What `nm -u` shows."""
    symbols = elf_of(path).get_section_by_name(".symtab").iter_symbols()
    return [s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s.name]


def sections(path: Path) -> dict[str, int]:
    """The bytes of code (``text``), constants (``rodata``) and variables in an object."""
    total = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
    for section in elf_of(path).iter_sections():
        for kind in total:
            if section.name == f".{kind}" or section.name.startswith(f".{kind}."):
                total[kind] += section["sh_size"]
    return total
