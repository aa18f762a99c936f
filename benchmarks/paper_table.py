"""The facts of every network as a Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from paper_networks import CASES

Facts = Mapping[str, Any]


def table(found: Mapping[str, Sequence[Facts]]) -> str:
    """One row a seed, and the mean where there are several."""
    columns: tuple[tuple[str, Callable[[Facts], str]], ...] = (
        ("float, test", lambda f: percent(f["accuracy"]["float"])),
        ("smallest PTQ, ITQ", schemes),
        ("selected", lambda f: f["selected"].get("scheme", "ptq").upper()),
        ("bits a weight", lambda f: f"{f['bits']:.2f}"),
        ("test", lambda f: percent(f["accuracy"]["integer"])),
        ("difference", difference),
        ("weights + constants + state", memory),
        ("float32", lambda f: f"{f['baseline']:,}"),
        ("smaller", smaller),
        ("spikes, synaptic operations", lambda f: f"{f['spikes']:,.0f}, {f['operations']:,.0f}"),
        ("samples, bit-exact", equal),
    )
    lines = [
        "| network | " + " | ".join(name for name, _ in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name, seeds in found.items():
        several = len(CASES[name].seeds) > 1
        for facts in seeds:
            title = CASES[name].title + (f", seed {facts['seed']}" if several else "")
            lines.append(f"| {title} | " + " | ".join(say(facts) for _, say in columns) + " |")
        if several and len(seeds) == len(CASES[name].seeds):
            lines.append(mean(CASES[name].title, seeds, len(columns)))
    return "\n".join(lines)


def percent(estimate: Facts) -> str:
    """An accuracy with its interval."""
    low, high = 100 * estimate["low"], 100 * estimate["high"]
    return f"{100 * estimate['value']:.2f} % [{low:.2f}, {high:.2f}]"


def difference(facts: Facts) -> str:
    """What quantization changed, paired, in points."""
    d = facts["accuracy"]["difference"]
    return f"{100 * d['value']:+.2f} pt [{100 * d['low']:+.2f}, {100 * d['high']:+.2f}]"


def total(facts: Facts) -> int:
    """The network's own bytes."""
    return sum(facts["bytes"].values())


def memory(facts: Facts) -> str:
    """Bytes by kind."""
    parts = " + ".join(f"{size:,}" for size in facts["bytes"].values())
    return f"{parts} = {total(facts):,} B"


def smaller(facts: Facts) -> str:
    """The ratio, and that without dropped inputs on either side."""
    ratio = f"{facts['baseline'] / total(facts):.1f}×"
    active = facts["baseline_active"]
    return ratio if not active else f"{ratio} ({active / total(facts):.1f}×)"


def schemes(facts: Facts) -> str:
    """The smallest candidate of each scheme that kept to the limit on the selection part."""
    found = facts["schemes"]
    return ", ".join(f"{found[s]['bytes']:,} B" if found[s] else "none" for s in ("ptq", "itq"))


NAMES = {"host": "C on the host", "core": "on a Cortex-M4", "lava": "the Loihi package in Lava"}


def equal(facts: Facts) -> str:
    """How many samples each executor was compared on."""
    checks = facts["checks"]
    return ", ".join(f"{NAMES[name]} {check['samples']:,}" for name, check in checks.items())


def mean(title: str, seeds: Sequence[Facts], columns: int) -> str:
    """The row that sums up several seeds."""

    def of(kind: str) -> float:
        return float(np.mean([f["accuracy"][kind]["value"] for f in seeds]))

    ratio = float(np.mean([f["baseline"] / total(f) for f in seeds]))
    cells = [f"{100 * of('float'):.2f} %", "", "", "", f"{100 * of('integer'):.2f} %",
             f"{100 * of('difference'):+.2f} pt", "", "", f"{ratio:.1f}×"]  # fmt: skip
    cells += [""] * (columns - len(cells))
    return f"| {title}, mean | " + " | ".join(cells) + " |"
