"""The parts of loops over neurons: what is read, the typed list as C, what is stored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from .kernelparts import Parts, literals
from .layout import Member
from .network import Load, Update, Write
from .pairs import Fours

_OPERATORS = {
    " * ": "mul", " + ": "add", " - ": "sub", " < ": "compare", " > ": "compare",
    " >= ": "compare", " ? ": "select", " & ": "logic", " | ": "logic", "!": "logic",
}  # fmt: skip


def update_parts(stage: Update) -> Parts:
    """What the loop and its frame are made of."""
    parts: Parts = Counter()
    for body in (load_parts(stage.loads), *ways(stage)):
        parts += body
    if _twice(stage):
        parts += Counter(dict(parts))
        parts["update twice"] += 1
    spikes(stage, parts)
    parts["one neuron"] += stage.size == 1
    parts["draws"] += stage.stochastic
    live = live_values(stage)
    parts["pressure"] += max(live - 6, 0)
    parts["high pressure"] += max(live - 10, 0)
    if in_image(stage):
        return parts
    # Of a loop over neurons alone more stays in registers, so its parts have prices of their own.
    return parts + Counter({f"flat {part}": count for part, count in parts.items()})


def body_parts(stage: Update) -> Parts:
    """What a neuron takes where all go one way, without the loop."""
    parts = load_parts(stage.loads) + line_parts(stage.lines) + write_parts(stage.writes)
    live = live_values(stage)
    parts["pressure"] += max(live - 6, 0)
    parts["high pressure"] += max(live - 10, 0)
    parts["draws"] += stage.stochastic
    return parts


def _twice(stage: Update) -> bool:
    """Whether a loop does two neurons at once, because states of both share a byte."""
    image = stage.bands or stage.image
    even = stage.place and not stage.plane and image is not None and image.channels % 2 == 0
    return bool(even) and stage.shares


def parted(stage: Update) -> bool:
    """Whether the loop has a shorter way for neurons that send nothing."""
    return stage.calm is not None and (in_image(stage) or not stage.mask)


def in_image(stage: Update) -> bool:
    """Whether the loop goes through an image, and marks spikes one by one."""
    return (stage.bands or stage.image) is not None


def ways(stage: Update) -> tuple[Parts, ...]:
    """What a neuron takes after its loads; or what all, calm ones and others take."""
    if not parted(stage) or stage.calm is None:
        return (line_parts(stage.lines) + write_parts(stage.writes),)
    calm = stage.calm
    others = [line for line in stage.lines if line not in calm.before]
    test: Parts = Counter({"calm": 1, "calm compare": 1})
    literals(calm.test, test)
    return (
        line_parts(calm.before) + test,
        line_parts(calm.lines) + write_parts(calm.writes),
        line_parts(others) + write_parts(stage.writes),
    )


def load_parts(loads: Iterable[Load]) -> Parts:
    """What is read of a neuron."""
    parts: Parts = Counter()
    for load in loads:
        parts["load table" if "READ" in load.code else "load member"] += 1
        parts["load two"] += "?" in load.code
        parts["codes"] += "_READ(" in load.code and ">>" in load.code
        if lane := re.search(r"_get_(\w+)\(", load.code):
            parts[f"load {lane[1]}"] += 1
        parts["load half"] += "_half(" in load.code
        parts["load 64"] += load.type == "int64_t"
        literals(load.code, parts)
    return parts


def line_parts(lines: Iterable[str]) -> Parts:
    """What the lines of a typed list compute."""
    parts: Parts = Counter()
    for line in lines:
        operations(line, parts)
    return parts


def write_parts(writes: Iterable[Write]) -> Parts:
    """What is stored of a neuron."""
    parts: Parts = Counter()
    for write in writes:
        packed = None if isinstance(write.member.lane, Fours) else write.member.lane
        parts[f"store {packed.bits}" if packed else "store"] += 1
        parts["store 64"] += write.member.type.bits == 64
    return parts


def spikes(stage: Update, parts: Parts) -> None:
    """How neurons are counted, and their spikes kept."""
    masked = bool(stage.mask)
    if in_image(stage):
        parts["bands"] += 1
        bands = stage.bands
        parts["bands rest"] += bands is not None and bands.rows % bands.height != 0
        parts["spikes in bands"] += masked
        parts["spikes by place"] += masked and bool(stage.place)
        parts["places"] += bool(stage.place)
        parts["place planes"] += bool(stage.place) and stage.plane > 0
        if masked and stage.place:
            number_parts(stage, parts)
        return
    parts["spikes"] += masked
    parts["spike words"] += masked and stage.words > 1
    parts["spike rest"] += masked and stage.words > 1 and stage.size % 32 != 0
    parts["planes"] += stage.plane > 0


def number_parts(stage: Update, parts: Parts) -> None:
    """How the number of a neuron is found where the channels of a place lie side by side."""
    image = stage.bands or stage.image
    assert image is not None, "places are those of an image"
    parts["number quotient"] += " * " in stage.place and not stage.plane
    parts["number shift"] += ">>" in stage.place and " * " not in stage.place
    parts["number channels"] += not _power(image.channels)
    parts["number plane"] += not _power(image.rows * image.columns)
    literals(stage.place, parts)


def _power(value: int) -> bool:
    return value & (value - 1) == 0


def held_parts(loads: Iterable[Load], lines: Iterable[str], members: Iterable[Member]) -> Parts:
    """What registers hold through a loop, and how members are read: both depend on types.

    Args:
        loads: What is read.
        lines: The typed list.
        members: Of the state, what the loop reads or writes.
    """
    parts: Parts = Counter()
    for member in members:
        if member.lane is None:
            kind = member.type
            parts[f"member {'s' if kind.signed else 'u'}{kind.bits}"] += 1
    text = " ".join((*(load.code for load in loads), *lines))
    own = {int(d) for d in re.findall(r"(?<![\w.])(\d+)u?\b", text)}
    large = {value for value in own if value > 255}
    parts["own literal"] += len(large)
    parts["own literal 32"] += sum(value > 65535 and not _power(value) for value in large)
    return parts


def crowd_parts(held: int) -> Parts:
    """How many values want registers at once, beside what there are of them."""
    return Counter({f"held {n}": max(held - n, 0) for n in (3, 5, 7, 9, 12) if held > n})


def operations(line: str, parts: Parts) -> None:
    """Count what one line computes."""
    head, code = line.split(" = ", 1)
    wide = " 64" if "int64_t" in head or "64" in code else ""
    call = re.search(r"_((?:mul_)?(?:shr|shr64|mul64|wrap|wrap64)(?:_[a-z_]+)?)\(", code)
    if call:
        varies = "" if re.search(r", \(?-?\d+\)?[,)]", code) else " varies"
        parts[f"{call[1]}{varies}"] += 1
        parts["noise"] += "_noise(" in code
    elif clip := re.search(r" < \(?(-?\d+)\)? \? .* > (\d+) \? ", code):
        low, high = int(clip[1]), int(clip[2])
        parts[f"clip{' to bits' if low == -high - 1 else ''}{wide}"] += 1  # one instruction on some
    else:
        for sign, what in _OPERATORS.items():
            if found := code.count(sign):
                factor = re.search(r" \* (\d+)", code)
                power = factor and int(factor[1]) & (int(factor[1]) - 1) == 0
                parts[("shift" if what == "mul" and power else what) + wide] += found
        # A reset to a value is a branch or a mask; a difference is computed in any case.
        parts["select value"] += re.search(r" \? \(?-?\d+\)? : ", code) is not None
    literals(code, parts)


def live_values(stage: Update) -> int:
    """The most values that are needed at once, by where each is last read."""
    names: list[str] = [load.name for load in stage.loads]
    texts: list[str] = [load.code for load in stage.loads]
    for line in stage.lines:
        head, code = line.split(" = ", 1)
        names.append(head.split()[-1])
        texts.append(code)
    texts += [write.code for write in stage.writes] + [stage.sent]
    last = [_last(name, texts, i) for i, name in enumerate(names)]
    alive = [sum(1 for j in range(i + 1) if last[j] > i) for i in range(len(names))]
    return max(alive, default=0)


def _last(name: str, texts: Sequence[str], first: int) -> int:
    return max((i for i, t in enumerate(texts) if re.search(rf"\b{name}\b", t)), default=first)
