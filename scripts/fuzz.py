"""Read damaged and malicious files for as long as asked: every one must load or be refused in time.

`make fuzz MINUTES=60` runs each importer for an hour. A finding is any exception that is no error
of ours, a crash, a hang, or memory beyond the bound; its file, its seed and the fewest steps that
still make it go to the corpus folder. Mutants are functions of (--seed, index), so a run can be
repeated; `--replay FILE` reads one file again and shows the traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("nir", "net", "qspinn", "onnx")
BATCH = 2000
"""Mutants that one process reads before a fresh one takes over."""
MEBIBYTE = 1 << 20
_RAMP = np.linspace(0, 1, 12)
_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "nir": (
        {"dt": 1e-3}, {"dt": 1e-4, "reset": "subtract"}, {"dt": 1.0, "integrator": "exact"},
        {"dt": 1e-3, "input_kind": "count", "input_high": 15}, {},
    ),
    "onnx": ({"data": _RAMP.reshape(2, 6)}, {"data": _RAMP.repeat(6).reshape(2, 1, 6, 6)}, {}),
}  # fmt: skip


def main() -> int:
    """Fuzz, or do a worker's part of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="for each importer")
    parser.add_argument("--files", type=int, default=1 << 40, help="stop after so many of each")
    parser.add_argument("--kinds", default=",".join(KINDS), help="importers, by suffix")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=ROOT / "out" / "fuzz")
    parser.add_argument("--memory", type=int, default=2048, help="MiB that one file may cost")
    parser.add_argument("--seconds", type=float, default=30.0, help="that one file may take")
    parser.add_argument("--replay", type=Path, help="read this file alone")
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.replay:
        for options in _OPTIONS.get(arguments.replay.suffix[1:], ({},)):
            print(options, judged(arguments.replay, options, show=True))
        return 0
    if arguments.worker:
        kind, folder, first, count, keep = arguments.worker
        kept = [int(n) for n in keep.split(",")] if keep != "all" else None
        work(kind, Path(folder), arguments, int(first), int(count), kept)
        return 0
    signal.signal(signal.SIGTERM, _stop)
    found = 0
    for kind in arguments.kinds.split(","):
        run = Campaign(kind, arguments)
        run.fuzz()
        print(run.summary(), flush=True)
        found += len(run.findings)
    return 1 if found else 0


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


# --- the worker: mutants one after another, told line by line ---


def work(
    kind: str, folder: Path, limits: argparse.Namespace, first: int, count: int, keep: Any
) -> None:
    """Read ``count`` mutants: its index goes to stdout before each is read, then the verdict."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from fuzz_mutations import mutate

    seeds, some = sorted(folder.glob("seed*")), _OPTIONS.get(kind, ({},))
    # What is asked for and not used counts for nothing below; this much of it is an error.
    most = (limits.memory + 6144) * MEBIBYTE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    current = folder / f"current.{kind}"
    for index in range(first, first + count):
        key = (limits.seed, KINDS.index(kind), index)
        shutil.copyfile(seeds[index % len(seeds)], current)
        steps = mutate(current, current.suffix, key, keep)
        options = some[index // len(seeds) % len(some)]
        say(index=index, steps=steps)
        before = peak(reset=True)
        start = time.process_time()
        verdict = judged(current, options)
        took, grown = time.process_time() - start, peak() - before
        if grown > limits.memory * MEBIBYTE:
            verdict = f"finding more than {limits.memory} MiB"
        say(verdict=verdict, seconds=took, bytes=grown)


def judged(path: Path, options: dict[str, Any], *, show: bool = False) -> str:
    """``loaded``, ``refused: why``, or ``finding: what``."""
    from qspinn.errors import QspinnError
    from qspinn.frontends import load_model
    from qspinn.pipeline import canonical
    from qspinn.text import text

    try:
        imported = load_model(path, **options)
        told = [str(a) for a in imported.assumptions]
        text(imported.graph)
        if not imported.graph.is_integer:
            canonical(imported.graph)
        if path.suffix == ".nir":
            mended(path, options, imported.graph)
    except QspinnError as error:
        if not str(error).isprintable():
            return f"finding unprintable: {str(error)[:60]!r}"
        why = re.sub(r"[0-9.]+", "#", error.message.replace(str(path), ""))
        return f"refused: {why[:60]}"
    except BaseException as error:  # MemoryError and RecursionError too
        if show:
            traceback.print_exc()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"finding {type(error).__name__} in {Path(frame.filename).name}:{frame.name}"
    odd = [line for line in told if not line.isprintable()]
    return f"finding unprintable: {odd[0][:60]!r}" if odd else "loaded"


def mended(path: Path, options: dict[str, Any], graph: Any) -> None:
    """What `qspinn inspect --fix` writes must be the same network without any option."""
    from qspinn.frontends import load_model, repair
    from qspinn.ir import Flatten

    aside = path.with_name("mended") / path.name
    aside.parent.mkdir(exist_ok=True)
    aside.write_bytes(repair(path, **options).content)
    # By NIR's types some matrices need a Flatten in front, which is all that may be added; and a
    # sum has no order.
    both = (
        [
            replace(n, inputs=())
            for n in sorted(g.nodes, key=lambda node: node.name)
            if not isinstance(n, Flatten)
        ]
        for g in (graph, load_model(aside).graph)
    )
    old, new = (replace(graph, nodes=tuple(nodes)).digest for nodes in both)
    assert old == new, "the mended file is another network"
    assert not repair(aside).changes, "the mended file needs mending"


def say(**facts: Any) -> None:
    """One line to the parent."""
    print(json.dumps(facts), flush=True)


def peak(*, reset: bool = False) -> int:
    """The most memory in use since the last reset, in bytes; Linux only, elsewhere 0."""
    with contextlib.suppress(OSError):
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return int(re.findall(r"VmHWM:\s*(\d+)", status)[0]) << 10
    return 0


def busy(process: int) -> float:
    """Seconds that a process has computed; where nobody tells, the time of day."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


# --- the parent: watches, and keeps what is found ---


@dataclass
class Campaign:
    """One importer under fire."""

    kind: str
    arguments: argparse.Namespace
    executions: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)
    slowest: float = 0.0
    most: int = 0
    cpu: float = 0.0

    def fuzz(self) -> None:
        """Start worker after worker until the time is up."""
        end = time.monotonic() + 60 * self.arguments.minutes
        with tempfile.TemporaryDirectory(prefix="qspinn-fuzz.") as name:
            folder = Path(name)
            seeds(self.kind, folder)
            index = 0
            with contextlib.suppress(KeyboardInterrupt):  # what was found until then is told
                while time.monotonic() < end and index < self.arguments.files:
                    index = self.batch(folder, index, end)

    def batch(self, folder: Path, first: int, end: float) -> int:
        """One worker's life; returns the next index."""
        here, index, steps = folder / f"current.{self.kind}", first, 1
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        count = min(BATCH, self.arguments.files - first)
        with self.worker(folder, first, count) as process:
            for facts in self.told(process):
                if "index" in facts:
                    index, steps = facts["index"], facts["steps"]
                    continue
                self.executions += 1
                self.verdicts[facts["verdict"]] += 1
                self.slowest = max(self.slowest, facts["seconds"])
                self.most = max(self.most, facts["bytes"])
                if facts["verdict"].startswith("finding"):
                    self.keep(folder, here, index, facts["verdict"], steps)
                if time.monotonic() > end:
                    process.kill()
                    break
            else:
                code = process.wait()
                if code:
                    self.executions += 1
                    verdict = f"finding died: exit {code}" if code != -9 else "finding hang"
                    self.verdicts[verdict] += 1
                    self.keep(folder, here, index, verdict, steps)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return index + 1

    @contextlib.contextmanager
    def worker(
        self, folder: Path, first: int, count: int, keep: str = "all"
    ) -> Iterator[subprocess.Popen[str]]:
        """A process that reads mutants."""
        limits = self.arguments
        command = [
            sys.executable, __file__, "--seed", str(limits.seed), "--memory", str(limits.memory),
            "--worker", self.kind, str(folder), str(first), str(count), keep,
        ]  # fmt: skip
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
            env=environment,
        ) as process:  # fmt: skip
            yield process
            process.kill()

    def told(self, process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
        """What a worker says; one that is silent for too long is killed."""
        assert process.stdout is not None, "it is a pipe"
        while True:
            used = busy(process.pid)
            while not select.select([process.stdout], [], [], self.arguments.seconds)[0]:
                if busy(process.pid) - used >= self.arguments.seconds:
                    process.kill()
                    return
            line = process.stdout.readline()
            if not line:
                return
            yield json.loads(line)

    def keep(self, folder: Path, file: Path, index: int, verdict: str, steps: int) -> None:
        """Save a new finding with its seed, by the fewest steps that still give it."""
        if verdict in self.findings:
            return
        corpus: Path = self.arguments.corpus
        corpus.mkdir(parents=True, exist_ok=True)
        code = hashlib.sha256(verdict.encode()).hexdigest()[:8]
        target = corpus / f"{self.kind}-{code}.{self.kind}"
        self.findings[verdict] = target.name
        shutil.copyfile(file, target)
        aside = Path(tempfile.mkdtemp(dir=folder))
        for seed in folder.glob("seed*"):
            shutil.copyfile(seed, aside / seed.name)
        keep = self.fewest(aside, index, verdict, steps)
        if (aside / file.name).exists() and self.again(aside, index, keep) == verdict:
            shutil.copyfile(aside / file.name, target)
        shutil.rmtree(aside)
        facts = {"verdict": verdict, "seed": self.arguments.seed, "index": index, "steps": keep}
        target.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
        print(f"{self.kind}: {verdict}: {target.name} (index {index}, steps {keep})", flush=True)

    def fewest(self, folder: Path, index: int, verdict: str, steps: int) -> list[int]:
        """The steps of a mutant without those that its verdict does not need."""
        kept = list(range(steps))
        for number in range(steps):
            fewer = [n for n in kept if n != number]
            if fewer and self.again(folder, index, fewer) == verdict:
                kept = fewer
        return kept

    def again(self, folder: Path, index: int, keep: list[int]) -> str:
        """The verdict on one mutant made by some of its steps."""
        with self.worker(folder, index, 1, ",".join(map(str, keep))) as process:
            for facts in self.told(process):
                if "verdict" in facts:
                    return str(facts["verdict"])
            code = process.wait()
        return f"finding died: exit {code}" if code != -9 else "finding hang"

    def summary(self) -> str:
        """Counts, and the most that a file took."""
        loaded = self.verdicts["loaded"]
        refusals = [v for v in self.verdicts if v.startswith("refused")]
        return (
            f"{self.kind}: {self.executions} files in {self.cpu / 60:.1f} CPU minutes: {loaded} "
            f"loaded, {sum(self.verdicts[v] for v in refusals)} refused for {len(refusals)} "
            f"reasons, {len(self.findings)} findings; at most {self.slowest:.1f} s and "
            f"{self.most // MEBIBYTE} MiB a file (allowed {self.arguments.seconds:g} s, "
            f"{self.arguments.memory} MiB)"
        )


# --- seeds: what the tests generate, and real files where there are any ---


def seeds(kind: str, folder: Path) -> None:
    """Sound files of one kind, as ``seed000...``."""
    sys.path.insert(0, str(ROOT / "tests"))
    sys.path.insert(0, str(ROOT / "scripts"))
    from fuzz_seeds import made

    made(kind, folder)
    named = os.environ.get("QSPINN_MODELS")
    real = sorted(Path(named).rglob(f"*.{kind}")) if named else []
    for number, path in enumerate(real):
        if path.stat().st_size < 100_000:  # large ones cost time and add little
            shutil.copyfile(path, folder / f"seed9{number:02}")


if __name__ == "__main__":
    sys.exit(main())
