"""Runs layers of Lava's own processes on raw numbers: python lava_raw.py PACKAGE CASES TRACES.

PACKAGE is any emitted package, for what steps process models and sends events; CASES a folder of
NAME.npz, TRACES where NAME.npz of the registers u, v and s after every step go.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Run every case."""
    package, cases, traces = sys.argv[1:]
    sys.path.insert(0, package)
    import lava_compat  # noqa: F401  before lava

    for path in sorted(Path(cases).glob("*.npz")):
        given = {key: value[()] for key, value in np.load(path).items()}
        with tempfile.TemporaryDirectory() as folder:
            registers = run(given, Path(folder))
        np.savez(Path(traces) / path.name, **registers)


def run(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One layer, with or without recurrence, a delay and resets."""
    import stepping
    from lava.proc.lif.process import LIF, LIFReset
    from sources import Source

    steps, size = len(given["events"]), len(given["weights"])
    np.save(folder / "events.npy", given["events"])
    source = Source(shape=given["events"].shape[1:], file=str(folder / "events.npy"))
    options = {k: given[k] for k in ("du", "dv", "vth", "bias_mant", "bias_exp", "u", "v")}
    options = {k: int(v) if np.ndim(v) == 0 else v for k, v in options.items()}
    if given["interval"]:
        options |= {"reset_interval": int(given["interval"]), "reset_offset": int(given["offset"])}
    kind = LIFReset if given["interval"] else LIF
    lif = kind(shape=(size,), **options)
    processes = {"source": source, "lif": lif, "dense": dense(given, "weights", source, lif)}
    if "recurrent" in given:
        processes["rec"] = dense(given, "recurrent", lif, lif)
    stepping.run(processes, steps, {"lif": str(folder / "lif")}, [])
    return {name: np.load(folder / f"lif.{name}.npy") for name in "uvs"}


def dense(given: dict[str, Any], name: str, source: Any, target: Any) -> Any:
    """Synapses with their raw mantissas, bits, exponent and sign mode."""
    from lava.proc.dense.process import DelayDense, Dense
    from lava.utils.weightutils import SignMode

    options = {
        "weights": given[name],
        "weight_exp": int(given["exponent"]),
        "num_weight_bits": int(given["bits"]),
        "sign_mode": getattr(SignMode, str(given["mode"])),
        "num_message_bits": 24 if given["graded"] and name == "weights" else 0,
    }
    late = int(given["delay"]) if name == "weights" else 0
    made = DelayDense(delays=late, **options) if late else Dense(**options)
    source.s_out.connect(made.s_in)
    made.a_out.connect(target.a_in)
    return made


if __name__ == "__main__":
    main()
