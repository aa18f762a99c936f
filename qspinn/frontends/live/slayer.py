"""lava-dl's SLAYER networks: read through the `.net` file that their own blocks write.

SLAYER trains with the chip's integers in view, and its export is what those integers are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from qspinn.errors import FrontendError
from qspinn.frontends.live.state import untouched
from qspinn.frontends.report import Assumption, Imported, inferred

PACKAGE = "lava.lib.dl.slayer."
_WAY = "export it as a .net file (block.export_hdf5), and load that"


def is_block(module: Any) -> bool:
    """Whether a module is one of SLAYER's blocks."""
    own = any(cls.__module__.startswith(f"{PACKAGE}block.") for cls in type(module).__mro__)
    return own and hasattr(module, "export_hdf5")


def is_network(module: Any) -> bool:
    """Whether a module is made of SLAYER's blocks."""
    return any(is_block(each) for _, each in module.named_modules())


def load(module: Any, sample: Any, name: str, options: dict[str, Any]) -> Imported:
    """Read a network of SLAYER's blocks, which run one after the other.

    Args:
        module: A block, a Sequential of blocks, or a module that runs its ``blocks`` in order.
        sample: What it takes, (batch, ..., time); needed where a block does not know its shape
            yet, or the forward pass is the module's own.
        name: The network's.
        options: Of `qspinn.frontends.lava_dl.load`; those that are None count as not given.

    Raises:
        FrontendError: Blocks are not run in order, or not all of it is blocks.
    """
    from qspinn.frontends import lava_dl

    known = ("readout", "input_kind", "input_high")
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := sorted(given.keys() - set(known)):
        raise FrontendError(
            f"{', '.join(unknown)} cannot be chosen for SLAYER's networks",
            at="net",
            hint=f"these can: {', '.join(known)}",
        )
    blocks, own = _blocks(module)
    with _kept(module), tempfile.TemporaryDirectory() as folder:
        if sample is not None:
            _require_order(module, blocks, sample)
        elif own or any(getattr(block, "shape", ()) is None for _, block in blocks):
            raise FrontendError(
                "has a forward pass of its own, or blocks that do not know their shape yet",
                at="net",
                hint="give sample_input, (batch, ..., time), such as the network's own input",
            )
        path = Path(folder) / f"{name}.net"
        _write(path, [block for _, block in blocks], sample)
        found = lava_dl.load(path, **given)
    whose = Assumption("framework", "lava-dl", inferred("the modules' classes"))
    return replace(found, assumptions=(whose, *found.assumptions))


def _blocks(module: Any) -> tuple[list[tuple[str, Any]], bool]:
    """The blocks in order, with their paths; whether code of the user's runs them."""
    if is_block(module):
        return [("", module)], False
    own = type(module).__name__ != "Sequential"
    holder, path = (module.blocks, "blocks.") if own and hasattr(module, "blocks") else (module, "")
    found = [(f"{path}{name}", each) for name, each in holder.named_children()]
    inside = {id(each) for _, each in found}
    inner = {id(part) for _, block in found if is_block(block) for _, part in block.named_modules()}
    for name, each in module.named_modules():
        if is_block(each) and id(each) not in inside | inner:
            raise FrontendError(f"is outside of the network's blocks; {_WAY}", at=f"net.{name}")
    for name, each in found:
        if not is_block(each):
            raise FrontendError(
                f"is a {type(each).__name__} among blocks of SLAYER's, which its files have not",
                at=f"net.{name}",
                hint=_WAY,
            )
    return found, own


def _require_order(module: Any, blocks: Sequence[tuple[str, Any]], sample: Any) -> None:
    """Run it once: each block is called once, with what the one before it sent."""
    import torch

    given = torch.as_tensor(sample)
    calls: list[tuple[str, Any, Any]] = []
    handles = [
        block.register_forward_hook(
            lambda _, args, out, name=name: calls.append((name, args[0], _first(out)))
        )
        for name, block in blocks
    ]
    try:
        with torch.no_grad():
            module.eval()
            sent = _first(module(given))
    except Exception as error:
        raise FrontendError(
            f"its forward pass fails on sample_input: {type(error).__name__}: {error}",
            at="net",
            hint=f"it takes (batch, ..., time); otherwise {_WAY}",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if [name for name, _, _ in calls] != [name for name, _ in blocks]:
        raise FrontendError(f"does not run its blocks once each, in order; {_WAY}", at="net")
    ends = [(before, into, name) for (_, _, before), (name, into, _) in pairwise(calls)]
    ends = [(given, calls[0][1], calls[0][0]), *ends, (calls[-1][2], sent, "its end")]
    for before, into, name in ends:
        if before is not into:
            raise FrontendError(
                f"computes something between its blocks, in front of {name}; {_WAY}", at="net"
            )


def _first(out: Any) -> Any:
    """What a block sends; it may return a count beside it."""
    return out[0] if isinstance(out, (tuple, list)) else out


@contextmanager
def _kept(module: Any) -> Iterator[None]:
    """Leave the module as it was; its export clamps delays in place."""
    saved = [(p, p.detach().clone()) for _, p in module.named_parameters()]
    try:
        with untouched(module):
            yield
    finally:
        for parameter, before in saved:
            parameter.data.copy_(before)


def _write(path: Path, blocks: Sequence[Any], sample: Any) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        layers = file.create_group("layer")
        start = 0
        if sample is not None and type(blocks[0]).__name__ != "Input":
            inlet = layers.create_group("0")
            inlet.create_dataset("type", (1,), "S10", [b"input"])
            inlet["shape"] = tuple(sample.shape[1:-1])
            start = 1
        for index, block in enumerate(blocks, start):
            block.export_hdf5(layers.create_group(str(index)))
