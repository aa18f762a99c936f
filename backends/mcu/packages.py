"""The emitted files in the layouts of build systems, each with an example that runs the sample."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from qspinn import __version__
from qspinn.backend import Artifact, Sample
from qspinn.ir import Graph
from qspinn.render import render

from .emit import FORMAT, data_table, in_order
from .network import Network
from .outlets import summary
from .selftest import SelfTest, buffers, given, self_test, unit_of


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a build system wants what.

    Attributes:
        include: The folder of the files that users include.
        source: The folder of all others.
        files: The template of every further file, by path; ``{P}`` is the network's prefix. A
            path that an emitted file has already takes its place.
    """

    include: str
    source: str
    files: Mapping[str, str]


_COMMON = {"README.md": "readme.md.j2", "LICENSE": "license.j2"}
LAYOUTS: Mapping[str, Layout] = {
    "cmake": Layout(
        "include",
        "src",
        {
            **_COMMON,
            "CMakeLists.txt": "cmake/lists.j2",
            "cmake/{P}Config.cmake.in": "cmake/config.j2",
            "examples/classify/CMakeLists.txt": "cmake/example.j2",
            "examples/classify/main.c": "classify.c.j2",
        },
    ),
    "arduino": Layout(
        "src",
        "src",
        {
            **_COMMON,
            "library.properties": "arduino/properties.j2",
            "keywords.txt": "arduino/keywords.j2",
            "src/{P}.c": "arduino/name.c.j2",
            "examples/Classify/Classify.ino": "arduino/sketch.j2",
        },
    ),
    "platformio": Layout(
        "include",
        "src",
        {
            **_COMMON,
            "library.json": "platformio/library.j2",
            "examples/classify/platformio.ini": "platformio/ini.j2",
            "examples/classify/src/main.c": "classify.c.j2",
        },
    ),
    "zephyr": Layout(
        "include",
        "src",
        {
            **_COMMON,
            "zephyr/module.yml": "zephyr/module.j2",
            "zephyr/CMakeLists.txt": "zephyr/lists.j2",
            "zephyr/Kconfig": "zephyr/kconfig.j2",
            "samples/classify/CMakeLists.txt": "zephyr/example.j2",
            "samples/classify/prj.conf": "zephyr/conf.j2",
            "samples/classify/sample.yaml": "zephyr/sample.j2",
            "samples/classify/src/main.c": "classify.c.j2",
        },
    ),
    "esp-idf": Layout(
        "include",
        "src",
        {
            **_COMMON,
            "CMakeLists.txt": "esp-idf/lists.j2",
            "Kconfig": "esp-idf/kconfig.j2",
            "idf_component.yml": "esp-idf/component.j2",
            "examples/classify/CMakeLists.txt": "esp-idf/example.j2",
            "examples/classify/sdkconfig.defaults": "esp-idf/defaults.j2",
            "examples/classify/main/CMakeLists.txt": "esp-idf/main.j2",
            "examples/classify/main/idf_component.yml": "esp-idf/dependency.j2",
            "examples/classify/main/main.c": "classify.c.j2",
        },
    ),
}
KINDS = tuple(LAYOUTS)
FOLDER = "packages"
"""Where packages lie in an output folder: ``packages/<kind>/<name>``."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table for people."""

    what: str
    value: str


@dataclass(frozen=True, slots=True)
class Doc:
    """What package files say beside the network itself.

    Attributes:
        kind: Of package.
        version: qspinn's.
        semver: The package's own: qspinn's as a semantic version, and the model.
        numbers: The first three numbers of it.
        device: The part, as the manifest names it.
        about: What the network is, on one line.
        name: What an Arduino library may be called.
        facts: Memory, accuracy, cost.
    """

    kind: str
    version: str
    semver: str
    numbers: str
    device: str
    about: str
    name: str
    facts: tuple[Row, ...]


def self_tested(artifact: Artifact, network: Network, graph: Graph, sample: Sample) -> Artifact:
    """An artifact with ``<name>_selftest.h``; its facts tell of it.

    Args:
        artifact: What was emitted for ``network``.
        network: Made from ``graph``.
        graph: The legalized graph.
        sample: What is recorded.
    """
    test = self_test(network, graph, sample)
    name = f"{network.prefix}_selftest.h"
    told = {
        "origin": test.origin,
        "steps": test.steps,
        "winner": test.winner,
        "label": test.label,
        "flash_bytes": test.bytes,
        "constant": test.constant,
    }
    if test.others:
        told["others"] = {read.word: winner for read, winner in test.others}
    files = {**artifact.files, name: _test_file(network, test)}
    return replace(artifact, files=files, facts={**artifact.facts, "selftest": told})


def _test_file(network: Network, test: SelfTest) -> bytes:
    text = render(
        "mcu/name_selftest.h.j2", net=network, P=network.prefix, M=network.macro, test=test,
        tables=[data_table(t) for t in in_order(test.tables)], given=given(network.port),
        format=FORMAT, version=__version__, model=f"0x{network.model[:8].upper()}u",
    )  # fmt: skip
    return text.encode("ascii")


def package(
    artifact: Artifact, network: Network, manifest: Mapping[str, Any], kind: str
) -> dict[str, bytes]:
    """The files of one kind of package, by path below the artifact's folder.

    Args:
        artifact: With its self-test.
        network: What it was emitted from.
        manifest: What the folder's manifest says.
        kind: One of `KINDS`.
    """
    layout, prefix = LAYOUTS[kind], network.prefix
    root = f"{FOLDER}/{kind}/{prefix}"
    hidden = {f"{prefix}.c", f"{prefix}_impl.h", f"{prefix}_data.h"}
    files = {
        f"{root}/{layout.source if name in hidden else layout.include}/{name}": content
        for name, content in artifact.files.items()
    }
    context = {
        "doc": _doc(network, manifest, kind),
        "net": network,
        "P": prefix,
        "M": network.macro,
        "public": sorted(set(artifact.files) - hidden),
        "buffers": buffers(network.port),
        "unit": unit_of(network.port),
        "arguments": "".join(f", {buffer.name}" for buffer in buffers(network.port)),
        "labelled": artifact.facts["selftest"]["label"] is not None,
        "given": given(network.port),
        "constant": artifact.facts["selftest"]["constant"],
    }
    for path, template in layout.files.items():
        text = render(f"mcu/packages/{template}", **context)
        files[f"{root}/{path.format(P=prefix)}"] = text.encode("ascii")
    return files


def _doc(network: Network, manifest: Mapping[str, Any], kind: str) -> Doc:
    numbers, semver = semantic(__version__, network.model)
    prefix = network.prefix
    return Doc(
        kind=kind,
        version=__version__,
        semver=semver,
        numbers=numbers,
        device=str(manifest["device"]),
        about=f"A spiking neural network: {summary(network)}",
        # Names that begin with Arduino are Arduino's own.
        name=f"net_{prefix}" if prefix.startswith("arduino") else prefix,
        facts=tuple(_facts(manifest)),
    )


def semantic(version: str, model: str) -> tuple[str, str]:
    """The numbers of a Python version, and a semantic version that names the model, too.

    ``1.2.0rc1`` and a model that begins with ``0a1b2c3d`` give ``1.2.0`` and
    ``1.2.0-rc1+0a1b2c3d``.
    """
    found = re.match(r"(\d+)\.(\d+)\.(\d+)[.-]?(\w*)", version)
    assert found is not None, "qspinn has three numbers"
    numbers = ".".join(str(int(part)) for part in found.groups()[:3])
    before = f"-{found[4]}" if found[4] else ""
    return numbers, f"{numbers}{before}+{model[:8]}"


def _facts(manifest: Mapping[str, Any]) -> Iterator[Row]:
    """Memory, accuracy, cost and the recorded sample, as the manifest has them."""
    lines = manifest["footprint"]
    for region in dict.fromkeys(line["region"] for line in lines):
        kinds: dict[str, int] = {}
        for line in lines:
            if line["region"] == region:
                kinds[line["kind"]] = kinds.get(line["kind"], 0) + line["bytes"]
        parts = ", ".join(f"{what} {size:,}" for what, size in kinds.items())
        yield Row(region, f"{sum(kinds.values()):,} B: {parts}")
    network = sum(x["bytes"] for x in lines if x["kind"] in ("weights", "constants", "state"))
    base = manifest["baseline_bytes"]
    yield Row("in float32", f"{base:,} B: {base / max(network, 1):.1f} times weights and state")
    accuracy = manifest["accuracy"]
    if accuracy:
        for name in ("float", "integer"):
            yield Row(f"accuracy, {name}", _estimate(accuracy[name]))
    if counts := manifest["facts"].get("instructions"):
        told = ", ".join(f"{core} {count:,}" for core, count in counts.items())
        yield Row("instructions an inference", f"{told}: estimates for the header's spike rates")
    test = manifest["facts"]["selftest"]
    others = "".join(f", of {word} {winner}" for word, winner in test.get("others", {}).items())
    told = f"{test['origin']}: {test['steps']} steps, decision {test['winner']}{others}"
    yield Row("recorded sample", told)
    yield Row("self-test", f"{test['flash_bytes']:,} B of flash more, where it is compiled in")


def _estimate(value: Mapping[str, Any]) -> str:
    low, high = 100 * value["low"], 100 * value["high"]
    return f"{100 * value['value']:.2f} % [{low:.2f}, {high:.2f}] of {value['count']:,} samples"
