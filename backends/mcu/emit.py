"""The emitted files of a network: pure text, the same for the same graph and device."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qspinn import __version__
from qspinn.backend import Artifact
from qspinn.cost import Activity
from qspinn.fixed import Rounding
from qspinn.memory import Device, Footprint
from qspinn.render import render

from . import lanes
from .codesize import code_bytes
from .costmacros import assumed
from .costmacros import macros as cost_macros
from .costmodel import typical
from .eight import check_reach
from .gathering import GATHERS
from .intake import MARKS
from .layout import Member, Table
from .network import Network, Port, Read, number
from .outlets import Outlet, outlets, summary
from .runs import coder_of, exit_of, wrapped
from .scatter import PAIRS

FORMAT = 2
"""Version of what the emitted files promise each other."""

WIDTH = 96
_NEEDS = {
    "asr64": ("join", "signed", "asr"),
    "join": ("signed",),
    "mul64": ("join", "signed"),
    "wrap": ("signed",),
    **{f"shr_{r}": ("asr",) for r in Rounding},
    **{f"shr64_{r}": ("asr64", "join", "signed", "asr", "mask64") for r in Rounding},
    **{f"mul_shr_{r}": ("asr", "signed") for r in Rounding},
}
"""What each arithmetic function calls."""
_FORMS = {
    "mask": "a step takes a bit for each input",
    "load": "values are loaded once for all steps",
}
_PAIRS = ("get_pair", "put_pair", "get_quad", "put_quad")


@dataclass(frozen=True, slots=True)
class Macro:
    """A fact of the network as a macro."""

    name: str
    code: str
    note: str = ""
    avr: str = ""  # on AVRs, where that differs


@dataclass(frozen=True, slots=True)
class Facts:
    """What the header says beside the network itself."""

    version: str
    format: int
    model: str
    summary: str
    ignored: str
    device: str
    clang_code: int
    gcc_code: int
    macros: tuple[Macro, ...]
    costs: tuple[Macro, ...]
    assumed: tuple[str, ...]
    width: int
    members: tuple[str, ...]
    outlets: tuple[Outlet, ...]
    arguments: str
    values: str
    index_check: bool
    value_check: str


@dataclass(frozen=True, slots=True)
class DataTable:
    """A constant table, written out."""

    name: str
    type: str
    count: int
    note: str
    lines: tuple[str, ...]


def artifact(
    network: Network, footprint: Footprint, device: Device, options: Mapping[str, str]
) -> Artifact:
    """What is emitted for a network.

    Args:
        network: What is emitted.
        footprint: Its memory on ``device``.
        device: The part.
        options: The plan's; ``steps`` becomes a macro.

    Raises:
        BackendError: An AVR could not address the constants.
    """
    check_reach(network, device)
    facts = {
        "prefix": network.prefix,
        "model": network.model,
        "format": FORMAT,
        "device": device.name,
        "state_bytes": network.struct.bytes,
        "instructions": typical(network, Activity.of(options)),
    }
    return Artifact("mcu", network.prefix, files(network, footprint, device, options), facts)


def files(
    network: Network, footprint: Footprint, device: Device, options: Mapping[str, str]
) -> dict[str, bytes]:
    """The emitted files by name."""
    facts = facts_of(network, footprint, device, options)
    prefix, coder = network.prefix, coder_of(network, options)
    context = {
        "net": network,
        "P": prefix,
        "M": network.macro,
        "facts": facts,
        "arguments": facts.arguments,
        "passed": passed(network.port),
        "roundings": tuple(r.value for r in Rounding),
        "lanes": tuple(lane for lane in lanes.LANES if lane.reach > 1),
    }
    texts = {
        f"{prefix}.h": render("mcu/name.h.j2", coder=coder, **context),
        f"{prefix}_impl.h": implementation(network, context),
        f"{prefix}_data.h": render(
            "mcu/name_data.h.j2",
            tables=[data_table(t, network.macro) for t in in_order(network.tables)],
            **context,
        ),
        f"{prefix}_run.h": render(
            "mcu/name_run.h.j2",
            coder=coder,
            exit=exit_of(network.read),
            wrapped=wrapped,
            **context,
        ),
        f"{prefix}.c": render("mcu/name.c.j2", **context),
    }
    return {name: text.encode("ascii") for name, text in texts.items()}


def implementation(network: Network, context: Mapping[str, object]) -> str:
    """The implementation: every kernel and stage from its own template, then the API."""
    kernels = [render(f"mcu/kernels/{r.template}.c.j2", row=r, **context) for r in network.rows]
    kernels += [render("mcu/tiles/sum.c.j2", adder=adder, **context) for adder in network.adders]
    kernels += [render(f"mcu/kernels/{k.template}.c.j2", k=k, **context) for k in network.kernels]
    stages = [render(f"mcu/stages/{s.template}.c.j2", stage=s, **context) for s in network.stages]
    api = render("mcu/api.c.j2", **context)
    # The self-test reads every state, also one that no stage reads.
    read = [member.read("i", network.prefix) for member in network.states.values()]
    need = called("\n".join((*kernels, *stages, api, *read)), network.prefix)
    arithmetic = render("mcu/arithmetic.c.j2", need=need, **context)
    return render(
        "mcu/name_impl.h.j2", arithmetic=arithmetic, kernels=kernels, stages=stages, api=api,
        likely=any("_LIKELY(" in stage for stage in stages),
        **context,
    )  # fmt: skip


def called(text: str, prefix: str) -> frozenset[str]:
    """The arithmetic functions that emitted code calls, and those that they call."""
    words = ("asr", "signed", "mask64", "divide", "noise", "ones", "wrap64", "lowest")
    known = {*_NEEDS, *words, *lanes.FUNCTIONS, *_PAIRS, *PAIRS}
    found = {name for name in re.findall(rf"\b{prefix}_(\w+)\(", text) if name in known}
    return frozenset(found.union(*(_NEEDS.get(name, ()) for name in found)))


def in_order(tables: tuple[Table, ...]) -> list[Table]:
    """Tables with the most aligned first, so that a linker leaves no holes."""
    return sorted(tables, key=lambda t: -t.type.bytes)


def data_table(table: Table, macro: str = "") -> DataTable:
    """A table as the text of C; macros named for ``macro`` say how words of weights are stored."""
    words = [number(int(v), table.type) for v in table.values]
    if table.row:
        rows = (words[at : at + table.row] for at in range(0, len(words), table.row))
        lines = [f"{macro}_ROW({', '.join(row)})," for row in rows]
    else:
        if table.macro:
            words = [f"{macro}_{table.macro}(0x{int(v):08X}u)" for v in table.values]
        body = ", ".join(words)
        lines = textwrap.wrap(body, WIDTH, break_long_words=False, break_on_hyphens=False)
    return DataTable(table.name, table.type.name, table.count, table.note, tuple(lines))


def arguments(port: Port) -> str:
    """The parameters of what reads input, after the state."""
    if port.form == "mask":
        return "const uint32_t *mask"
    if port.kind == "current":
        assert port.value is not None, "a current has values"
        return f"const {port.value.name} *values"
    values = f"const {port.value.name} *values, " if port.value else ""
    return f"const {port.index.name} *events, {values}uint32_t count"


def passed(port: Port) -> str:
    """The same as arguments of a call."""
    if port.form == "mask":
        return "mask"
    if port.kind == "current":
        return "values"
    return "events, values, count" if port.value else "events, count"


def facts_of(
    network: Network, footprint: Footprint, device: Device, options: Mapping[str, str]
) -> Facts:
    """What the header says."""
    port, span = network.port, network.port.span
    macros = tuple(_macros(network, footprint, device, options))
    return Facts(
        version=__version__,
        format=FORMAT,
        model=f"0x{network.model[:8].upper()}u",
        summary=summary(network),
        ignored=_ignored(network),
        device=f"{device.name} ({device.core})" if device.core else device.name,
        clang_code=footprint.of("code"),
        gcc_code=code_bytes(network, device, "gcc"),
        macros=macros,
        costs=tuple(Macro(*words) for words in cost_macros(network, options)),
        assumed=tuple(assumed(network, options)),
        width=max(len(m.name) for m in macros) + len(network.macro) + 1,
        members=tuple(_member_lines(network.struct.members)),
        outlets=outlets(network),
        arguments=arguments(port),
        values=f"{span.lo} to {span.hi}",
        index_check=port.form == "events" and port.index.span.hi >= port.size,
        value_check=_value_check(port),
    )


def _ignored(network: Network) -> str:
    """What the header says of inputs without weights; empty where there are none."""
    if not network.ignored:
        return ""
    what = "values" if network.port.kind == "current" else "events"
    return f"{what} at {network.ignored} of {network.port.size} inputs are ignored"


def _value_check(port: Port) -> str:
    """C for what makes ``values[e]`` unacceptable; empty where its type is as narrow."""
    if port.value is None:
        return ""
    held = port.value.span
    below = f"values[e] < {number(port.span.lo, port.value)}" if held.lo < port.span.lo else ""
    above = f"values[e] > {number(port.span.hi, port.value)}" if held.hi > port.span.hi else ""
    return " || ".join(filter(None, (below, above)))


def _macros(
    network: Network, footprint: Footprint, device: Device, options: Mapping[str, str]
) -> list[Macro]:
    port, vote = network.port, network.read.vote
    found = [
        Macro("FORMAT", f"{FORMAT}", "what these files promise each other"),
        Macro("MODEL", f"0x{network.model[:8].upper()}u", "the first digits of the next"),
        Macro("MODEL_ID", f'"{network.model}"'),
        Macro("NUM_INPUTS", f"{port.size}u"),
        Macro("NUM_OUTPUTS", f"{network.read.decisions}u", _counted(network.read)),
    ]
    found += _of_others(network)
    for place in network.inputs:
        note = f"the first element of {place.title} among all inputs"
        found.append(Macro(f"FROM_{place.macro}", f"{place.first}u", note))
        found.append(Macro(f"SIZE_{place.macro}", f"{place.size}u"))
    if vote:
        found.append(Macro("NUM_VOTERS", f"{network.read.edge.size}u", "output neurons"))
    if port.form == "events":
        found.append(Macro("MAX_EVENTS", f"{port.size}u", "in a step"))
    if network.gathers:
        note = "bit n: convolution n gathers, others scatter"
        found.append(Macro(GATHERS, f"0x{network.gathers:X}u", note))
    if port.form in MARKS:
        found.append(Macro(MARKS[port.form], "1u", _FORMS[port.form]))
    found.append(Macro("SOPS_WORST", f"{network.worst_sops}u", "weights added in a step, at most"))
    if options.get("steps", "0").isdigit() and int(options.get("steps", "0")):
        found.append(Macro("NUM_STEPS", f"{int(options['steps'])}u", "a sample, as compiled"))
    bytes_of, padding = footprint.of, network.struct.padding
    core = device.core or "any core"
    found += [
        Macro(
            "STATE_BYTES",
            f"{network.struct.bytes}u",
            "the state",
            f"{network.struct.bytes - padding}u" if padding else "",  # they align nothing
        ),
        Macro(
            "INPUT_BYTES",
            f"{bytes_of('input buffer')}u",
            f"the caller's {'values' if port.kind == 'current' else port.form}, at most",
        ),
        Macro(
            "STACK_BYTES",
            f"{bytes_of('stack')}u",
            f"a step, at most, on {core}, for -O2, -O3 and -Os; -O0 takes more",
        ),
        Macro("WEIGHT_BYTES", f"{bytes_of('weights')}u"),
        Macro("CONST_BYTES", f"{bytes_of('constants')}u", "constants other than weights"),
        Macro("CODE_BYTES", "", "an estimate for -O2"),
    ]
    if network.eight:
        found.append(Macro("EIGHT", "1u", "laid out for cores with 8-bit registers"))
    ram, flash = ("STATE", "INPUT", "STACK"), ("WEIGHT", "CONST", "CODE")
    for name, parts in (("RAM_BYTES", ram), ("FLASH_BYTES", flash)):
        total = " + ".join(f"{network.macro}_{part}_BYTES" for part in parts)
        found.append(Macro(name, f"({total})"))
    return found


def _counted(read: Read) -> str:
    """What is counted of an output."""
    classes = "classes" if read.vote else ""
    of = f"of {read.word}" if read.word else ""
    return " ".join(filter(None, (classes, of, "(decides)" if of and read.decides else "")))


def _of_others(network: Network) -> Iterator[Macro]:
    for read in network.others:
        yield Macro(f"NUM_OUTPUTS{read.end}", f"{read.decisions}u", _counted(read))
        if read.vote:
            yield Macro(f"NUM_VOTERS{read.end}", f"{read.edge.size}u", "output neurons")


def _member_lines(members: tuple[Member, ...]) -> list[str]:
    declared = [f"{m.type.name} {m.name}{f'[{m.elements}]' if m.count else ''};" for m in members]
    width = max(map(len, declared), default=0)
    return [f"{code:<{width}} /**< {m.note} */" for code, m in zip(declared, members, strict=True)]
