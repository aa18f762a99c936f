"""Process models of our own, printed from the typed list, for what Lava's stock lacks."""

from __future__ import annotations

from dataclasses import dataclass

from qspinn.ir import Array
from qspinn.printer import NUMPY, render, uniform_literal
from qspinn.program import TypedOp

from .layers import Layer
from .names import quoted, register_names, to_lava

_HELPERS = ("near_away", "near_even")


@dataclass(frozen=True)
class ProcessText:
    """A process as the template prints it."""

    name: str
    title: str
    why: str
    helpers: str
    states: tuple[str, ...]
    kept: str
    lines: tuple[str, ...]


def class_name(ident: str) -> str:
    """The class of a layer's process."""
    return "".join(part.capitalize() for part in ident.split("_"))


def process_text(layer: Layer, ident: str) -> ProcessText:
    """The process of a layer that has no stock one."""
    program = layer.program
    words = register_names((*program.states, *program.params))
    read = [op for op in program.ops if op.kind in ("state", "param")]

    def leaf(op: TypedOp) -> str:
        literal = uniform_literal(program, op) if op.kind == "param" else None
        if op.kind == "input":
            return "a"
        return (
            words[op.name] if literal is None else (f"({literal})" if literal < 0 else str(literal))
        )

    printed = render(program, NUMPY, leaf)
    lines = [] if not layer.bias.any() else ['a = a + self.values["input_bias"].astype(np.int64)']
    for op in read:
        if op.kind == "state":
            lines.append(f"{words[op.name]} = self.{words[op.name]}")
        elif uniform_literal(program, op) is None:
            lines.append(f'{words[op.name]} = self.values["{words[op.name]}"].astype(np.int64)')
    lines += printed.lines
    lines += [f"self.{words[name]} = self.full({code})" for name, code in printed.finals.items()]
    if program.sends != "current":
        lines.append(f"self.sent = self.full({printed.output}).astype(np.int32)")
    body = "\n".join(lines)
    states = tuple(words[name] for name in program.states)
    return ProcessText(
        name=class_name(ident),
        title=quoted(layer.name),
        why=quoted(layer.why),
        helpers=", ".join(name for name in _HELPERS if f"{name}(" in body),
        states=states,
        kept=", ".join(f"{word}=self.{word}" for word in states),
        lines=tuple(lines),
    )


def process_values(layer: Layer) -> dict[str, Array]:
    """The arrays that a layer's process reads, in Lava's layout."""
    program, shape = layer.program, layer.neuron.shape
    words = register_names((*program.states, *program.params))
    found = {words[n]: to_lava(s.init.values, shape) for n, s in program.states.items()}
    for op in program.ops:
        if op.kind == "param" and uniform_literal(program, op) is None:
            found[words[op.name]] = to_lava(program.params[op.name].values, shape)
    if layer.bias.any():
        found["input_bias"] = to_lava(layer.bias, shape)
    return found
