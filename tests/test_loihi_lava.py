"""Emitted packages in Lava: every register of every neuron at every step equals the reference."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND

from loihi_nets import (
    V,
    W,
    linear,
    net,
    neuron,
    run_both,
    spikes,
    state,
    written,
)
from networks import random_network
from qspinn import interp
from qspinn.errors import BackendError, LegalizeError, ToolchainError
from qspinn.fixed import QFormat, Rounding
from qspinn.ir import (
    Conv1d,
    Conv2d,
    Delay,
    Flatten,
    Graph,
    Linear,
    MaxPool2d,
    Param,
    Scale,
    SumPool2d,
)

pytestmark = pytest.mark.needs("lava")
Rng = np.random.Generator


def weights(rng: Rng, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape)


# --- a real chip ---


def lif_norse() -> Graph:
    """The network that was recorded: weight 10, du 4095, dv 163, vth 25."""
    lif = neuron("lif", ("fc",), (1,), {"decay": 4096 - 163, "threshold": 25})
    return net("lif_norse", (1,), (linear("fc", "input", [[10]], fmt=QFormat(8, 0)), lif))


def test_the_chip(models: Path, tmp_path: Path) -> None:
    """Loihi 2 itself: all spikes, and all voltages but its marker 128 where it spikes."""
    rows = np.loadtxt(models / "traces" / "lif_lava_loihi_fixed.csv", delimiter=",")
    x, v, s = rows.astype(int).T
    graph = run_both(lif_norse(), x[None, :, None], tmp_path, start="cold")
    trace = interp.run(graph, x[None, :, None])
    fired = trace.outputs["out"].reshape(-1)
    np.testing.assert_array_equal(fired, s)
    np.testing.assert_array_equal(np.flatnonzero(fired), [461, 511, 711, 761])
    other = trace.states["lif.v"].reshape(-1) != v
    np.testing.assert_array_equal(np.flatnonzero(other), [461, 511, 711, 761])
    assert (v[other] == 128).all()


# --- stock processes ---


def feed_forward(rng: Rng) -> Graph:
    """LIF with biases in the membrane, CubaLIF with biases as synapses, per-neuron parameters."""
    bias = rng.integers(-60, 90, 12)
    return net("digits", (20,), (
        linear("fc1", "input", weights(rng, 12, 20), bias, bias_fmt=QFormat(13, 2)),
        neuron("lif1", ("fc1",), (12,), {"decay": rng.integers(3000, 4097, 12)}),
        linear("fc2", "lif1", weights(rng, 8, 12), rng.integers(-9, 40, 8)),
        neuron("lif2", ("fc2",), (8,), {"threshold": rng.integers(50, 900, 8)}, synapse="new"),
        linear("fc3", "lif2", weights(rng, 4, 8)),
        neuron("li3", ("fc3",), (4,), reads_out=True, bias=True),
    ))  # fmt: skip


def test_many_samples_in_one_run(rng: Rng, tmp_path: Path) -> None:
    graph = run_both(feed_forward(rng), spikes(rng, (4, 15, 20)), tmp_path)
    assert graph.shifts == {"lif1": 1, "lif2": 2, "li3": 3, "out": 3}
    text = (tmp_path / "network.py").read_text()
    assert "JOINT = True" in text
    assert "vth=131072" in text


def test_cold(rng: Rng, tmp_path: Path) -> None:
    """Biases act from the first step, states start anywhere, each sample in a run of its own."""
    graph = feed_forward(rng)
    start = {"v": state(V, rng.integers(-5000, 5000, 8)), "u": graph["lif2"].states["u"]}
    graph = graph.map(lambda n: replace(n, states=start) if n.name == "lif2" else n)
    cold = run_both(graph, spikes(rng, (2, 12, 20)), tmp_path, start="cold")
    assert cold.start == "cold"
    assert not cold.shifts
    assert [n.steps for n in cold.of_type(Delay)] == [1, 1, 1]


def test_recurrence_delays_and_skips(rng: Rng, tmp_path: Path) -> None:
    """Delays are taken by synapses; a start from anywhere is set by the host."""
    back = Delay(name="back", inputs=("lif1",), shape=(9,), steps=1)
    late = Delay(name="late", inputs=("input",), shape=(7,), steps=3)
    graph = net("recurrent", (7,), (
        back, late,
        linear("fc1", "input", weights(rng, 9, 7)), linear("rec", "back", weights(rng, 9, 9)),
        neuron("lif1", ("fc1", "rec"), (9,), {"bias": 900}, bias=True, synapse="new"),
        linear("fc2", "lif1", weights(rng, 5, 9)), linear("skip", "late", weights(rng, 5, 7)),
        neuron("lif2", ("fc2", "skip"), (5,), v0=rng.integers(-9000, 9000, 5)),
    ))  # fmt: skip
    run_both(graph, spikes(rng, (2, 14, 7)), tmp_path)
    text = (tmp_path / "network.py").read_text()
    assert "JOINT = False" in text
    assert "DelayDense" in text
    assert "(2, 'lif2', 'v', 'lif2.v')" in text


def test_a_bias_that_fires_before_the_start(rng: Rng, tmp_path: Path) -> None:
    """Its spikes would come out of the delay after the start, so the host sets the bias then."""
    back = Delay(name="back", inputs=("lif2",), shape=(4,), steps=2)
    graph = net("early", (5,), (
        back,
        linear("fc1", "input", weights(rng, 6, 5)), neuron("lif1", ("fc1",), (6,)),
        linear("fc2", "lif1", weights(rng, 4, 6)), linear("rec", "back", weights(rng, 4, 4)),
        neuron("lif2", ("fc2", "rec"), (4,), {"bias": 13000}, bias=True),
    ))  # fmt: skip
    run_both(graph, spikes(rng, (1, 10, 5)), tmp_path)
    assert "'bias_mant'" in (tmp_path / "network.py").read_text()


def test_images(rng: Rng, tmp_path: Path) -> None:
    """Convolutions, sums and maxima over windows, a connection one to one, a flat end."""
    graph = net("images", (2, 9, 8), (
        Conv2d(
            name="conv1", inputs=("input",), weight=Param(weights(rng, 4, 1, 3, 2), W),
            bias=Param(rng.integers(-40, 99, 4), QFormat(13, 1)), stride=(2, 1), padding=(1, 1),
            dilation=(1, 2), groups=2,
        ),
        neuron("lif1", ("conv1",), (4, 5, 8), {"threshold": 120}),
        MaxPool2d(name="max", inputs=("lif1",), kernel=(2, 2), stride=(1, 2)),
        Conv2d(name="conv2", inputs=("max",), weight=Param(weights(rng, 3, 4, 2, 2), W)),
        neuron("lif2", ("conv2",), (3, 3, 3), {"threshold": 150}, synapse="new"),
        SumPool2d(name="sum", inputs=("lif2",), kernel=(2, 2), stride=(1, 1)),
        Flatten(name="flat", inputs=("sum",)),
        linear("fc", "flat", weights(rng, 5, 12)),
        neuron("lif3", ("fc",), (5,)),
        Scale(name="one", inputs=("lif3",), scale=Param(rng.integers(1, 128, 5), QFormat(8, 0))),
        neuron("lif4", ("one",), (5,)),
    ))  # fmt: skip
    legal = run_both(graph, spikes(rng, (2, 8, 2, 9, 8)), tmp_path)
    assert [type(legal[n]).__name__ for n in ("max_window", "max")] == ["Conv2d", "Neuron"]
    assert legal.shifts["lif4"] == 5


def test_one_dimension_counts_and_late_kernels(rng: Rng, tmp_path: Path) -> None:
    """Conv1d over counts; a kernel behind a delay is written out, for only matrices can wait."""
    late = Delay(name="late", inputs=("input",), shape=(2, 11), steps=2, kind="count", high=3)
    kernel = Param(weights(rng, 3, 2, 3), W)
    graph = net("line", (2, 11), (
        late,
        Conv1d(name="conv1", inputs=("input",), weight=kernel, padding=1, stride=2),
        Conv1d(name="conv2", inputs=("late",), weight=kernel, padding=2, stride=2, dilation=2),
        neuron("lif1", ("conv1", "conv2"), (3, 6), {"threshold": rng.integers(90, 999, (3, 1))}),
        Flatten(name="flat", inputs=("lif1",)),
        Linear(name="fc", inputs=("flat",), weight=Param(weights(rng, 4, 18), W)),
        neuron("li", ("fc",), (4,), reads_out=True, synapse="new"),
    ), kind="count", high=3)  # fmt: skip
    run_both(graph, spikes(rng, (2, 10, 2, 11), high=3), tmp_path)
    assert "DelayDense" in (tmp_path / "network.py").read_text()


def test_large_thin_matrices_are_sparse(rng: Rng, tmp_path: Path) -> None:
    gain = Param(rng.integers(-128, 128, (90,)), W)
    nothing = Param(np.zeros(90, int), W)
    late = Delay(name="late", inputs=("input",), shape=(90,), steps=1)
    graph = net("thin", (90,), (
        late,
        Scale(name="now", inputs=("input",), scale=gain),
        Scale(name="then", inputs=("late",), scale=gain),
        neuron("lif", ("now", "then"), (90,)),
        Scale(name="none", inputs=("lif",), scale=nothing),
        neuron("last", ("none",), (90,)),
    ))  # fmt: skip
    run_both(graph, spikes(rng, (1, 12, 90)), tmp_path)
    text = (tmp_path / "network.py").read_text()
    assert "now = Sparse" in text
    assert "then = DelaySparse" in text


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_of_stock_neurons(seed: int, tmp_path: Path) -> None:
    graph, data = random_network(9000 + seed, profile="loihi")
    legal = run_both(graph, data, tmp_path, start="cold" if seed == 5 else "skewed")
    text = (tmp_path / "network.py").read_text()
    assert "neurons_" not in text, legal.name


# --- process models of our own ---


@pytest.mark.parametrize(
    "rules",
    [
        ({"reset": "subtract"}, {"timing": "next_before_decay"}, {"synapse": "old", "bias": True}),
        ({"refractory": True}, {"max_spikes": 7, "reset": "subtract"}, {"compare": ">="}),
        ({"timing": "next_discard"}, {"clamp": True, "reset": "value"}, {"synapse": "old"}),
    ],
    ids=["subtract-late-old", "refractory-several-ge", "discard-clamp-old"],
)
def test_neurons_that_lava_lacks(rules: tuple[dict, ...], rng: Rng, tmp_path: Path) -> None:
    nodes: list = []
    source, size = "input", 10
    for k, rule in enumerate(rules):
        bias = rng.integers(-3, 20, 8) if k else None
        nodes += [
            linear(f"fc{k}", source, weights(rng, 8, size), bias),
            neuron(f"lif{k}", (f"fc{k}",), (8,), {"threshold": 160}, **rule),
        ]
        source, size = f"lif{k}", 8
    run_both(net("own", (10,), tuple(nodes)), spikes(rng, (3, 12, 10)), tmp_path)
    for k in range(len(rules)):
        own = (tmp_path / f"neurons_lif{k}" / "__init__.py").read_text()
        assert "simulator only" in own


@pytest.mark.parametrize("rounding", [Rounding.FLOOR, Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY])
def test_other_roundings(rounding: Rounding, rng: Rng, tmp_path: Path) -> None:
    fmt = QFormat(12, 3)
    lif = neuron("lif", ("conv",), (2, 4, 3))
    values = {
        "decay": Param(rng.integers(0, 256, (2, 4, 3)), QFormat(8, 8, signed=False), rounding),
        "threshold": Param(500, fmt),
    }
    lif = replace(lif, values=values, states={"v": state(fmt, rounding=rounding)})
    conv = Conv2d(
        name="conv", inputs=("input",), weight=Param(weights(rng, 2, 1, 2, 2), QFormat(8, 0))
    )
    run_both(net("roundings", (1, 5, 4), (conv, lif)), spikes(rng, (2, 8, 1, 5, 4)), tmp_path)


def test_names_of_any_kind(rng: Rng, tmp_path: Path) -> None:
    """Names become identifiers and file names, and end no string, comment or table."""
    one, two = 'a "b"\n# c', "lambda"
    lif = replace(neuron(two, ("fc'1",), (3,), reset="subtract"), name=two)
    graph = net('n"""\\\n\'x', (4,), (
        replace(linear("fc'1", "input", weights(rng, 3, 4)), name="fc'1"),
        lif,
        linear("Fc_1", two, weights(rng, 2, 3)),
        neuron(one, ("Fc_1",), (2,)),
    ))  # fmt: skip
    run_both(graph, spikes(rng, (1, 6, 4)), tmp_path)


# --- assumptions, and what goes wrong ---


def crowded(rng: Rng) -> Graph:
    """A neuron whose summed input is not bounded by 16 bits."""
    wide = linear("fc", "input", np.full((2, 200), 127), fmt=QFormat(8, -1))
    return net("crowded", (200,), (wide, neuron("lif", ("fc",), (2,))))


@pytest.mark.parametrize("executor", ["lava", "lava-models"])
def test_an_assumed_activation_is_watched(executor: str, rng: Rng, tmp_path: Path) -> None:
    graph = crowded(rng)
    with pytest.raises(LegalizeError, match=r"lie in \[0, 50800\], the limit is 32767"):
        BACKEND.legalize(graph)
    few, many = spikes(rng, (1, 5, 200), 0.2), np.ones((1, 5, 200), int)
    legal = run_both(graph, few, tmp_path, executor, assume_activation={"lif": 16000})
    with pytest.raises(BackendError, match="reached 50800; it was assumed to stay within 32767"):
        BACKEND.run(tmp_path, legal, many, executor)
    with pytest.raises(LegalizeError, match="twice the observed peak 16384"):
        BACKEND.legalize(graph, assume_activation={"lif": 16384})


@pytest.mark.parametrize("executor", ["lava", "lava-models"])
def test_a_failing_process_of_lava_is_heard(executor: str, tmp_path: Path) -> None:
    """Lava keeps such errors to itself, or hangs."""
    legal = BACKEND.legalize(lif_norse())
    script = written(legal, tmp_path) / "network.py"
    script.write_text(script.read_text().replace("dv=163", 'dv="x"'))
    with pytest.raises(BackendError, match=r"(?s)failed with exit code 1.*Error"):
        BACKEND.run(tmp_path, legal, np.ones((1, 4, 1), int), executor)


def test_a_hanging_run_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qspinn.backends.loihi import execute

    monkeypatch.setattr(execute, "_limit", lambda graph, data: 0.7)
    (tmp_path / "run.py").write_text("print('I wait', flush=True)\nimport time\ntime.sleep(99)\n")
    legal = BACKEND.legalize(lif_norse())
    with pytest.raises(BackendError, match=r"(?s)did not end within.*I wait"):
        execute.run(tmp_path, legal, np.ones((1, 4, 1), int), "lava")


def test_a_run_configuration_of_one_s_own(tmp_path: Path) -> None:
    legal = BACKEND.legalize(lif_norse())
    written(legal, tmp_path)
    data = np.ones((1, 12, 1), np.int64)
    np.save(tmp_path / "in.npy", data)
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "from lava.magma.core.run_configs import Loihi2SimCfg\n"
        "def simulated():\n"
        "    Path('used').touch()\n"
        "    return Loihi2SimCfg(select_tag='fixed_pt')\n"
    )

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-B",
            "run.py",
            "--input",
            "in.npy",
            "--output",
            "out.npy",
            *words,
        ]
        return subprocess.run(command, check=False, cwd=tmp_path, text=True, capture_output=True)

    done = run("--config", "mine:simulated")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "used").exists()
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), interp.run(legal, data).output)
    for config, why in (
        ("mine:real", "has no attribute 'real'"), ("yours:simulated", "No module named 'yours'"),
        ("builtins:dict", "makes a dict, not a RunConfig of Lava"),
    ):  # fmt: skip
        refused = run("--config", config)
        assert refused.returncode == 2
        assert f"--config {config}: " in refused.stderr
        assert why in refused.stderr
    assert run("--config", "mine:simulated", "--models").returncode == 2


def test_bad_input_is_refused_by_the_package(tmp_path: Path) -> None:
    legal = BACKEND.legalize(lif_norse())
    written(legal, tmp_path)
    with pytest.raises(BackendError, match=r"(?s)exit code 2.*from 2 to 2, the input takes 0 to 1"):
        BACKEND.run(tmp_path, legal, np.full((1, 4, 1), 2), "lava")
    with pytest.raises(BackendError, match="has no executor 'chip'"):
        BACKEND.run(tmp_path, legal, np.ones((1, 4, 1), int), "chip")


def test_an_absent_lava_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qspinn.backends.loihi import interpreters

    monkeypatch.setenv("QSPINN_LAVA_PYTHON", str(tmp_path / "python"))
    monkeypatch.setattr(interpreters, "find_spec", lambda name: None)
    for executor, said, hint in (
        ("lava", "lava is not installed: lava-nc is missing, numpy is", "doctor --install lava"),
        ("lava-models", "lava-models is not installed: lava-nc", "doctor --install lava"),
        ("lava310", "lava310 is not installed", "setup-lava310"),
    ):
        with pytest.raises(ToolchainError, match=said) as caught:
            BACKEND.run(tmp_path, lif_norse(), np.ones((1, 4, 1), int), executor)
        assert hint in caught.value.hint
    assert [tool.found for tool in BACKEND.tools()] == ["", ""]


@pytest.mark.needs("lava310")
def test_lava_as_it_ships(rng: Rng, tmp_path: Path, require: Callable[[str], None]) -> None:
    data = spikes(rng, (2, 10, 20))
    run_both(feed_forward(rng), data, tmp_path / "stock", "lava310")
    graph, drawn = random_network(9100, profile="loihi")
    run_both(graph, drawn, tmp_path / "random", "lava310")
    own = net("own", (20,), (
        linear("fc", "input", weights(rng, 6, 20)), neuron("lif", ("fc",), (6,), reset="subtract"),
    ))  # fmt: skip
    run_both(own, data, tmp_path / "own", "lava310")
