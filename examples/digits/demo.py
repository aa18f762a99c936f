"""The main job on a real network: compile, prove both targets bit-exact, search for a smaller one.

Run by `make demo`; every step is a command that a user would type.
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from qspinn.cli import cli, report
from qspinn.errors import QspinnError

HERE = Path(__file__).resolve().parent
OUT = Path("out")

STEPS = (
    ("compile {here}/digits.nir --data {here}/digits.npz --target mcu --device stm32c011"
     " --max-drop 1% --evaluations 0 -o {out}/digits-mcu"),
    ("compile {here}/digits.nir --data {here}/digits.npz --target loihi"
     " --max-drop 1% --evaluations 0 -o {out}/digits-loihi"),
    "validate {out}/digits-mcu --data {here}/digits.npz --executor host",
    ("validate {out}/digits-mcu --data {here}/digits.npz --samples 20 --executor cortex-m0plus"
     " --executor cortex-m4"),
    "validate {out}/digits-loihi --data {here}/digits.npz --samples 20 --executor lava",
    "check {out}/digits-mcu --budget ram=6KiB,flash=32KiB",
    ("explore {here}/digits.nir --data {here}/digits.npz --target mcu --device stm32c011"
     " --max-drop 2% --evaluations 60 -o {out}/digits-front"),
    "explain {out}/digits-front fc1.weight",
)  # fmt: skip


def main() -> int:
    """Run the steps in order; stop at the first that fails."""
    start = time.perf_counter()
    here = HERE.relative_to(Path.cwd()) if HERE.is_relative_to(Path.cwd()) else HERE
    for step in STEPS:
        command = step.format(here=shlex.quote(str(here)), out=OUT)
        print(f"\n$ qspinn {command}", flush=True)
        try:
            code = cli.main(shlex.split(command), standalone_mode=False)
        except QspinnError as error:
            report(error)
            return error.exit_code
        if code:
            return int(code)
    print(f"\nDone in {time.perf_counter() - start:.0f} s.")
    print(f"The C headers are in {OUT}/digits-mcu, the Lava package in {OUT}/digits-loihi,")
    print(f"and what the search found in {OUT}/digits-front.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
