"""Emulated cores: emitted C compiled by zig or GCC, its functions called one by one in unicorn."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from qspinn.errors import BackendError, ToolchainError
from qspinn.fixed import IntArray

from . import toolchain
from .builds import Built, Files
from .network import Network
from .samples import Event, Recording, events, mask
from .toolchain import HINT_PIP, Core

PAGE = 0x1000
RAM = 0x2000_0000
RAM_BYTES = 0x80_0000
STACK_BYTES = 0x10_0000
RETURN = 0x0FFF_0000
"""Where calls return to: a page of its own, at which the emulator stops."""

PAINT = 0xA5


def tool(name: str) -> Any:
    """An optional module.

    Raises:
        ToolchainError: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ToolchainError(f"{package} is not installed", hint=HINT_PIP) from error


class Emulator:
    """One core with a linked image and RAM; functions are called as the ABI says."""

    def __init__(self, image: bytes, core: Core) -> None:
        unicorn = tool("unicorn")
        if core.arm and not core.unicorn:
            raise BackendError(
                f"unicorn has no {core.name}", hint="QEMU has a Cortex-M55: qemu-cortex-m55"
            )
        self.core = core
        if core.arm:
            names, register = tool("unicorn.arm_const"), "UC_ARM_REG_R"
            mode = unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
            self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM, mode)
            self.uc.ctl_set_cpu_model(getattr(names, core.unicorn))
            self.stack, self.link = names.UC_ARM_REG_SP, names.UC_ARM_REG_LR
        else:
            names, register = tool("unicorn.riscv_const"), "UC_RISCV_REG_A"
            self.uc = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
            self.stack, self.link = names.UC_RISCV_REG_SP, names.UC_RISCV_REG_RA
        self.failure, self.block = unicorn.UcError, unicorn.UC_HOOK_BLOCK
        self.arguments = [getattr(names, f"{register}{i}") for i in range(4)]
        self.thumb = 1 if core.arm else 0
        elf = tool("elftools.elf.elffile").ELFFile(io.BytesIO(image))
        table = elf.get_section_by_name(".symtab")
        self.symbols = {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}
        if (near := self.symbols.get("__global_pointer$")) is not None:
            self.uc.reg_write(names.UC_RISCV_REG_GP, near)  # a linker addresses what is near by it
        self._load(elf)
        self.uc.mem_map(RAM, RAM_BYTES)
        self.uc.mem_map(RETURN, PAGE)
        self.free, self.top = RAM, RAM + RAM_BYTES

    def _load(self, elf: Any) -> None:
        segments = [g for g in elf.iter_segments() if g["p_type"] == "PT_LOAD" and g["p_memsz"]]
        pages: set[int] = set()
        for g in segments:
            first, last = g["p_vaddr"] // PAGE, (g["p_vaddr"] + g["p_memsz"] - 1) // PAGE
            pages.update(range(first, last + 1))
        for page in pages:
            self.uc.mem_map(page * PAGE, PAGE)
        for g in segments:
            self.uc.mem_write(g["p_vaddr"], g.data())

    def allocate(self, size: int) -> int:
        """An address in RAM for ``size`` bytes.

        Raises:
            BackendError: The emulated RAM is full.
        """
        at = self.free
        self.free = (at + size + 7) & ~7
        if self.free > self.top - STACK_BYTES:
            raise BackendError(f"the network needs more than {RAM_BYTES - STACK_BYTES} B of RAM")
        return at

    def write(self, at: int, content: bytes) -> None:
        """Write to memory."""
        if content:
            self.uc.mem_write(at, content)

    def read(self, at: int, size: int) -> bytes:
        """Read memory."""
        return bytes(self.uc.mem_read(at, size))

    def call(self, name: str, *arguments: int) -> int:
        """Call a function of at most four arguments; its result."""
        for register, value in zip(self.arguments, arguments, strict=False):
            self.uc.reg_write(register, value)
        self.uc.reg_write(self.stack, self.top)
        self.uc.reg_write(self.link, RETURN | self.thumb)
        try:
            self.uc.emu_start(self.symbols[name] | self.thumb, RETURN)
        except self.failure as error:
            raise BackendError(f"{name} fails on an emulated {self.core.name}: {error}") from error
        return int(self.uc.reg_read(self.arguments[0]))

    @contextmanager
    def counting(self) -> Iterator[list[int]]:
        """Count the instructions of every call inside; the list holds the sum."""
        total, known = [0], dict[tuple[int, int], int]()

        def block(uc: Any, address: int, size: int, _: object) -> None:
            length = known.get((address, size))
            if length is None:
                length = known[address, size] = self.instructions_in(uc.mem_read(address, size))
            total[0] += length

        hook = self.uc.hook_add(self.block, block)
        try:
            yield total
        finally:
            self.uc.hook_del(hook)

    def instructions_in(self, code: bytes) -> int:
        """How many instructions a piece of straight code has."""
        count, at = 0, 0
        while at < len(code):
            half = code[at] | code[at + 1] << 8
            long = half >> 11 >= 0x1D if self.thumb else half & 3 == 3
            at += 4 if long else 2
            count += 1
        return count

    @contextmanager
    def watching_stack(self) -> Iterator[list[int]]:
        """Note how deep the stack grows in the calls inside; the list holds the bytes."""
        deepest = [0]
        bottom = self.top - STACK_BYTES
        self.write(bottom, bytes([PAINT]) * STACK_BYTES)
        yield deepest
        painted = np.frombuffer(self.read(bottom, STACK_BYTES), np.uint8)
        (used,) = np.nonzero(painted != PAINT)
        deepest[0] = STACK_BYTES - int(used[0]) if used.size else 0


@lru_cache(maxsize=8)
def linked(files: Files, prefix: str, core: Core, compiler: str = "clang") -> bytes:
    """The image of emitted files for a core: nothing but their own code and constants.

    Raises:
        ToolchainError: The compiler, `toolchain.COMPILERS`, is not installed.
        BackendError: It fails, or does not know the core.
    """
    built = Built(files)
    command = [
        *toolchain.compiler(core, compiler), "-nostdlib", f"-Wl,-e,{prefix}_step",
        "-Wl,--no-gc-sections", f"{prefix}.c", "-o", "image.elf",
        *(["-lgcc"] if core is toolchain.RV32EC else []),  # it multiplies
    ]  # fmt: skip
    toolchain.compile_(command, built.folder)
    return (built.folder / "image.elf").read_bytes()


class Board:
    """An emulated core that holds one state of a network and its input arrays."""

    def __init__(self, files: Files, network: Network, core: Core, compiler: str = "clang") -> None:
        self.network, self.port = network, network.port
        self.emulator = Emulator(linked(files, network.prefix, core, compiler), core)
        self.state = self.emulator.allocate(network.struct.bytes)
        self.indices = self.emulator.allocate(max(self.port.size * self.port.index.bytes, 4))
        wide = self.port.value.bytes if self.port.value else 0
        self.values = self.emulator.allocate(self.port.size * wide)
        self.loaded: bytes | None = None

    def reset(self) -> None:
        """Before a sample."""
        self.loaded = None
        self.emulator.call(f"{self.network.prefix}_reset", self.state)

    def step(self, event: Event) -> bytes:
        """One step; the state after it.

        Raises:
            BackendError: The step is refused.
        """
        arguments = [self.state, *self._input(event)]
        if status := self.emulator.call(f"{self.network.prefix}_step", *arguments):
            raise BackendError(f"{self.network.prefix}_step returns {status - (1 << 32)}")
        return self.emulator.read(self.state, self.network.struct.bytes)

    def _input(self, event: Event) -> list[int]:
        """Place a step's input in memory; what the call takes of it."""
        port, emulator = self.port, self.emulator
        if port.form == "mask":
            emulator.write(self.indices, mask(port, event).tobytes())
            return [self.indices]
        if port.value:
            values = event.values.astype(port.value.dtype).tobytes()
            if port.form == "load":
                self._load(values)
                return []
            emulator.write(self.values, values)
        if port.kind == "current":
            return [self.values]
        emulator.write(self.indices, event.indices.astype(port.index.dtype).tobytes())
        return [self.indices, *([self.values] if port.value else []), len(event.indices)]

    def _load(self, values: bytes) -> None:
        """Load what stays for all steps, where it is not loaded yet."""
        if values == self.loaded:
            return
        self.emulator.write(self.values, values)
        name = f"{self.network.prefix}_load"
        if status := self.emulator.call(name, self.state, self.values):
            raise BackendError(f"{name} returns {status - (1 << 32)}")
        self.loaded = values

    def winner(self) -> int:
        """The decision."""
        return self.emulator.call(f"{self.network.prefix}_winner", self.state)

    def others(self) -> list[int]:
        """The decision of every further output."""
        functions = (f"{self.network.prefix}_{x.start}winner" for x in self.network.others)
        return [self.emulator.call(name, self.state) for name in functions]

    def run(self, data: IntArray) -> Recording:
        """A batch (batch, steps, *shape)."""
        batch, steps = data.shape[:2]
        states, winners, others = [], [], []
        for sample in data.reshape(batch, steps, self.port.size):
            self.reset()
            states += [self.step(event) for event in events(self.port, sample)]
            winners.append(self.winner())
            others.append(self.others())
        seen = np.frombuffer(b"".join(states), self.network.struct.dtype())
        return Recording(
            seen.reshape(batch, steps), np.array(winners, np.int64), np.array(others, np.int64)
        )


def instructions(
    files: Files, network: Network, data: IntArray, core: Core, compiler: str = "clang"
) -> IntArray:
    """The instructions of each step, (batch, steps): exact, on an emulated core."""
    board = Board(files, network, core, compiler)
    batch, steps = data.shape[:2]
    counts = np.zeros((batch, steps), np.int64)
    with board.emulator.counting() as total:
        for b, sample in enumerate(data.reshape(batch, steps, network.port.size)):
            board.reset()
            for t, event in enumerate(events(network.port, sample)):
                before = total[0]
                board.step(event)
                counts[b, t] = total[0] - before
    return counts


def stack_bytes(
    files: Files, network: Network, data: IntArray, core: Core, compiler: str = "clang"
) -> int:
    """The deepest stack of any call on this data, on an emulated core."""
    board = Board(files, network, core, compiler)
    with board.emulator.watching_stack() as deepest:
        board.run(data)
    return deepest[0]
