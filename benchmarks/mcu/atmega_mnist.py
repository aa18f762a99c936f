"""MNIST inside two small parts: an ATmega328P, and 8 KiB of RAM beside 64 KiB of flash.

    python benchmarks/mcu/atmega_mnist.py --data mnist.npz [--samples 20] [--only avr|stm32]

ATmega328P (32 KiB, 2 KiB): examples/arduino_mnist, 196-64-10 on images of 14x14 pixels.
STM32F030x8 (64 KiB, 8 KiB): examples/mnist, 784-128-10, the smallest that a search finds to lose
less than a point on images held out of the training ones.

The emitted C classifies all 10000 test images on this machine; on some, every state after every
step is compared with the reference: in simavr, and on the smallest Arm core emulated.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "examples" / "arduino_mnist")]

from mnist_split import write  # noqa: E402
from qspinn.backends.mcu.avr import PARTS  # noqa: E402
from qspinn.backends.mcu.build import build  # noqa: E402
from qspinn.backends.mcu.builds import sources  # noqa: E402
from qspinn.backends.mcu.eight import is_eight  # noqa: E402
from qspinn.backends.mcu.execute import record  # noqa: E402
from qspinn.backends.mcu.simavr import measure  # noqa: E402
from train import exported  # noqa: E402

from qspinn import datasets  # noqa: E402
from qspinn.artifact import Opened, input_for, open_folder  # noqa: E402
from qspinn.cli import cli  # noqa: E402
from qspinn.evaluate import chunks  # noqa: E402

CHUNK = 500


@dataclass(frozen=True)
class Story:
    """A network, a part, and where its C is compared with the reference."""

    model: str
    device: str
    options: tuple[str, ...]
    executors: tuple[str, ...]
    least: float


STORIES = {
    "avr": Story(
        "arduino_mnist/mnist14.nir", "atmega328p",
        ("--plan", str(ROOT / "examples/arduino_mnist/plan.txt"), "--evaluations", "0"),
        ("simavr",), 0.90,
    ),
    "stm32": Story(
        "mnist/mnist.nir", "stm32f030x8", ("--evaluations", "200"),
        ("cortex-m0plus", "qemu-cortex-m0"), 0.96,
    ),
}  # fmt: skip


def accuracy(opened: Opened, data: Path) -> float:
    """The share of all report samples that the C on this machine gets right."""
    network, dataset = build(opened.graph, eight=is_eight(opened.device)), datasets.load(data)
    files = sources(opened.folder, network)
    assert dataset.y is not None, "labelled"
    right, index = 0, dataset.part("report")
    for x, some in chunks(opened.graph, dataset, opened.encoder, index, CHUNK):
        right += int((record(files, network, x, "host").winners == dataset.y[some]).sum())
    return right / len(index)


def tell(story: Story, data: Path, folder: Path, samples: int) -> None:
    """Compile, classify, compare, measure, print."""
    model = ROOT / "examples" / story.model
    command = ["compile", str(model), "--target", "mcu", "--device", story.device, "--data"]
    cli.main(
        [*command, str(data), "--max-drop", "1%", *story.options, "-o", str(folder)],
        standalone_mode=False,
    )
    opened = open_folder(folder)
    executors = [word for name in story.executors for word in ("--executor", name)]
    validate = ["validate", str(folder), "--data", str(data), "--samples", str(samples)]
    cli.main([*validate, *executors], standalone_mode=False)
    found = accuracy(opened, data)
    used = opened.backend.footprint(opened.graph, opened.device).regions()
    print(f"{story.device}: {found:.2%} of the test images, by the C on this machine")
    print(f"{used['flash']} B of flash and {used['ram']} B of RAM, stack and input included")
    if opened.device.core in PARTS:
        network, some = build(opened.graph, eight=True), input_for(opened, data, samples, 0)
        part = PARTS[opened.device.core]
        cycles = measure(sources(folder, network), network, some, part).cycles.sum(1)
        print(f"{cycles.mean():,.0f} cycles an image, {cycles.mean() / 16_000:.1f} ms at 16 MHz")
    if found <= story.least:
        raise SystemExit(f"not above {story.least:.0%}")


def main() -> None:
    """Both stories, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--samples", type=int, default=20, help="compared with the reference")
    parser.add_argument("--only", choices=STORIES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name, story in STORIES.items():
            if arguments.only not in (None, name):
                continue
            data, folder = Path(scratch) / f"{name}.npz", Path(scratch) / name
            if name == "avr":
                np.savez(data, allow_pickle=False, **exported(arguments.data))
            else:
                write(arguments.data, data)
            tell(story, data, folder, arguments.samples)


if __name__ == "__main__":
    main()
