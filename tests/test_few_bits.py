"""Binary and ternary weights: every executor takes them for what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND

from networks import random_network
from qspinn import storage
from qspinn.backend import backend
from qspinn.errors import PlanError, VerifyError
from qspinn.fixed import QFormat
from qspinn.interp import run
from qspinn.ir import CONNECTIONS, Array, Graph, Linear, Node, Param, State
from qspinn.passes.quantize import quantize
from qspinn.plan import parse
from qspinn.simulate import simulate
from qspinn.text import text
from qspinn.validate import check_artifact, compare

FORMS = ("binary", "ternary")


def few(graph: Graph, form: str) -> Graph:
    """The network with weights of two or three values, about as large as they were."""

    def change(node: Node) -> Node:
        if not isinstance(node, CONNECTIONS):
            return node
        name = "weight" if "weight" in node.params() else "scale"
        old = node.params()[name]
        assert old.fmt is not None
        mean = max(float(np.abs(old.values).mean()), 1.0)
        frac = old.fmt.frac - round(np.log2(mean))
        if form == "binary":
            return node.with_params({name: Param(np.where(old.values >= 0, 1, -1), binary(frac))})
        values = np.sign(old.values) * (2 * np.abs(old.values) > mean)
        return node.with_params({name: Param(values, QFormat(2, frac, True, -1, 1))})

    return graph.map(change)


def binary(frac: int) -> QFormat:
    return QFormat(1, frac, binary=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(20, 32))
def test_the_simulator_agrees(seed: int, form: str) -> None:
    graph, data = random_network(seed)
    graph = few(graph, form)
    assert compare(run(graph, data), simulate(graph, data, record="trace").trace) is None


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(40, 43))
def test_firmware_agrees(seed: int, form: str, tmp_path: Path) -> None:
    graph, data = random_network(seed)
    proves(few(graph, form), data, tmp_path, "mcu", "sanitize")


@pytest.mark.needs("lava")
@pytest.mark.parametrize("form", FORMS)
def test_lava_agrees(form: str, tmp_path: Path) -> None:
    graph, data = random_network(45, profile="loihi")
    proves(few(graph, form), data, tmp_path, "loihi", "lava")


def proves(graph: Graph, data: Array, folder: Path, target: str, executor: str) -> None:
    found = backend(target)
    final = found.legalize(graph)
    artifact = found.emit(final, found.devices[found.default_device], parse(""))
    for name, content in artifact.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    verdict = check_artifact(found, folder, final, data, executor)
    assert verdict.mismatch is None, str(verdict.mismatch)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_and_a_text_name_the_format(form: str, tmp_path: Path) -> None:
    graph = few(random_network(20)[0], form)
    storage.save(graph, tmp_path / "net.qspinn")
    assert storage.load(tmp_path / "net.qspinn").digest == graph.digest
    assert (": b1f" if form == "binary" else "[-1,1]") in text(graph)


def test_one_bit_a_weight_in_firmware() -> None:
    rng = np.random.default_rng(2)
    graph = random_network(20)[0]
    first = next(n for n in graph.nodes if isinstance(n, Linear))
    outs, ins = first.weight.values.shape
    whole = replace(first, weight=Param(rng.choice((-1, 1), (outs, ins)), binary(0)))
    lines = BACKEND.footprint(
        graph.map(lambda n: whole if n is first else n), BACKEND.devices[BACKEND.default_device]
    ).lines
    held = next(line.bytes for line in lines if line.owner == f"{first.path}.weight")
    assert held <= ins * -(-outs // 8) + 8


def test_only_weights_are_binary() -> None:
    from graphs import mlp
    from qspinn.ir import Neuron
    from qspinn.verify import verify

    graph = few(random_network(20)[0], "binary")
    node = graph.of_type(Neuron)[0]
    one = Param(1, binary(0))
    name = next(iter(node.states))
    states = {**node.states, name: State(one, binary(0))}
    for changed in (
        replace(node, values=dict.fromkeys(node.values, one)),
        replace(node, states=states),
    ):
        new = graph.map(lambda n, new=changed: new if n is node else n)
        with pytest.raises(VerifyError, match="binary format"):
            verify(new)
    lines = ("fc{0}.weight b1f0 floor saturate", "fc{0}.bias s8f0 floor saturate",
             "lif{0}.v b1f0 floor saturate", "lif{0}.threshold s8f0 floor saturate",
             "lif{0}.decay u9f8 floor error")  # fmt: skip
    plan = parse("\n".join(line.format(i) for line in lines for i in (1, 2)))
    with pytest.raises(PlanError, match=r"lif1\.v: only weights can have a binary format"):
        quantize(mlp(), plan)
