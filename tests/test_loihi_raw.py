"""Lava's registers taken raw, in and out of range: what the target's rules rest on.

Weights that Lava clips or truncates, exponents that shift sums down by floor, currents that wrap
once, decays, resets: the specification is written out here, and Lava's process models agree.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qspinn.backends.loihi import BACKEND
from qspinn.backends.loihi.weights import activation, stored

from loihi_nets import linear, net, neuron, written
from qspinn.ir import Array

CASES, STEPS = 60, 24
EDGE = 1 << 23
MODES = ("MIXED", "EXCITATORY", "INHIBITORY")


def drawn(seed: int) -> dict[str, Any]:
    """The raw numbers of one layer; many of its weights lie beyond 8 bits, or have a wrong sign."""
    rng = np.random.default_rng((seed, 77))
    size, inputs = int(rng.integers(1, 9)), int(rng.integers(1, 13))
    reach = int(rng.choice((3, 100, 255, 600)))
    graded = bool(rng.integers(2))
    high = int(rng.choice((2, 40, 3000))) if graded else 1
    per_neuron = bool(rng.integers(2))
    places = (size,) if per_neuron else ()
    interval = int(rng.choice((0, 0, 5, 8)))
    case: dict[str, Any] = {
        "weights": rng.integers(-reach, reach + 1, (size, inputs)),
        "bits": int(rng.integers(1, 9)), "exponent": seed % 16 - 8, "mode": MODES[seed % 3],
        "graded": graded, "delay": int(rng.choice((0, 0, 1, 7))),
        "events": rng.integers(0, high + 1, (STEPS, inputs)) * (rng.random((STEPS, inputs)) < 0.6),
        "du": rng.choice((-1, 0, 400, 4095), places), "dv": rng.choice((0, 1, 300, 4096), places),
        "vth": rng.choice((0, 60, 900, 131071, 131072), places),
        "bias_mant": rng.integers(-4095, 4096, (size,)) * int(rng.integers(2)),
        "bias_exp": rng.integers(0, 8, (size,)),
        "u": rng.integers(-EDGE, EDGE + 1, (size,)) * int(rng.integers(2)),
        "v": rng.integers(-EDGE + 1, EDGE, (size,)) * int(rng.integers(2)),
        "interval": interval, "offset": int(rng.integers(1, 9)),
    }  # fmt: skip
    if rng.integers(2):
        case["recurrent"] = rng.integers(-reach, reach + 1, (size, size))
    return case


def toward_zero(x: Array, k: int) -> Array:
    return np.sign(x) * (np.abs(x) >> k)


def word(x: Array) -> Array:
    """As 32 bits hold it, which is what Lava computes and sends."""
    return x.astype(np.int32).astype(np.int64)


def specified(case: dict[str, Any]) -> dict[str, Array]:
    """The registers after every step, by the published equations."""
    names = [name for name in ("weights", "recurrent") if name in case]
    kept = {name: stored(case[name], case["bits"], case["mode"]) for name in names}
    u, v = case["u"].astype(np.int64), case["v"].astype(np.int64)
    fired = np.zeros(len(u), np.int64)
    bias = case["bias_mant"] << case["bias_exp"]
    found: dict[str, list[Array]] = {name: [] for name in "uvs"}
    for t in range(1, STEPS + 1):
        before = t - 2 - case["delay"]
        sent = case["events"][before] if before >= 0 else np.zeros_like(case["events"][0])
        heard = sent if case["graded"] else (sent > 0).astype(np.int64)
        a = word(activation(kept["weights"], heard, case["exponent"]))
        if "recurrent" in kept:
            a = a + activation(kept["recurrent"], fired, case["exponent"])
        if case["interval"] and t % case["interval"] == case["offset"] % case["interval"]:
            u, v = np.zeros_like(u), np.zeros_like(v)
        u = word(toward_zero(u * (4095 - case["du"]), 12) + word(a << 6))
        u = np.where(u > EDGE, u - 2 * EDGE, np.where(u <= -EDGE, u + 2 * EDGE, u))
        v = word(toward_zero(v * (4096 - case["dv"]), 12) + u + bias)
        v = np.clip(v, 1 - EDGE, EDGE - 1)
        fired = (v > case["vth"] << 6).astype(np.int64)
        v = np.where(fired, 0, v)
        for name, value in (("u", u), ("v", v), ("s", fired)):
            found[name].append(value)
    return {name: np.stack(values) for name, values in found.items()}


@pytest.mark.needs("lava")
def test_raw_registers_in_lava(tmp_path: Path) -> None:
    package, cases, traces = (tmp_path / name for name in ("package", "cases", "traces"))
    for folder in (package, cases, traces):
        folder.mkdir()
    graph = net("any", (1,), (linear("fc", "input", [[2]]), neuron("lif", ("fc",), (1,))))
    written(BACKEND.legalize(graph), package)
    for seed in range(CASES):
        np.savez(cases / f"{seed:03}.npz", **drawn(seed))
    script = Path(__file__).with_name("lava_raw.py")
    command = [sys.executable, "-B", str(script), str(package), str(cases), str(traces)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    fired = wrapped = saturated = 0
    for seed in range(CASES):
        want = specified(drawn(seed))
        with np.load(traces / f"{seed:03}.npz") as got:
            for name in "uvs":
                np.testing.assert_array_equal(got[name], want[name], err_msg=f"{seed} {name}")
        fired += int(want["s"].sum())
        wrapped += int((np.abs(np.diff(want["u"], axis=0)) > EDGE).sum())
        saturated += int((np.abs(want["v"]) == EDGE - 1).sum())
    assert fired > 0.05 * CASES * STEPS
    assert wrapped > 20
    assert saturated > 20


def test_many_of_the_drawn_weights_are_out_of_range() -> None:
    changed = met = 0
    for seed in range(CASES):
        case = drawn(seed)
        kept = stored(case["weights"], case["bits"], case["mode"])
        changed, met = changed + int((kept != case["weights"]).sum()), met + kept.size
    assert changed > 0.4 * met
    assert {drawn(seed)["exponent"] for seed in range(CASES)} == set(range(-8, 8))
