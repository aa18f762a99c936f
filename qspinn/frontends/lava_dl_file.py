"""Reading a `.net` file of lava-dl (HDF5) into plain layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from qspinn.errors import FrontendError
from qspinn.frontends.hdf5 import Reader, Value, opened, shown
from qspinn.ir import Array

MAX_LAYERS = 1024
HINT = "a .net file is what export_hdf5 of a lava-dl SLAYER network makes"


@dataclass(frozen=True, eq=False)
class FileLayer:
    """A layer as the file has it.

    Attributes:
        index: Its place.
        kind: The file's type: ``dense``, ``conv``...
        values: Its numbers and texts.
        neuron: Those of its neurons; None where it has none.
    """

    index: int
    kind: str
    values: Mapping[str, Value]
    neuron: Mapping[str, Value] | None = field(default=None)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"layer {self.index}"

    def array(self, name: str) -> Array:
        """Numbers that the layer must have.

        Raises:
            FrontendError: It has none of that name.
        """
        return numbers(self.values, name, self.name)


def numbers(values: Mapping[str, Value], name: str, at: str) -> Array:
    """An entry that must be there, and be numbers.

    Raises:
        FrontendError: It is not, or is text.
    """
    if name not in values:
        raise FrontendError(f"has no {name}", at=at)
    value = values[name]
    if isinstance(value, str):
        raise FrontendError(f"{name} is the text {shown(value)}, not numbers", at=at)
    return value


def read(path: Path) -> tuple[FileLayer, ...]:
    """The layers of a file, in their order.

    Raises:
        FrontendError: The file is missing, damaged, no such network, or exceeds a bound.
    """
    with opened(path, HINT) as file:
        return _LayerReader().layers(file, str(path))


class _LayerReader(Reader):
    def layers(self, file: h5py.File, at: str) -> tuple[FileLayer, ...]:
        group = self.children(file, at).get("layer")
        if not isinstance(group, h5py.Group):
            raise FrontendError("holds no layers: there is no group 'layer'", at=at, hint=HINT)
        found = self.children(group, at)
        count = len(found)
        if not count or count > MAX_LAYERS:
            raise FrontendError(f"has {count} layers, must have 1 to {MAX_LAYERS}", at=at)
        if missing := [i for i in range(count) if str(i) not in found]:
            raise FrontendError(f"has {count} layers, but none is called {missing[0]}", at=at)
        return tuple(self.layer(i, found[str(i)]) for i in range(count))

    def layer(self, index: int, group: Any) -> FileLayer:
        at = f"layer {index}"
        if not isinstance(group, h5py.Group):
            raise FrontendError("is not a group and so no layer", at=at)
        members = self.children(group, at)
        if "type" not in members:
            raise FrontendError("has no type", at=at)
        kind = self.word(members.pop("type"), f"{at}.type")
        neuron = members.pop("neuron", None)
        return FileLayer(
            index,
            kind,
            self.values(members, at),
            None if neuron is None else self.neuron(neuron, at),
        )

    def neuron(self, group: Any, at: str) -> dict[str, Value]:
        if not isinstance(group, h5py.Group):
            raise FrontendError("its neuron is not a group", at=at)
        members = self.children(group, f"{at}.neuron")
        if "type" not in members:
            raise FrontendError("its neuron has no type", at=at)
        kind = self.word(members.pop("type"), f"{at}.neuron.type")
        return {"type": kind, **self.values(members, f"{at}.neuron")}

    def values(self, members: Mapping[str, Any], at: str) -> dict[str, Value]:
        """All data sets; a group among them (complex weights) is for `lava_dl` to refuse."""
        return {
            shown(name): "a group"
            if isinstance(item, h5py.Group)
            else self.value(item, f"{at}.{shown(name)}")
            for name, item in members.items()
        }
