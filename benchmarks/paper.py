"""The results table of the README: every network searched, compiled, proved and measured.

    python benchmarks/paper.py --data DIR [--only NAME] [--seed N] [--out out/paper] [--readme FILE]

`DIR` holds `mnist.npz` and `nmnist8_1ms.npz`. Each step leaves a file and is not done twice, so an
interrupted run goes on where it stopped. What is chosen is chosen on samples that neither training
nor the report sees; the test samples are looked at once, for the network that was selected.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from paper_networks import CASES, Case, Made  # numpy reads the variable when it is imported
from paper_table import table

from qspinn import datasets, storage
from qspinn.datasets import Dataset
from qspinn.encode import Encoder
from qspinn.engine.sweep import sweep
from qspinn.explore import files
from qspinn.explore.result import Entry, Exploration
from qspinn.explore.stimulus import Stimulus
from qspinn.ir import CONNECTIONS, Graph, Input
from qspinn.output import GRAPH, read_manifest

QSPINN = Path(sys.executable).with_name("qspinn")
CORE, ON_CORE, IN_LAVA = "qemu-cortex-m4", 20, 5
"""Samples that the emulated core and Lava are compared on."""
Facts = dict[str, Any]


def main() -> None:
    """Do what is not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("out/paper"))
    parser.add_argument("--only", action="append", choices=sorted(CASES), metavar="NAME")
    parser.add_argument("--seed", type=int, action="append", help="only this seed of a network")
    parser.add_argument("--readme", type=Path, help="write the table into this file")
    arguments = parser.parse_args()
    for name, case in CASES.items():
        for seed in case.seeds:
            wanted = not arguments.only or name in arguments.only
            if wanted and (not arguments.seed or seed in arguments.seed):
                print(f"{name}, seed {seed}", flush=True)
                facts = whole(case, arguments.data, arguments.out / name / str(seed), seed)
                print(f"  {json.dumps(facts['selected'])}", flush=True)
    text = table(dict(found(arguments.out)))
    print(text)
    if arguments.readme:
        fill(arguments.readme, "results", text)


def fill(path: Path, name: str, text: str) -> None:
    """Put a text between the marks of that name on a page.

    Raises:
        ValueError: The page has no such marks.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = path.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        raise ValueError(f"{path} has no marks {begin} and {end}")
    head, _, rest = page.partition(begin)
    filled = f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    path.write_text(filled, encoding="utf-8")


def found(out: Path) -> Iterator[tuple[str, list[Facts]]]:
    """The facts of every seed that is done, by network."""
    for name, case in CASES.items():
        paths = [out / name / str(seed) / "facts.json" for seed in case.seeds]
        done = [json.loads(path.read_text()) for path in paths if path.exists()]
        if done:
            yield name, done


def whole(case: Case, data: Path, folder: Path, seed: int) -> Facts:
    """Every step of one network."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = {"search": list(case.search), "max_drop": case.max_drop}
    if once(folder / "asked.json", lambda: asked) != asked:
        raise SystemExit(f"{folder} was searched with other options: remove it")
    made = case.make(data, folder, seed)
    mcu, loihi = folder / "mcu", folder / "loihi"
    if not mcu.exists():
        search = ("--max-drop", f"{case.max_drop:.1%}", "--scheme", "ptq,itq", "--resume",
                  "--train-data", str(made.lessons), "--workers", "1", *case.search)  # fmt: skip
        compiled(made, mcu, "mcu", *search)
    if not loihi.exists():
        compiled(made, loihi, "loihi")
    checks = {
        "host": once(folder / "host.json", lambda: equal(mcu, made, "host")),
        "core": once(folder / "core.json", lambda: equal(mcu, made, CORE, ON_CORE)),
        "lava": once(folder / "lava.json", lambda: equal(loihi, made, "lava", IN_LAVA)),
    }
    return once(
        folder / "facts.json", lambda: {"seed": seed, **facts_of(made, mcu, case), "checks": checks}
    )


def once(path: Path, make: Callable[[], Facts]) -> Facts:
    """What a step found, from its file or now."""
    if not path.exists():
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(make(), indent=2) + "\n", encoding="utf-8")
        aside.replace(path)
    kept: Facts = json.loads(path.read_text(encoding="utf-8"))
    return kept


def compiled(made: Made, folder: Path, target: str, *options: str) -> None:
    """Compile a network as its user would."""
    run("compile", made.model, "--target", target, "--data", made.data, "-o", folder,
        *made.options, *options)  # fmt: skip


def run(*words: str | Path) -> str:
    """What qspinn prints on stdout; an error ends everything."""
    command = [str(QSPINN), *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def equal(folder: Path, made: Made, executor: str, samples: int | None = None) -> Facts:
    """Bit equality with the reference on samples of the report part; it is an error otherwise."""
    few = () if samples is None else ("--samples", str(samples))
    told = run("validate", folder, "--data", made.data, "--executor", executor, "--json", *few)
    (verdict,) = json.loads(told)
    return dict(verdict)


def facts_of(made: Made, folder: Path, case: Case) -> Facts:
    """What the table says of a network, read from the artifact."""
    manifest = read_manifest(folder)
    exploration = files.read(folder)
    graph = storage.load(folder / GRAPH)
    encoder = Encoder(**manifest["encoder"])
    kinds = ("weights", "constants", "state")
    bytes_of = {
        kind: sum(line["bytes"] for line in manifest["footprint"] if line["kind"] == kind)
        for kind in kinds
    }
    winner = exploration.winner
    return {
        "accuracy": manifest["accuracy"],
        "bytes": bytes_of,
        "baseline": manifest["baseline_bytes"],
        "baseline_active": manifest["baseline_bytes_active"],
        "selected": dict(winner.words) if winner else {},
        "schemes": {name: best(exploration, name, case.max_drop) for name in ("ptq", "itq")},
        "bits": bits_of(graph),
        **activity(datasets.load(made.data), graph, encoder),
    }


def best(exploration: Exploration, scheme: str, max_drop: float) -> Facts | None:
    """The smallest candidate of a scheme that keeps to the limit on the selection part."""
    found = (e for e in exploration.entries if e.scheme == scheme and e.complete)
    kept = [e for e in found if keeps(e, max_drop)]
    if not kept:
        return None
    entry = min(kept, key=lambda e: e.memory.network if e.memory else 1 << 62)
    assert entry.memory is not None, "it was measured"
    assert entry.accuracy is not None, "it was measured"
    return {"bytes": entry.memory.network, "accuracy": entry.accuracy.value,
            "words": dict(entry.words)}  # fmt: skip


def keeps(entry: Entry, max_drop: float) -> bool:
    """Whether a candidate loses no more than is allowed, as far as the selection can tell."""
    return entry.bound is not None and entry.bound <= max_drop


def bits_of(graph: Graph) -> float:
    """Bits of a weight on average, dropped ones counted like others."""
    total = stored = 0
    for node in graph.nodes:
        for name, param in node.params().items() if isinstance(node, CONNECTIONS) else ():
            if name != "bias" and param.fmt is not None and param.values.size > 1:
                total += param.values.size
                stored += param.values.size * param.fmt.bits
    return stored / max(total, 1)


def activity(dataset: Dataset, graph: Graph, encoder: Encoder) -> Facts:
    """Spikes of the neurons and synaptic operations per inference, on the report part."""
    count = len(dataset.part("report"))
    stimulus = Stimulus(graph, dataset, encoder, dataset.part("report"))
    data = stimulus.part(tuple(node.fmt for node in graph.of_type(Input)), 0, count)
    (tally,) = sweep([graph], data, operations=True)
    return {
        "spikes": sum(tally.spikes.values()) / count,
        "operations": sum(tally.operations.values()) / count,
    }


if __name__ == "__main__":
    main()
