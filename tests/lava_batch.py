"""Runs many emitted packages in one interpreter, which starts Lava once: `run_batch`.

As a script (python lava_batch.py LIST [--models]) it needs lava-nc and numpy, and not qspinn: it
runs each folder that the JSON list names on its input.npy or .npz, as its own run.py would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

OF_A_PACKAGE = {"network", "run", "recording", "sinks", "sources", "readout", "arithmetic",
                "stepping"}  # fmt: skip
SECONDS = 900


def run_batch(python: str | Path, folders: Iterable[Path], *, models: bool) -> None:
    """Run packages in another interpreter; each gets out.npy or .npz and a folder trace.

    Args:
        python: An interpreter with lava-nc.
        folders: Packages, each with its input.npy, or of several inputs .npz.
        models: Step Lava's process models, without its runtime.
    """
    paths = [str(folder.resolve()) for folder in folders]
    work = Path(paths[0]).parent
    (work / "list.json").write_text(json.dumps(paths))
    command = [str(python), "-B", str(Path(__file__).resolve()), str(work / "list.json")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [*command, "--models"] if models else command, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, cwd=work, env=environment, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert done.stdout.count("\n") == len(paths), done.stdout


def main() -> None:
    """Run what the list names, and say so of each."""
    listed, *options = sys.argv[1:]
    for folder in json.loads(Path(listed).read_text()):
        for name in list(sys.modules):
            if name in OF_A_PACKAGE or name.startswith("neurons_"):
                del sys.modules[name]
        sys.path.insert(0, folder)
        import lava_compat  # noqa: F401  before what imports lava
        import network
        import run  # the package's own

        into, out = ("npz" if len(n) > 1 else "npy" for n in (network.INPUTS, network.OUTPUTS))
        given = {"input": f"input.{into}", "output": f"out.{out}", "trace": "trace"}
        sys.argv = ["run.py", *options]
        for word, path in given.items():
            sys.argv += [f"--{word}", os.path.join(folder, path)]
        if code := run.main():
            sys.exit(f"{folder}: exit code {code}")
        sys.path.remove(folder)
        sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    main()
