"""Ten semantic errors, each planted in one place of the emitted C.

An error is an edit of the implementation's text: what a bug in a template or in the printer would
have written. Where a network does not have what the error is about, its text stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Edit = Callable[[str], str]

_LOOP = re.compile(r"^[^\n]*_update_\w+\([^;]*$.*?^}", re.MULTILINE | re.DOTALL)
"""The update of a layer of neurons."""


def neurons(edit: Edit) -> Edit:
    """The edit, applied to the updates of neurons only."""
    return lambda text: _LOOP.sub(lambda found: edit(found[0]), text)


def each(pattern: str, by: str | Callable[[re.Match[str]], str]) -> Edit:
    """Every match of ``pattern`` replaced."""
    return lambda text: re.sub(pattern, by, text)


def swapped(found: re.Match[str]) -> str:
    return f"{found[1]} {'>' if found[2] == '>=' else '>='} {found[3]}"


def late(text: str) -> str:
    """Reset to zero in the step after the spike, before the decay, instead of at the spike."""
    spike = re.search(r"fired \|= \(uint32_t\)(t\d+) ", text)
    mask = re.search(r"s->(\w+)\[i >> 5\] = fired|s->(\w+)\[0\] = fired", text)
    stored = re.search(r"s->(\w+_v)\[i\] = \(\w+\)(t\d+);", text)
    if not (spike and mask and stored):
        return text
    reset = re.search(rf"const int32_t {stored[2]} = {spike[1]} \? 0 : (\w+);", text)
    if not reset:
        return text
    fired = f"(s->{mask[1] or mask[2]}[i >> 5] >> (i & 31u)) & 1u"
    text = text.replace(f"= s->{stored[1]}[i];", f"= ({fired}) ? 0 : s->{stored[1]}[i];")
    return text.replace(stored[0], re.sub(r"t\d+;", f"{reset[1]};", stored[0]))


def old_current(text: str) -> str:
    """Let the membrane integrate the synaptic current of the last step, not of this one."""
    stored = re.search(r"s->\w+_u\[i\] = \(\w+\)(t\d+);", text)
    if not stored:
        return text
    before, made, after = text.partition(f" {stored[1]} = ")
    line, uses, stores = re.split(r"(?<=;)(\n.*?)(?=\n +s->)", after, maxsplit=1, flags=re.DOTALL)
    return "".join((before, made, line, re.sub(rf"\b{stored[1]}\b", "u", uses), stores))


def ties(text: str) -> str:
    """Let the last of equal outputs win."""
    start = text.index("_winner(")
    head, winner = text[:start], text[start:]
    if "[best]" not in winner:
        return text
    if " > " in winner:
        return head + re.sub(r"\[i\] > ", "[i] >= ", winner)
    return head + winner.replace("[i] < ", "[i] <= ")


def flipped(found: re.Match[str]) -> str:
    rows, columns = int(found[1]), int(found[2])
    return f"((channel * {rows}u + {rows - 1}u - ky) * {columns}u + {columns - 1}u - kx)"


def one_less(found: re.Match[str]) -> str:
    return f"{found[1]}{int(found[2]) - 1}{found[3]}"


_CLIPPED = (
    r"(?:(\w+) < [^?;]+ \? [^:;]+ : \(\1 > [^?;]+ \? [^:;]+ : \1\)|(\w+) [<>] ([^?;]+) \? \3 : \2)"
)

ERRORS: Mapping[str, Edit] = {
    "rounding": each(r"return low \+ \(.*\);", "return low;"),
    "comparison": neurons(each(r"(= [^;?]*?) (>=?) (?!0;)([^;?]*;)", swapped)),
    "reset timing": neurons(late),
    "delay": each(r"(slot < )([2-9])(u )", one_less),
    "clamp": neurons(each(_CLIPPED, lambda found: found[1] or found[2])),
    "flip": each(r"\(\(channel \* (\d+)u \+ ky\) \* (\d+)u \+ kx\)", flipped),
    "sign": each(r"(\*to) (\+=?) weight", lambda f: f"{f[1]} {f[2].replace('+', '-')} weight"),
    "shift": neurons(each(r"(_shr(?:64)?_\w+\((?:\w+, )+)(\d+)(\b)", one_less)),
    "order": neurons(old_current),
    "tie": ties,
}
"""By name: what goes wrong."""
