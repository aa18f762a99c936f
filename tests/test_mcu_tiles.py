"""Dense layers summed in tiles, and leaky neurons updated two at a time, are the interpreter's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND, emulate, tiles, toolchain
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.builds import Built, Files
from qspinn.backends.mcu.execute import record
from qspinn.backends.mcu.network import Network
from qspinn.backends.mcu.samples import trace
from qspinn.backends.mcu.tiles import LANES, TileRows
from qspinn.backends.mcu.tilestage import Tile
from qspinn.backends.mcu.toolchain import CORES, Core

from mcu_builds import WARNINGS, agrees, chain, compiles, files_of, lif, param, state, write
from networks import random_network
from qspinn import interp
from qspinn.fixed import Overflow
from qspinn.ir import Array, Delay, Graph, Input, Lateral, Linear, Node
from qspinn.validate import compare

ARM = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33")
COUNTS = (0, 1, 2, 3, 4, 5, 7, 128, 129, 130, 257, 258, 10_000)
"""Events of a step; the last are all inputs."""


def weights(rng: np.random.Generator, outs: int, ins: int, spread: float = 32) -> Array:
    return np.clip(np.rint(rng.normal(0, spread, (outs, ins))), -128, 127).astype(np.int64)


def leaky(
    name: str, sources: tuple[str, ...], size: int, threshold: object, fmt: str = "s16f0",
    leak: int = 4, start: object = 0, **options: Any,
) -> Any:  # fmt: skip
    """Leaky neurons that decay by a shift, as the packed update has them."""
    made = lif(name, sources, size, threshold, **options)
    decay = param(leak, "leak4") if leak else param(3700, "u13f12")
    values = {**made.values, "decay": decay}
    for key in ("threshold", "bias", "v_reset"):
        if key in values:
            values[key] = param(values[key].values, f"s16{fmt[fmt.index('f') :]}")
    return replace(made, values=values, states={**made.states, "v": state(fmt, start)})


def layer(rng: np.random.Generator, outs: int, ins: int, **options: Any) -> Graph:
    """One layer, whose neurons spike now and then."""
    level = int(options.pop("level", 60 * np.sqrt(ins / 8)))
    threshold = options.pop("threshold", level)
    spread = options.pop("spread", 32)
    return chain(
        "layer", Input(name="x", shape=(ins,)),
        Linear(name="fc", inputs=("x",), weight=param(weights(rng, outs, ins, spread), "s8f0")),
        leaky("lif", ("fc",), outs, threshold, **options),
    )  # fmt: skip


def counted(rng: np.random.Generator, ins: int, counts: tuple[int, ...] = COUNTS) -> Array:
    """Steps with so many events, each sample in another order."""
    data = np.zeros((2, len(counts), ins), np.int64)
    for sample in data:
        for step, count in zip(sample, rng.permutation(counts), strict=True):
            step[rng.permutation(ins)[: min(count, ins)]] = 1
    return data


def tiles_of(graph: Graph) -> list[Tile]:
    return [s for s in build(BACKEND.legalize(graph)).stages if isinstance(s, Tile)]


# --- the packing ---


def test_rows_of_tiles(rng: np.random.Generator) -> None:
    values = weights(rng, 21, 5).T
    rows = TileRows(21, 5)
    lanes = rows.pack(values).astype("<u4").view(np.uint8).reshape(2, 5, LANES // 4, 4)
    held = lanes[..., [0, 2, 1, 3]].reshape(2, 5, LANES).transpose(1, 0, 2).reshape(5, -1)
    assert np.array_equal(held[:, :21].astype(np.int64) - 128, values)
    assert (held[:, 21:] == 128).all()
    assert rows.tiles == 2
    assert rows.stride == 20


def test_what_is_done_by_tiles(rng: np.random.Generator) -> None:
    (tile,) = tiles_of(layer(rng, 64, 40))
    assert tile.packed is not None
    assert tile.packed.spikes == "reach"
    assert not tiles_of(layer(rng, 4, 400))  # most of a tile would be padding
    assert not tiles_of(layer(rng, 12, 20))  # its code would outweigh it
    assert not tiles_of(layer(rng, 64, 3000, spread=90))  # sums do not fit 16 bits
    (tile,) = tiles_of(layer(rng, 64, 40, timing="next_before_decay"))
    assert tile.packed is None
    (tile,) = tiles_of(layer(rng, 64, 40, synapse="new"))
    assert tile.packed is None


# --- sizes, and numbers of events ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("outs", [1, 9, 15, 16, 17, 31, 32, 33, 49])
@pytest.mark.parametrize("kind", ["packed", "one at a time"])
def test_sizes_and_counts(rng: np.random.Generator, outs: int, kind: str) -> None:
    options: dict[str, Any] = {} if kind == "packed" else {"timing": "next_before_decay"}
    graph = layer(rng, outs, 600, **options)
    assert bool(tiles_of(graph)) == (outs > 8)
    agrees(graph, counted(rng, 600), "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", [*ARM, "rv32imc"])
@pytest.mark.parametrize("ins", [70, 600])  # lists of 8 and of 16 bits
def test_counts_on_cores(rng: np.random.Generator, core: str, ins: int) -> None:
    agrees(layer(rng, 33, ins), counted(rng, ins), core)


# --- every neuron that is updated two at a time ---


def variants(rng: np.random.Generator) -> Graph:
    """Leaky neurons of any kind, whose membranes are clipped on both sides at times."""
    outs, ins = int(rng.choice([9, 16, 17, 24, 33, 50])), int(rng.choice([64, 90, 400]))
    fmt = str(
        rng.choice(
            [
                "s9f0",
                "s11f0",
                "s13f0",
                "s14f0",
                "s15f0",
                "s16f0",
                "s16f0",
                "s16f1",
                "s16f3",
                "s16f4",
                "s14f3",
            ]
        )
    )
    high = (1 << (int(fmt[1:].split("f")[0]) - 1)) - 1
    level = int(rng.integers(1, max(min(high, int(rng.choice([60, 3000]))), 2)))
    options: dict[str, Any] = {
        "reset": str(rng.choice(["zero", "subtract", "subtract", "value"])),
        "compare": str(rng.choice([">", ">="])),
        "leak": int(rng.integers(0, 9)) if rng.random() < 0.7 else 0,
    }
    if rng.random() < 0.4:
        options["bias"] = True
    each = rng.random() < 0.3
    threshold = rng.integers(level // 2, level + 1, outs) if each else level
    start = rng.integers(-high, high, outs) if rng.random() < 0.3 else 0
    spread = float(rng.choice([4, 20, 40, 60]))
    values = weights(rng, outs, ins, spread) + int(rng.choice([0, 0, 40]))
    fc: Node = Linear(
        name="fc", inputs=("x",), weight=param(np.clip(values, -128, 127), "s8f0"),
        bias=param(rng.integers(-60, 60, outs if rng.random() < 0.5 else ()), "s8f0")
        if rng.random() < 0.3 else None,
    )  # fmt: skip
    made = leaky("lif", ("fc",), outs, threshold, fmt, start=start, **options)
    if "bias" in made.values and rng.random() < 0.5:
        made = replace(
            made,
            values={**made.values, "bias": param(rng.integers(-90, 90, outs), f"s16f{fmt[-1]}")},
        )
    return chain("variant", Input(name="x", shape=(ins,)), fc, made)


def busy(rng: np.random.Generator, graph: Graph, steps: int = 20) -> Array:
    """Input that drives some neurons up and others down for long."""
    ins = graph.input.shape[0]
    liked = rng.random((2, 1, ins)) < 0.5
    rates = rng.choice([0.02, 0.2, 0.7], (2, steps, 1)) * np.where(liked, 1.0, 0.2)
    return (rng.random((2, steps, ins)) < rates).astype(np.int64)


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("part", range(5))
def test_variants_under_sanitizers(part: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(100 + 8 * part, 108 + 8 * part):
        rng = np.random.default_rng(seed)
        graph = variants(rng)
        data = busy(rng, graph)
        note(seen, graph, data)
        agrees(graph, data, "sanitize")
    assert seen["packed"]
    assert seen["spikes"]


def note(seen: Counter[str], graph: Graph, data: Array) -> None:
    """Count what a network has and does."""
    for tile in tiles_of(graph):
        packed = tile.packed
        seen["packed" if packed else "single"] += 1
        if packed:
            seen[f"tells {packed.spikes}"] += 1
            seen["gap"] += packed.gap > 0 and packed.thresholds is None
            seen["narrow"] += packed.narrow > 0
            seen["factor"] += packed.decay.factor > 0
            seen["fresh"] += packed.fresh > 0
            seen["low"] += packed.low > 0
            seen["thresholds"] += packed.thresholds is not None
            seen["biases"] += bool(packed.biases)
            seen["subtracts"] += packed.reset is None
            seen["moves"] += bool(packed.move)
    got = interp.run(graph, data)
    seen["spikes"] += int(got.output.sum())
    v = got.states["lif.v"]
    fmt = graph["lif"].states["v"].fmt  # type: ignore[attr-defined]
    seen["at the lower end"] += int((v == fmt.range.lo).sum())
    threshold = graph["lif"].values["threshold"].values  # type: ignore[attr-defined]
    seen["at the upper end"] += int((v + threshold >= fmt.range.hi).sum())


def test_variants_have_everything() -> None:
    seen: Counter[str] = Counter()
    for seed in range(100, 140):
        rng = np.random.default_rng(seed)
        graph = variants(rng)
        note(seen, graph, busy(rng, graph))
    wanted = (
        "packed", "single", "tells sign", "tells reach", "tells both", "tells ",
        "gap", "narrow", "factor", "fresh", "low", "thresholds",
        "biases", "subtracts", "moves", "at the lower end", "at the upper end",
    )  # fmt: skip
    assert not [what for what in wanted if not seen[what]], seen


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4", "rv32imc"])
def test_variants_on_cores(core: str) -> None:
    for seed in range(200, 206):
        rng = np.random.default_rng(seed)
        graph = variants(rng)
        agrees(graph, busy(rng, graph), core)


# --- where sums come from ---


def loops(rng: np.random.Generator, ins: int, size: int, steps: int, packed: bool = True) -> Graph:
    """Two layers: the first reads itself some steps later, and inhibits itself as a whole."""
    kept = (rng.random(ins) < 0.6)[None]
    back = Delay(name="back", inputs=("lif1",), shape=(size,), steps=steps)
    lateral = () if packed else ("inh",)
    inhibits: tuple[Node, ...] = (Lateral(name="inh", inputs=("back",), weight=param(-5, "s8f0")),)
    return chain(
        "loops", Input(name="x", shape=(ins,)),
        Linear(name="fc1", inputs=("x",), weight=param(weights(rng, size, ins) * kept, "s8f0")),
        back,
        Linear(name="rec", inputs=("back",), weight=param(weights(rng, size, size, 9), "s8f0")),
        *(() if packed else inhibits),
        leaky("lif1", ("fc1", "rec", *lateral), size, rng.integers(100, 260, size)),
        Linear(name="fc2", inputs=("lif1",), weight=param(weights(rng, 11, size), "s8f0")),
        leaky("lif2", ("fc2",), 11, 130, reset="subtract"), readout="first_spike",
    )  # fmt: skip


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("ins", "size", "steps"), [(60, 50, 1), (700, 90, 3), (80, 300, 2)])
def test_loops_delays_and_dropped_inputs(
    rng: np.random.Generator, ins: int, size: int, steps: int, packed: bool
) -> None:
    graph = loops(rng, ins, size, steps, packed)
    first, _ = tiles_of(graph)
    assert len(first.drives) == 2
    assert (first.packed is not None) == packed
    assert first.drives[0].kept is not None
    agrees(graph, counted(rng, ins), "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4"])
def test_loops_on_cores(rng: np.random.Generator, core: str) -> None:
    graph = loops(rng, 700, 90, 3)
    assert graph.name == "loops"
    agrees(graph, counted(rng, 700, (0, 1, 9, 100, 300)), core)


@pytest.mark.needs("gcc")
def test_lists_that_do_not_fit(rng: np.random.Generator) -> None:
    """Half of 700 neurons may spike at once, and the list has room for 128."""
    graph = chain(
        "full", Input(name="x", shape=(40,)),
        Linear(name="fc1", inputs=("x",), weight=param(weights(rng, 700, 40), "s8f0")),
        leaky("lif1", ("fc1",), 700, 20),
        Linear(name="fc2", inputs=("lif1",), weight=param(weights(rng, 20, 700, 9), "s8f0")),
        leaky("lif2", ("fc2",), 20, 100),
    )  # fmt: skip
    _, last = tiles_of(graph)
    assert last.drives[0].parts
    agrees(graph, counted(rng, 40, (0, 1, 5, 10, 20, 40)), "sanitize")


def wrapping(rng: np.random.Generator) -> Graph:
    graph = layer(rng, 20, 60)
    wraps = state("s12f0", overflow=Overflow.WRAP)
    return graph.map(lambda n: replace(n, states={"v": wraps}) if n.name == "lif" else n)


@pytest.mark.needs("gcc")
def test_what_is_not_packed(rng: np.random.Generator) -> None:
    graph = wrapping(rng)
    (tile,) = tiles_of(graph)
    assert tile.packed is None
    agrees(graph, busy(rng, graph), "sanitize")


# --- compilers ---


@lru_cache(maxsize=8)
def made_by_gcc(files: Files, prefix: str, core: Core, *options: str) -> bytes:
    """The image that GCC makes."""
    riscv = ("riscv64-unknown-elf-gcc", "-march=rv32imc", "-mabi=ilp32", "-mcmodel=medany")
    built = Built(files)
    command = ["arm-none-eabi-gcc", *core.gcc] if core.gcc else [*riscv]
    command += ["-O2", "-std=c99", "-ffreestanding", "-nostdlib", f"-Wl,--entry={prefix}_step"]
    toolchain.compile_(
        [*command, *WARNINGS, *options, f"{prefix}.c", "-o", "image.elf"], built.folder
    )
    return (built.folder / "image.elf").read_bytes()


@pytest.mark.needs("arm-gcc", "unicorn")
@pytest.mark.parametrize("core", ARM)
@pytest.mark.parametrize("options", [(), ("-DLOOPS_PORTABLE_ONLY",), ("-O0",), ("-O3",)])
def test_gcc(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, core: str, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(
        emulate, "linked", lambda files, prefix, c, _: made_by_gcc(files, prefix, c, *options)
    )
    graph = loops(rng, 700, 90, 3)
    agrees(graph, counted(rng, 700, (0, 1, 3, 9, 100)), core)


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("language", ["c99", "c++17"])
def test_warnings(rng: np.random.Generator, tmp_path: Path, language: str) -> None:
    write(tmp_path, loops(rng, 700, 90, 3))
    compiler = ("gcc",) if language == "c99" else ("g++", "-x", "c++")
    compiles(tmp_path, *compiler, f"-std={language}", "-O2", *WARNINGS, "-c", "loops.c")


@pytest.mark.needs("arm-gcc")
@pytest.mark.parametrize("core", ARM)
def test_warnings_of_assembly_as_cpp(rng: np.random.Generator, tmp_path: Path, core: str) -> None:
    write(tmp_path, loops(rng, 700, 90, 3))
    options = (*CORES[core].gcc, "-x", "c++", "-std=c++17", "-O2", "-ffreestanding", *WARNINGS)
    compiles(tmp_path, "arm-none-eabi-gcc", *options, "-c", "loops.c")


@pytest.mark.needs("gcc")
def test_two_networks_in_one_program(rng: np.random.Generator, tmp_path: Path) -> None:
    graph = loops(rng, 60, 50, 1)
    write(tmp_path, graph)
    write(tmp_path, replace(graph, name="other"))
    (tmp_path / "main.c").write_text(
        '#include "loops.h"\n#include "other.h"\n'
        "int main(void) { static loops_state_t a; static other_state_t b;\n"
        "  const uint8_t e[] = {1, 5, 7}; loops_reset(&a); other_reset(&b);\n"
        "  return loops_step(&a, e, 3u) + other_step(&b, e, 3u); }\n"
    )
    options = ("-std=c99", "-O2", *WARNINGS)
    compiles(tmp_path, "gcc", *options, "main.c", "loops.c", "other.c", "-o", "main")
    compiles(tmp_path, "./main")


# --- a test that cannot fail proves nothing ---


def differs(files: Files, network: Network, graph: Graph, data: Array, executor: str) -> bool:
    found = trace(network, record(files, network, data, executor))
    return compare(interp.run(graph, data), found) is not None


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize(
    ("core", "right", "wrong"),
    [
        ("cortex-m4", "ror #8", "ror #16"),
        ("cortex-m3", "lsr #8", "lsr #9"),
        ("cortex-m0plus", "lsrs r3, r2, #8", "lsrs r3, r2, #7"),
        ("rv32imc", "x >> 8", "x >> 7"),
        ("cortex-m4", "& leak", "& ~leak"),
        ("cortex-m4", "0xFFFFu) - 32768", "0xFFFFu) - 32767"),
    ],
)
def test_planted_errors_are_seen(
    rng: np.random.Generator, core: str, right: str, wrong: str
) -> None:
    graph = layer(rng, 33, 70)
    data = counted(rng, 70)
    files = files_of(graph)
    planted = tuple((n, c.replace(right.encode(), wrong.encode())) for n, c in files)
    assert planted != files
    network = build(BACKEND.legalize(graph))
    assert not differs(files, network, graph, data, core)
    assert differs(planted, network, graph, data, core)


# --- random networks ---


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiles whatever they cost."""
    monkeypatch.setattr(tiles, "FEWEST", 1)
    monkeypatch.setattr(tiles, "LEAST", 1)
    build.cache_clear()
    yield
    build.cache_clear()


@pytest.mark.needs("gcc")
@pytest.mark.usefixtures("small")
def test_random_networks() -> None:
    """Whatever else reads and feeds a layer: dense inputs, lateral terms, pools, counts, votes."""
    found = 0
    for seed in range(1200, 1225):
        graph, data = random_network(seed)
        if tiles_of(graph):
            found += 1
            agrees(graph, data, "sanitize")
    assert found > 5
