"""The memory of a network: data to the byte, stack as a bound, code as an estimate."""

from __future__ import annotations

from qspinn.memory import Device, Footprint, Line

from .avr import PARTS
from .codesize import code_bytes, stack_bytes
from .network import Network


def footprint(network: Network, device: Device) -> Footprint:
    """The memory of a network on a device.

    Constants and the state are what compiler and linker make of them, to the byte. The stack is
    an upper bound for a call, and code an estimate, for the device's core, of zig's clang at -O2.
    """
    flash = [Line(t.kind, t.owner, "flash", t.bytes) for t in network.tables]
    ram: dict[str, int] = {}
    for member in network.struct.members:
        ram[member.owner] = ram.get(member.owner, 0) + member.bytes
    state = [Line("state", owner, "ram", size) for owner, size in ram.items()]
    if network.struct.padding and device.core not in PARTS:  # AVRs align nothing
        state.append(Line("state", "padding", "ram", network.struct.padding))
    return Footprint(
        (
            *flash,
            *state,
            Line("input buffer", "", "ram", network.port.bytes),
            Line("stack", "", "ram", stack_bytes(network, device)),
            Line("code", "", "flash", code_bytes(network, device)),
        )
    )
