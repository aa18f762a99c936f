"""Several outputs in C: one step, and every output with what its readout keeps."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND, costmodel
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.builds import Files
from qspinn.backends.mcu.costmodel import COST
from qspinn.backends.mcu.costparts import inference
from qspinn.backends.mcu.eight import is_eight
from qspinn.backends.mcu.emulate import stack_bytes
from qspinn.backends.mcu.execute import record
from qspinn.backends.mcu.network import Network, Read
from qspinn.backends.mcu.packages import KINDS
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import (
    WARNINGS,
    agrees,
    compiles,
    emitted,
    events,
    files_of,
    lif,
    mlp,
    run,
    sections,
    valued,
    write,
    zig_object,
)
from mcu_outputs import NETS, forked, random_outputs, two_inputs, with_outputs
from qspinn import interp
from qspinn.activity import observed
from qspinn.backend import Sample
from qspinn.errors import LegalizeError
from qspinn.interp import Trace
from qspinn.ir import Array, Graph, Input, Output
from qspinn.output import write_folder
from qspinn.plan import Plan
from qspinn.ports import entering
from qspinn.validate import compare
from test_early_exit import board_of, compared, settled
from test_mcu_cost import OFF, error
from test_mcu_footprint import USUAL, flash_data, footprint_of
from test_mcu_selftest import on_core, on_host, prepared, spoil

CORES_TESTED = ("cortex-m0plus", "cortex-m4", "rv32imc")
SEEDS = range(700, 712)


def made_for(graph: Graph, device: str) -> tuple[Network, Files]:
    eight = is_eight(BACKEND.devices[device])
    return build(BACKEND.legalize(graph), eight=eight), files_of(graph, device)


# --- every output of every step ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", NETS)
def test_on_the_host(name: str) -> None:
    graph = NETS[name]()
    agrees(graph, events(graph, batch=4), "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", CORES_TESTED)
@pytest.mark.parametrize("name", NETS)
def test_on_cores(name: str, core: str) -> None:
    graph = NETS[name]()
    agrees(graph, events(graph), core)


@pytest.mark.needs("avr-gcc", "simavr", "gcc")
@pytest.mark.parametrize("name", ["forked", "looping"])
def test_on_avr(name: str) -> None:
    graph = NETS[name]()
    agrees(graph, events(graph), "simavr-atmega2560", made_for(graph, "atmega2560"))


@pytest.mark.needs("arm-gcc", "qemu")
def test_in_qemu() -> None:
    agrees(forked(), events(forked()), "qemu-cortex-m3")


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_on_the_host(seed: int) -> None:
    graph, data = random_outputs(seed)
    agrees(graph, data, "sanitize")


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", CORES_TESTED)
@pytest.mark.parametrize("seed", SEEDS[::4])
def test_random_networks_on_cores(seed: int, core: str) -> None:
    graph, data = random_outputs(seed)
    agrees(graph, data[:2], core)


@pytest.mark.needs("avr-gcc", "simavr", "gcc")
@pytest.mark.parametrize("seed", SEEDS[1::4])
def test_random_networks_on_avr(seed: int) -> None:
    graph, data = random_outputs(seed)
    agrees(graph, data[:1], "simavr-atmega2560", made_for(graph, "atmega2560"))


def test_random_networks_have_every_readout() -> None:
    found = [node for seed in SEEDS for node in random_outputs(seed)[0].of_type(Output)[1:]]
    assert len({node.readout for node in found}) == 5
    assert len(found) > 2 * len(SEEDS)


@pytest.mark.needs("gcc")
def test_a_wrong_output_is_seen() -> None:
    """Also where it is not the one that decides, and no state differs."""
    graph = forked()
    network, files = build(BACKEND.legalize(graph)), dict(files_of(graph))
    impl = files["forked_impl.h"]
    assert impl.count(b"s->score_step[i]++") == 1
    files["forked_impl.h"] = impl.replace(b"s->score_step[i]++", b"s->score_step[0] += 2u")
    with pytest.raises(AssertionError, match="step"):
        agrees(graph, events(graph, batch=4), "host", (network, tuple(files.items())))


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("input_", ["events", "mask"])
def test_beside_several_inputs_and_forms(input_: str, tmp_path: Path) -> None:
    """Every input in one list or mask, and every output, from the files in a folder."""
    graph = two_inputs()
    made = emitted(graph, input=input_)
    write_folder(tmp_path, made.files, {})
    (size,) = entering(graph.of_type(Input))
    data = (np.random.default_rng(6).random((3, 9, size)) < 0.3).astype(np.int64)
    want = interp.run(graph, data)
    got = BACKEND.run(tmp_path, graph, data, "host")
    assert compare(want, got) is None
    assert all(values.any() for values in want.outputs.values())
    assert list(got.outputs) == ["out", "early"]


@pytest.mark.needs("gcc")
def test_values_that_are_loaded_once(tmp_path: Path) -> None:
    graph = with_outputs(valued(), Output(name="early", inputs=("lif1",), readout="count"))
    data = np.repeat(events(graph, batch=2, steps=1), 9, axis=1)
    for form in ("values", "load"):
        folder = tmp_path / form
        write_folder(folder, emitted(graph, input=form).files, {})
        assert compare(interp.run(graph, data), BACKEND.run(folder, graph, data, "host")) is None


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("kind", KINDS)
def test_packages(kind: str, tmp_path: Path) -> None:
    """They name every output, and their example runs."""
    graph, part = forked(), BACKEND.devices["generic"]
    sample = Sample(events(graph)[0], "random events")
    made = BACKEND.self_tested(emitted(graph), graph, part, Plan({}), sample)
    assert made.facts["selftest"]["others"].keys() == {
        "who_votes", "step", "high", "last", "wire", "again", "echo"
    }  # fmt: skip
    facts = {"device": "generic", "footprint": [], "accuracy": None, "baseline_bytes": 1,
             "facts": made.facts}  # fmt: skip
    files = BACKEND.package(made, graph, part, Plan({}), facts, kind)
    readme = next(v for k, v in files.items() if k.endswith("README.md")).decode()
    assert "forked_who_votes_winner(&state);" in readme
    assert ", of who_votes " in readme
    if kind != "cmake":
        return
    for path, content in files.items():
        (tmp_path / Path(path).name).write_bytes(content)
    compiles(tmp_path, "gcc", "-std=c99", *WARNINGS, "-DFORKED_ENABLE_SELFTEST", "main.c",
             "forked.c", "-o", "main")  # fmt: skip
    done = run(tmp_path, str(tmp_path / "main"))
    assert (done.code, "self-test passed" in done.said) == (0, True)


# --- what readouts keep ---


def kept(read: Read, graph: Graph, trace: Trace) -> Array:
    """What a readout keeps after every step, (batch, steps, decisions)."""
    sent = trace.outputs[read.output]
    sent = sent.reshape(*sent.shape[:2], -1)
    if read.readout == "membrane_max":
        return np.maximum.accumulate(sent, axis=1)
    if read.readout == "first_spike":
        steps = np.arange(sent.shape[1])[:, None]
        when = np.where(sent > 0, steps, (1 << 32) - 1)
        return np.minimum.accumulate(when, axis=1)
    if read.vote is not None:
        (node,) = (x for x in graph.of_type(Output) if x.name == read.output)
        of = np.array(node.labels)[:, None] == np.arange(max(node.labels) + 1)
        sent = sent @ of.astype(np.int64)
    return np.cumsum(sent, axis=1)


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", NETS)
def test_scores_of_every_step(name: str) -> None:
    graph = NETS[name]()
    data = events(graph, batch=3)
    network, trace = build(BACKEND.legalize(graph)), interp.run(graph, data)
    found = record(files_of(graph), network, data, "host")
    for read in network.reads:
        if read.score is not None:
            stored = found.states[read.score.name].astype(np.int64)
            assert np.array_equal(stored, kept(read, graph, trace)), read.output
    assert sum(read.score is not None for read in network.reads) >= 2


# --- names ---


@pytest.mark.needs("gcc", "g++")
def test_the_deciding_output_has_two_names(tmp_path: Path) -> None:
    network = write(tmp_path, forked())
    (tmp_path / "main.c").write_text(
        '#include "forked.h"\nint main(void)\n{\n    static forked_state_t s;\n'
        "    forked_reset(&s);\n"
        "    return forked_kind_winner(&s) != forked_winner(&s)\n"
        "        || forked_kind_score(&s, 1u) != forked_score(&s, 1u)\n"
        "        || FORKED_NUM_OUTPUTS_KIND != FORKED_NUM_OUTPUTS\n"
        "        || forked_who_votes_score(&s, FORKED_NUM_OUTPUTS_WHO_VOTES - 1u) != 0u\n"
        "        || forked_who_votes_output(&s, FORKED_NUM_VOTERS_WHO_VOTES - 1u) != 0\n"
        "        || forked_high_output(&s, FORKED_NUM_OUTPUTS_HIGH) != 0;\n}\n"
    )
    for command in (("gcc", "-std=c99"), ("g++", "-xc++", "-std=c++17")):
        compiles(tmp_path, *command, *WARNINGS, "main.c", f"{network.prefix}.c", "-o", "main")
        assert run(tmp_path, str(tmp_path / "main")).code == 0
    header = (tmp_path / "forked.h").read_text()
    said = dict(re.findall(r"#define FORKED_NUM_OUTPUTS_(\w+) +(\d+)u", header))
    assert said == {"WHO_VOTES": "4", "STEP": "24", "HIGH": "6", "LAST": "6", "WIRE": "40",
                    "AGAIN": "40", "ECHO": "40"}  # fmt: skip


@pytest.mark.needs("gcc")
def test_any_names_make_c(tmp_path: Path) -> None:
    """Alike but for case, keywords, names of functions, comments, nothing in ASCII, a node's."""
    names = ("Kind", "kind", "kind?", "winner", "default", "score", "*/", "", "1st", "size",
             "out_2", "lif1", "state", "step")  # fmt: skip
    nodes = [Output(name=f"{n} ", inputs=("lif1",), readout="first_spike") for n in names]
    layer = lif("kind_winner", "fc1", 9, 30)
    graph = mlp("many")
    graph = replace(graph, nodes=(*graph.nodes[:-1], layer, graph.nodes[-1], *nodes))
    network = write(tmp_path, graph)
    compiles(tmp_path, "gcc", "-std=c99", *WARNINGS, "-c", f"{network.prefix}.c", "-o", "made.o")
    assert len({read.word for read in network.reads}) == len(names) + 1
    agrees(graph, events(graph), "host")


def test_one_output_is_named_as_ever() -> None:
    files = emitted(mlp()).files
    text = b"".join(files.values()).decode()
    assert not re.search(r"MLP_NUM_OUTPUTS_|mlp_\w+_winner", text)


def test_an_order_of_outputs_is_an_order_of_decisions() -> None:
    graph = forked().deciding("step")
    network = build(BACKEND.legalize(graph))
    assert (network.read.output, network.read.word) == ("step", "step")
    assert "forked_kind_winner" in emitted(graph).files["forked.h"].decode()
    one = build(BACKEND.legalize(graph.only("step")))
    assert (one.others, one.read.word, one.read.start) == ((), "", "")


def test_no_output_is_refused() -> None:
    graph = mlp()
    with pytest.raises(LegalizeError, match="it has no Output node"):
        BACKEND.legalize(replace(graph, nodes=graph.nodes[:-1]))


# --- the self-test, and what ends early ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", NETS)
def test_selftest_on_the_host(name: str, tmp_path: Path) -> None:
    assert on_host(tmp_path, prepared(NETS[name](), tmp_path)) == 0


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", CORES_TESTED)
def test_selftest_on_cores(core: str, tmp_path: Path) -> None:
    assert on_core(tmp_path, prepared(forked(), tmp_path), core) == 0


@pytest.mark.needs("gcc")
def test_selftest_notices_every_output(tmp_path: Path) -> None:
    """What leaves in a step, and the decision of each output."""
    graph = forked()
    network = prepared(graph, tmp_path)
    path = tmp_path / "forked_selftest.h"
    text = path.read_text()
    for read in network.others:
        macro = f"FORKED_SAMPLE_WINNER{read.end}"
        changed = re.sub(rf"{macro} (\d+)u", lambda m: f"{m[0][:-2]}99u", text)
        assert changed != text
        path.write_text(changed)
        assert on_host(tmp_path, network) == 13, read.output
    path.write_text(text)
    impl = tmp_path / "forked_impl.h"
    code = impl.read_text()
    for read in network.reads:
        head = f"forked_{read.start}output(const forked_state_t *s, uint32_t i)\n{{\n"
        assert code.count(head) == 1
        impl.write_text(
            code.replace(head, f"{head}    if (i == 1u) {{\n        return 77;\n    }}\n")
        )
        assert on_host(tmp_path, network) == 1, read.output
    impl.write_text(code)
    spoil(tmp_path, "forked_selftest_digests", 3, lambda value: value ^ 1)
    assert on_host(tmp_path, network) == 4


@pytest.mark.needs("zig", "unicorn")
def test_only_the_deciding_output_ends_a_sample() -> None:
    """What it says is settled as soon as without the others."""
    graph = with_outputs(mlp(), Output(name="other", inputs=("lif1",), readout="first_spike"))
    steps = 16
    data = events(graph, seed=5, batch=3, steps=steps)
    trace = interp.run(graph, data)
    want = settled(graph, trace, steps)
    assert np.array_equal(want, settled(mlp(), interp.run(mlp(), data), steps))
    compared(graph, trace, data, want, board_of(graph))


# --- memory and costs ---


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("name", NETS)
def test_memory_to_the_byte(name: str, tmp_path: Path) -> None:
    graph = NETS[name]()
    network = write(tmp_path, graph)
    for core in CORES_TESTED:
        found = footprint_of(graph, core)
        made = zig_object(tmp_path, CORES[core], network.prefix)
        real = sections(made)
        assert real["rodata"] == flash_data(found)
        assert real["data"] == real["bss"] == 0
        assert abs(found.of("code") / real["text"] - 1) < 0.07, f"{real['text']} B on {core}"
        assert found.of("state") == network.struct.bytes
        data = events(graph, batch=1, steps=6)
        stack = stack_bytes(files_of(graph), network, data, CORES[core])
        assert stack <= found.of("stack")


@pytest.mark.needs("avr-gcc")
def test_memory_of_an_avr(tmp_path: Path) -> None:
    graph = forked()
    network = write(tmp_path, graph, "atmega2560")
    (tmp_path / "ram.c").write_text(
        f'#include "{network.prefix}.h"\n{network.prefix}_state_t kept;\n'
    )
    compiles(
        tmp_path, "avr-gcc", "-mmcu=atmega2560", "-O2", "-fno-common", "-c", "ram.c", "-o", "r.o"
    )
    found = BACKEND.footprint(BACKEND.legalize(graph), BACKEND.devices["atmega2560"])
    assert sections(tmp_path / "r.o")["bss"] == found.of("state")


@pytest.mark.needs("zig", "arm-gcc", "unicorn")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_costs_of_every_output(core: str) -> None:
    """Steps note what each readout needs, and an inference asks all of them."""
    graph = with_outputs(
        USUAL["mlp"](), Output(name="hidden", inputs=("lif1",), readout="count"),
        Output(name="first", inputs=("lif1",), readout="first_spike"),
    )  # fmt: skip
    table = COST[f"{CORES[core].isa} gcc"]
    assert abs(error(graph, core, "gcc", table)) < OFF
    activity = observed(graph, events(graph, batch=1, steps=24), engine="numpy")
    several, one = (
        sum(costmodel.instructions(x.parts, table) for x in inference(build(g), activity))
        for g in (graph, graph.only("out"))
    )
    assert several > 1.02 * one
