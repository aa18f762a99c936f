"""Convolutional networks on microcontrollers: instructions an inference, beside dense int8 code.

Each network runs as qspinn emits it and as plain dense int8 code (`dense_int8`) on emulated cores,
on the same recordings; both must give the reference's spikes, or the script ends with an error.
Which convolutions gather is what a compilation for the core chooses by the activity that it sees.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from counting import COMPILERS, NAMES, Counted, Program, checked, core, linked
from dense_int8 import Dense, macs
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.gathering import asked

from qspinn import interp
from qspinn.activity import observed
from qspinn.choice import Choice, Choices
from qspinn.cost import Activity
from qspinn.engine.layout import fan_out
from qspinn.fixed import IntArray
from qspinn.ir import CONNECTIONS, Graph
from qspinn.job import plan_for, prepare
from qspinn.pipeline import lower
from qspinn.plan import Plan
from qspinn.signals import signals

ROOT = Path(__file__).resolve().parents[2]
SIDE, CALIBRATE = 34, 100
NOTHING = Plan({})


@dataclass(frozen=True)
class Case:
    """A network, its formats, and how recordings become its input."""

    name: str
    model: Path
    steps: int
    milliseconds: int
    choices: Choices


def cases(models: Path) -> tuple[Case, ...]:
    """N-MNIST-8 with more and with fewer bits, and the N-MNIST network of sinabs."""
    ours = ROOT / "examples" / "nmnist" / "nmnist.nir"
    sinabs = models / "nir" / "cnn_sinabs.nir"
    bytes_ = {f"lif{i}.v": Choice(bits=8) for i in (1, 2, 3)}
    few = {f"{name}.weight": Choice(bits=2) for name in ("conv1", "conv2", "fc3")}
    return (
        Case("N-MNIST-8, weights 8 bits, states 16", ours, 20, 15, {}),
        Case("N-MNIST-8, weights and states 8 bits", ours, 20, 15, bytes_),
        Case("N-MNIST-8, weights 2 bits, states 8", ours, 20, 15, {**bytes_, **few}),
        Case("cnn_sinabs, weights 8 bits, states 16", sinabs, 30, 10, {}),
    )


def recordings(path: Path, case: Case, count: int) -> IntArray:
    """The first test recordings as spikes (count, steps, 2, 34, 34): one an input and step."""
    with np.load(path) as file:
        ends = file["test_offsets"].astype(np.int64)
        low, middle, high = (file[f"test_d{k}"].astype(np.int64) for k in range(3))
    moves, inputs = low | middle << 8 | high << 16, 2 * SIDE**2
    found = np.zeros((count, case.steps, inputs), np.int64)
    for n, sample in enumerate(np.linspace(0, len(ends) - 2, count).astype(int)):
        keys = np.cumsum(moves[ends[sample] : ends[sample + 1]])
        step, index = keys // inputs // case.milliseconds, keys % inputs
        found[n, step[step < case.steps], index[step < case.steps]] = 1
    return found.reshape(count, case.steps, 2, SIDE, SIDE)


def compiled(case: Case, data: IntArray) -> Graph:
    """The integer network, calibrated on the recordings."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "recordings.npz"
        np.savez(path, x=data.astype(np.uint8))
        job = prepare(case.model, path, encode={"kind": "none"})
    plan = plan_for(job, BACKEND, choices=case.choices)
    return lower(job.graph, plan, BACKEND).final


def operations(graph: Graph, data: IntArray) -> float:
    """Synaptic operations a sample: weights added because of events, however large their values."""
    known, total = signals(graph), 0
    watched = dict(watch(graph, data))
    for node in graph.nodes:
        if isinstance(node, CONNECTIONS):
            sent = watched[node.inputs[0]].reshape(-1, known[node.inputs[0]].size) != 0
            total += int((sent * fan_out(node, known[node.inputs[0]], known[node.name])).sum())
    return total / len(data)


def watch(graph: Graph, data: IntArray) -> Iterator[tuple[str, IntArray]]:
    """What every node sends, (batch, steps, *shape)."""
    machine = interp._Machine(graph, {graph.input.name: data}, len(data), None)
    seen: dict[str, list[IntArray]] = {node.name: [] for node in graph.nodes}
    for t in range(data.shape[1]):
        machine.step(t)
        for name, value in machine.values.items():
            seen[name].append(value)
    for name, values in seen.items():
        if values:
            yield name, np.stack(values, 1)


def chosen(graph: Graph, seen: Activity, place: str) -> Plan:
    """What a compilation for a core says of the kernels."""
    device = replace(BACKEND.devices[BACKEND.default_device], core=NAMES[place])
    return Plan({}, options=BACKEND.kernels(graph, device, seen, NOTHING))


def ours(
    graph: Graph, data: IntArray, place: str, compiler: str, plan: Plan = NOTHING
) -> dict[str, int]:
    """The instructions of each stage, the states checked against the reference."""
    network = build(graph, gather=asked(plan.options, graph))
    device = BACKEND.devices[BACKEND.default_device]
    files = BACKEND.emit(graph, device, plan=plan).files
    return dict(checked(graph, network, files, data, place, compiler))


def dense(graph: Graph, data: IntArray, place: str, compiler: str) -> int:
    """The same of the dense code."""
    network = build(graph)
    device = BACKEND.devices[BACKEND.default_device]
    files = dict(BACKEND.emit(graph, device, plan=NOTHING).files)
    del files[f"{network.prefix}.c"]
    made = Dense(graph, network)
    program = linked({**files, "dense.c": made.source().encode()}, core(place), compiler)
    count, spikes = _run(made, program, data)
    want = interp.run(graph, data).outputs[network.read.output]
    if not np.array_equal(spikes.reshape(want.shape), want):
        raise SystemExit(f"dense {network.prefix} on {place} with {compiler} is not the reference")
    return count


def _run(made: Dense, program: Program, data: IntArray) -> tuple[int, IntArray]:
    board, found = Counted(program), []
    emulator, graph = board.emulator, made.graph
    ends = made.view.source(graph.output.inputs[0])
    size = int(np.prod(made.signals[ends.name].shape))
    with board.counting() as total:
        for sample in data:
            for name, length in program.sizes.items():
                if name.endswith("_v"):
                    emulator.write(emulator.symbols[name], bytes(length))
            for x in sample:
                content = np.ascontiguousarray(x.transpose(1, 2, 0)).astype(np.uint8).tobytes()
                emulator.write(emulator.symbols[f"at_{graph.input.name}"], content)
                emulator.call("dense_step")
                sent = emulator.read(emulator.symbols[f"at_{ends.name}"], size)
                found.append(np.frombuffer(sent, np.uint8).astype(np.int64))
    return sum(total.values()), np.array(found)


def report(case: Case, arguments: argparse.Namespace) -> None:
    """The rows of a network."""
    everything = recordings(arguments.data / "nmnist8_1ms.npz", case, CALIBRATE)
    graph = compiled(case, everything)
    busy = np.argsort(everything.reshape(len(everything), -1).sum(1), kind="stable")
    middle = (len(busy) - arguments.samples) // 2  # of usual activity
    data = everything[busy[middle : middle + arguments.samples]]
    done, steps = operations(graph, data), data.shape[1]
    print(f"\n{case.name}: {build(graph).struct.bytes} B of state, {steps} steps, "
          f"{data.sum() / len(data):.0f} events, {done / 1e3:.0f} k synaptic operations, "
          f"dense {macs(graph) * steps / 1e3:.0f} k", flush=True)  # fmt: skip
    seen = observed(graph, everything)
    print("core compiler |  qspinn k  an operation | dense k  | ratio | stages, k")
    for place in arguments.cores:
        for compiler in arguments.compilers:
            plan = chosen(graph, seen, place)
            counts = ours(graph, data, place, compiler, plan)
            total = sum(counts.values()) / len(data)
            other = dense(graph, data[:1], place, compiler)
            parts = ", ".join(
                f"{n} {c / len(data) / 1e3:.0f}" for n, c in counts.items() if c > total / 50
            )
            names = " ".join(sorted(asked(plan.options, graph))) or "none"
            print(f"{place:4} {compiler:8} | {total / 1e3:9.0f} {total / done:13.2f} | "
                  f"{other / 1e3:8.0f} | {other / total:5.1f} | {parts}; gather: {names}",
                  flush=True)  # fmt: skip


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of nmnist8_1ms.npz")
    parser.add_argument("--models", type=Path, required=True, help="the folder of nir/")
    parser.add_argument("--cores", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--compilers", nargs="+", default=list(COMPILERS), choices=COMPILERS)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--cases", type=int, nargs="+", default=[0, 1, 2, 3])
    arguments = parser.parse_args()
    for number, case in enumerate(cases(arguments.models)):
        if number in arguments.cases:
            report(case, arguments)


if __name__ == "__main__":
    main()
