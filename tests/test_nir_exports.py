"""What each framework's own exporter writes is read as that framework runs it, or asked about.

A table of exporters and neuron models. For each the file without options is either read as the
framework's, or refused with a question; with what the question asks for, every spike is that of
the framework's own run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live_nets import in_double, lively, quietly, spikes, steps_of, tensor
from qspinn import interp
from qspinn.errors import FrontendError
from qspinn.frontends import load_model

pytestmark = [
    pytest.mark.needs("nirtorch"),
    pytest.mark.filterwarnings("ignore:nirtorch.* is being deprecated:DeprecationWarning"),
]
SIZE = 20
Made = tuple[Any, Callable[[Any], Any]]
"""A network, and what runs it: spikes (batch, steps, ...) of spikes."""


@dataclass(frozen=True)
class Row:
    """One exporter's neuron.

    Attributes:
        framework: A fixture's name.
        make: Of it the network and its run, written to a path.
        asks: What the file without options asks for: where an error is, or nothing.
        answer: The options that answer it.
        several: Whether a spike may be a count.
        also: Other answers, which the question must list, and which mean other spikes.
    """

    framework: str
    make: Callable[[Path], Made]
    asks: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    also: tuple[dict[str, Any], ...] = ()


def written(graph: Any, path: Path) -> None:
    import nir

    nir.write(path, graph)


# --- snnTorch ---


def snntorch(kind: str, reset: str, *, each: bool, **more: Any) -> Callable[[Path], Made]:
    def make(path: Path) -> Made:
        snn = quietly("snntorch", seed=5)
        import torch
        from snntorch.export_nir import export_to_nir
        from torch import nn

        def values(value: float) -> Any:
            spread = torch.linspace(0.9, 1.1, SIZE) if each else torch.ones(SIZE)
            return value * spread

        options = {"beta": values(0.8), "threshold": values(0.5), "reset_mechanism": reset, **more}
        if "Synaptic" in kind:
            options["alpha"] = values(0.6)
        if kind.startswith("R"):
            options["linear_features"] = SIZE
        cell = getattr(snn, kind)(init_hidden=True, **options)
        net = lively(nn.Sequential(nn.Linear(8, SIZE), cell))
        written(export_to_nir(net, torch.zeros(1, 8), ignore_dims=[0]), path)

        def run(x: Any) -> Any:
            cell.reset_mem()
            return steps_of(net, x, lambda m: m.mem)[0]

        return in_double(net), run

    return make


SNNTORCH = [
    Row(
        "snntorch", snntorch(kind, reset, each=each),
        "reset" if each or kind.startswith("R") else "dialect",
        {"reset": reset} | ({} if each or kind.startswith("R") else {"dialect": "snntorch"}),
    )
    for kind in ("Leaky", "Synaptic", "RLeaky", "RSynaptic")
    for reset in ("zero", "subtract")
    for each in (False, True)
]  # fmt: skip


# --- SpikingJelly ---


def spikingjelly(kind: str, dt: float = 1e-4, **options: Any) -> Callable[[Path], Made]:
    def make(path: Path) -> Made:
        import torch
        from spikingjelly.activation_based import functional, neuron
        from spikingjelly.activation_based.nir_exchange import export_to_nir
        from torch import nn

        torch.manual_seed(7)
        cell = getattr(neuron, kind)(v_threshold=0.25, **options)
        net = lively(nn.Sequential(nn.Linear(8, SIZE), cell), 4.0)
        export_to_nir(net, torch.zeros(3, 8), path, dt=dt)

        def run(x: Any) -> Any:
            functional.reset_net(net)
            return steps_of(net, x, lambda m: m.v)[0]

        return in_double(net), run

    return make


JELLY: dict[str, Any] = {"dialect": "spikingjelly"}
CUBA = {"c_decay": 0.6, "v_decay": 0.8}
SPIKINGJELLY = [
    # r is 1 / dt: nobody else writes that.
    *(Row("spikingjelly", spikingjelly("IFNode", dt, v_reset=v)) for dt in (1e-4, 1e-3)
      for v in (0.0, -0.15)),
    # As sinabs and Norse write counters.
    Row("spikingjelly", spikingjelly("IFNode", 1.0, v_reset=0.0), "dialect", JELLY,
        ({"dialect": "sinabs"},)),
    # As snnTorch writes them, where nothing is off zero.
    Row("spikingjelly", spikingjelly("CUBALIFNode", **CUBA, v_reset=0.0), "dialect", JELLY,
        ({"dialect": "snntorch", "reset": "zero"}, {"dialect": "snntorch", "reset": "subtract"})),
    Row("spikingjelly", spikingjelly("CUBALIFNode", **CUBA, v_reset=-0.15)),
    *(Row("spikingjelly", spikingjelly(kind, **tau, decay_input=False, v_reset=0.0), "dialect",
          JELLY, ({"dialect": "snntorch", "reset": "subtract"},))
      for kind, tau in (("LIFNode", {"tau": 3.0}), ("ParametricLIFNode", {"init_tau": 2.5}))),
    *(Row("spikingjelly", spikingjelly(kind, **tau, decay_input=False, v_reset=-0.15))
      for kind, tau in (("LIFNode", {"tau": 3.0}), ("ParametricLIFNode", {"init_tau": 2.5}))),
    # r is 1, and only dt is open; v_leak = v_reset could be the bare equations, which start at 0.
    Row("spikingjelly", spikingjelly("LIFNode", tau=3.0, v_reset=0.0), "_1", {"dt": 1e-4}),
    Row("spikingjelly", spikingjelly("LIFNode", tau=3.0, v_reset=-0.15), "dialect", JELLY,
        ({"dialect": "nir", "dt": 1e-4},)),
]  # fmt: skip


# --- Norse ---


def norse(
    kind: str, scale: float, *, subtract: bool = False, **more: Any
) -> Callable[[Path], Made]:
    def make(path: Path) -> Made:
        no = quietly("norse.torch", seed=6)
        import torch
        from norse.torch.functional.reset import reset_subtract
        from norse.torch.utils.export_nir import to_nir
        from torch import nn

        # nir 1.0.8 cannot write norse's scalars, so each neuron gets its own.
        values = {"tau_mem_inv": 150.0, "tau_syn_inv": 300.0, "v_th": 0.3, "v_leak": 0.0,
                  "v_reset": 0.0, **more}  # fmt: skip
        p = {name: torch.full((SIZE,), value) for name, value in values.items()}
        box = {n: p[n] for n in ("tau_mem_inv", "v_th", "v_leak", "v_reset")}
        box |= {"reset_method": reset_subtract} if subtract else {}
        cell = {
            "LIFCell": lambda: no.LIFCell(no.LIFParameters(**p)),
            "LIFBoxCell": lambda: no.LIFBoxCell(no.LIFBoxParameters(**box)),
            "IAFCell": lambda: no.IAFCell(no.IAFParameters(v_th=p["v_th"], v_reset=p["v_reset"])),
            "LIBoxCell": lambda: no.LIBoxCell(
                no.LIBoxParameters(tau_mem_inv=p["tau_mem_inv"], v_leak=p["v_leak"])
            ),
        }[kind]()
        net = lively(no.SequentialState(nn.Linear(8, SIZE), cell))
        written(to_nir(net, torch.zeros(8), dt=scale), path)
        return in_double(net), lambda x: steps_of(net, x, lambda m: tensor([0]), stateful=True)[0]

    return make


# Its exporter multiplies time constants by its argument dt, 1e-3 where none is given.
SCALES = ((1e-3, 1e-6), (1.0, 1e-3))
NORSE: dict[str, Any] = {"dialect": "norse"}
NORSES = [
    *(Row("norse", norse("LIFCell", scale), "dialect", NORSE | {"dt": dt},
          ({"dialect": "nir", "dt": dt},)) for scale, dt in SCALES),
    *(Row("norse", norse("LIFBoxCell", scale), "1", {"dt": dt}) for scale, dt in SCALES),
    *(Row("norse", norse("LIBoxCell", scale), "1", {"dt": dt}) for scale, dt in SCALES),
    Row("norse", norse("LIFBoxCell", 1.0, v_leak=0.2), "dialect", NORSE | {"dt": 1e-3},
        ({"dialect": "nir", "dt": 1e-3},)),
    Row("norse", norse("LIFBoxCell", 1.0, subtract=True), "1", {"dt": 1e-3, "reset": "subtract"}),
    Row("norse", norse("IAFCell", 1.0), "dialect", NORSE, ({"dialect": "sinabs"},)),
]  # fmt: skip


# --- sinabs ---


def sinabs(kind: str, *, pool: bool = False, **options: Any) -> Callable[[Path], Made]:
    def make(path: Path) -> Made:
        import torch
        from sinabs import layers as sl
        from sinabs.nir import to_nir
        from torch import nn

        torch.manual_seed(8)
        given = {} if kind == "ExpLeak" else {"spike_threshold": torch.full((SIZE,), 0.3125)}
        given |= {} if kind == "IAF" else {"tau_mem": torch.full((SIZE,), 6.0)}
        given |= options
        layers = [nn.Linear(8, SIZE), None]
        if pool:
            given["spike_threshold"] = torch.full((2, 6, 6), 0.3125)
            layers = [nn.Conv2d(1, 2, 3), None, sl.SumPool2d(2), nn.Flatten()]
        layers[1] = getattr(sl, kind)(**given)
        net = lively(nn.Sequential(*layers))
        squeezed = nn.Sequential(*layers)
        squeezed[1] = getattr(sl, f"{kind}Squeeze")(batch_size=1, **given)
        graph = to_nir(squeezed, torch.zeros(1, *((1, 8, 8) if pool else (8,))))
        if pool:  # nir 1.0.8 writes no shape that it was not told
            graph.nodes["0"].input_shape = (8, 8)
            graph.nodes["3"].input_type = {"input": np.array([2, 3, 3])}
        written(graph, path)

        def run(x: Any) -> Any:
            if not pool:
                return net(tensor(x)).detach().numpy()
            flat = nn.Sequential(sl.Repeat(layers[0]), layers[1], sl.Repeat(layers[2]))
            return flat(tensor(x)).flatten(2).detach().numpy()

        return in_double(net), run

    return make


SINABS: dict[str, Any] = {"dialect": "sinabs"}
FLOOR = {"min_v_mem": -0.3125}
SINABSES = [
    Row("sinabs", sinabs("IAF", **FLOOR), "dialect", SINABS, (NORSE,)),
    Row("sinabs", sinabs("IAF"), "dialect", SINABS | {"v_min": "none"}, (NORSE,)),
    *(Row("sinabs", sinabs(kind, norm_input=norm), "dialect", SINABS | {"r_scale": scale},
          ({"dialect": "nir"},))
      for kind in ("LIF", "ExpLeak")
      for norm, scale in ((False, "jump"), (True, "equation"))),
]  # fmt: skip

ROWS = [*SNNTORCH, *SPIKINGJELLY, *NORSES, *SINABSES]


def asked(path: Path, **options: Any) -> FrontendError:
    with pytest.raises(FrontendError) as caught:
        load_model(path, **options)
    return caught.value


@pytest.mark.parametrize(
    "row", [pytest.param(r, marks=pytest.mark.needs(r.framework)) for r in ROWS]
)
def test_an_export_is_read_as_it_runs_or_asked_about(row: Row, rng: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, run = row.make(path)
    x = spikes(rng, 8)
    if row.asks:
        error = asked(path)
        assert error.at.startswith(row.asks)
        for option in ("dialect", "reset", "r_scale"):
            if option in row.answer and row.asks == option:
                word = f"--{option.replace('_', '-')} {row.answer[option]}"
                assert word in error.hint, error.hint
    ours = interp.run(load_model(path, **row.answer).graph, x).output
    theirs = run(x)
    if theirs.dtype != ours.dtype or not np.array_equal(theirs, ours):
        graded = (theirs % 1).any()
        assert graded, f"{(theirs != ours).mean():.1%} of the spikes differ"
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    else:
        assert 0.02 < (theirs > 0).mean() < 0.95, "the test's network says nothing"
    for other in row.also:
        assert f"--dialect {other['dialect']}" in error.hint
        wrong = interp.run(load_model(path, **_complete(other)).graph, x).output
        assert (wrong != theirs).mean() > 0.002, other


def _complete(options: dict[str, Any]) -> dict[str, Any]:
    return options if options["dialect"] in ("snntorch", "norse", "sinabs") else {
        "dt": 1.0, **options
    }  # fmt: skip


@pytest.mark.needs("sinabs")
def test_a_sum_pool_is_written_by_sinabs_alone(rng: Any, tmp_path: Path) -> None:
    """Nothing is asked: of all exporters only its own writes SumPool2d."""
    _, run = sinabs("IAF", pool=True, **FLOOR)(tmp_path / "net.nir")
    x = spikes(rng, 1, 8, 8, rate=0.02)
    file = load_model(tmp_path / "net.nir")
    assert file.meta["dialect"] == "sinabs"
    theirs = run(x)
    assert 0.02 < (theirs > 0).mean() < 0.95
    np.testing.assert_array_equal(interp.run(file.graph, x).output, theirs)
