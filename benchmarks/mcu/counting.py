"""Instructions that functions take on emulated cores, as GCC or zig's clang compiles them."""

from __future__ import annotations

import bisect
import io
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile
from qspinn.backends.mcu import toolchain
from qspinn.backends.mcu.emulate import Emulator
from qspinn.backends.mcu.network import Network
from qspinn.backends.mcu.samples import Recording, events, trace
from qspinn.backends.mcu.toolchain import CORES, Core

from qspinn import interp
from qspinn.fixed import IntArray
from qspinn.ir import Graph

COMPILERS = ("gcc", "clang")
Structs = np.ndarray[Any, np.dtype[np.void]]
NAMES = {
    "M0+": "cortex-m0plus", "M3": "cortex-m3", "M4": "cortex-m4", "M33": "cortex-m33",
    "RV32": "rv32imc",
}  # fmt: skip
RISCV = ("riscv64-unknown-elf-gcc", "-march=rv32imc", "-mabi=ilp32", "-Wl,--no-relax")


def command(core: Core, compiler: str) -> list[str]:
    """The compiler with its options for a core."""
    if compiler == "clang":
        return [*toolchain.zig(core)]
    gcc = ("arm-none-eabi-gcc", *core.gcc) if core.arm else RISCV
    return [*gcc, "-O2", "-std=c99", "-ffreestanding"]


@dataclass(frozen=True)
class Program:
    """A linked image.

    Attributes:
        image: The file.
        core: What it is for.
        sizes: The bytes of each function, array and table by its name.
    """

    image: bytes
    core: Core
    sizes: Mapping[str, int]


def linked(files: Mapping[str, bytes], core: Core, compiler: str, *options: str) -> Program:
    """The image of every ``.c`` file of some files, with nothing else but compilers' helpers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        made = [file for file in files if file.endswith(".c")]
        ends = ["-lgcc"] if compiler == "gcc" else []
        subprocess.run(
            [
                *command(core, compiler), *options, "-nostdlib", "-Wl,-e,0", "-Wl,--no-gc-sections",
                *made, *ends, "-o", "image.elf",
            ],
            cwd=folder, check=True,
        )  # fmt: skip
        image = (folder / "image.elf").read_bytes()
    table: Any = ELFFile(io.BytesIO(image)).get_section_by_name(".symtab")
    sizes = {s.name: int(s["st_size"]) for s in table.iter_symbols() if s["st_size"]}
    return Program(image, core, sizes)


class Counted:
    """An emulated core that counts the instructions of each function."""

    def __init__(self, program: Program) -> None:
        self.emulator = Emulator(program.image, program.core)
        table: Any = ELFFile(io.BytesIO(program.image)).get_section_by_name(".symtab")
        places = sorted(
            (s["st_value"] & ~1, s.name) for s in table.iter_symbols()
            if s["st_info"]["type"] == "STT_FUNC"
        )  # fmt: skip
        self.starts, self.names = [p[0] for p in places], [p[1] for p in places]
        self.total: Counter[str] = Counter()

    def enable_floats(self) -> None:
        """Switch on the unit for floats where the core has one, as a startup would."""
        if self.emulator.core.isa in ("armv7em", "armv8m"):
            names = import_module("unicorn.arm_const")
            self.emulator.uc.reg_write(names.UC_ARM_REG_C1_C0_2, 0xF << 20)
            self.emulator.uc.reg_write(names.UC_ARM_REG_FPEXC, 1 << 30)

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Count inside, function by function."""
        known: dict[tuple[int, int], tuple[str, int]] = {}

        def block(uc: Any, address: int, size: int, _: object) -> None:
            found = known.get((address, size))
            if found is None:
                name = self.names[bisect.bisect_right(self.starts, address) - 1]
                length = self.emulator.instructions_in(uc.mem_read(address, size))
                found = known[address, size] = (name, length)
            self.total[found[0]] += found[1]

        hook = self.emulator.uc.hook_add(self.emulator.block, block)
        try:
            yield self.total
        finally:
            self.emulator.uc.hook_del(hook)


def stages(program: Program, network: Network, data: IntArray) -> tuple[Counter[str], bytes]:
    """The instructions of each stage for all samples (batch, steps, ...), and every state seen."""
    board, port, prefix = Counted(program), network.port, network.prefix
    call, seen = board.emulator.call, []
    state = board.emulator.allocate(network.struct.bytes)
    indices = board.emulator.allocate(port.size * 4)
    values = board.emulator.allocate(port.size * 8)
    with board.counting() as total:
        for sample in data.reshape(*data.shape[:2], port.size):
            call(f"{prefix}_reset", state)
            for event in events(port, sample):
                arguments = [state]
                if port.kind != "current":
                    written = event.indices.astype(port.index.dtype).tobytes()
                    board.emulator.write(indices, written)
                    arguments.append(indices)
                if port.value:
                    board.emulator.write(values, event.values.astype(port.value.dtype).tobytes())
                    arguments.append(values)
                if port.kind != "current":
                    arguments.append(len(event.indices))
                assert call(f"{prefix}_step", *arguments) == 0
                seen.append(board.emulator.read(state, network.struct.bytes))
    return Counter({n.removeprefix(f"{prefix}_"): c for n, c in total.items()}), b"".join(seen)


def states(network: Network, seen: bytes, batch: int) -> Structs:
    """What `stages` saw, as structs (batch, steps)."""
    return np.frombuffer(seen, network.struct.dtype()).reshape(batch, -1)


def checked(
    graph: Graph, network: Network, files: Mapping[str, bytes], data: IntArray, place: str,
    compiler: str,
) -> Counter[str]:  # fmt: skip
    """The instructions of each stage; it is an error if a state is not the reference's."""
    total, seen = stages(linked(files, core(place), compiler), network, data)
    read = states(network, seen, len(data))
    found = trace(network, Recording(read, np.zeros(len(data), np.int64)))
    want = interp.run(graph, data)
    if not all(np.array_equal(found.states[name], values) for name, values in want.states.items()):
        raise SystemExit(f"{network.prefix} on {place} with {compiler} is not the reference")
    return total


def core(name: str) -> Core:
    """A core by its short name."""
    return CORES[NAMES[name]]
