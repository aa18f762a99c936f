"""Running a module without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def untouched(module: Any) -> Iterator[None]:
    """Restore modes, buffers, parameters' identities, attributes and torch's random numbers."""
    import torch

    saved = [(each, _attributes(each), _values(each)) for _, each in module.named_modules()]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        with torch.no_grad():
            for each, attributes, values in saved:
                each.__dict__.clear()
                each.__dict__.update({name: _restored(value) for name, value in attributes})
                for tensor, before in values:
                    if tensor.shape != before.shape:
                        tensor.set_(before)
                    elif not torch.equal(tensor, before):
                        tensor.copy_(before)


def _attributes(module: Any) -> list[tuple[str, Any]]:
    return [(name, _Held.of(value)) for name, value in module.__dict__.items()]


def _values(module: Any) -> list[tuple[Any, Any]]:
    """Tensors that a module holds, other than its parameters, and copies of them."""
    import torch

    held = [*module._buffers.values(), *module.__dict__.values()]
    held += [v for d in module.__dict__.values() if isinstance(d, dict) for v in d.values()]
    found = {id(t): t for t in held if isinstance(t, torch.Tensor) and not t.requires_grad}
    parameters = {id(p) for _, p in module.named_parameters()}
    return [(t, t.detach().clone()) for i, t in found.items() if i not in parameters]


class _Held:
    """A list, dictionary or set and what it held: the object stays, its contents come back."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.contents = value.copy()

    @staticmethod
    def of(value: Any) -> Any:
        """The value, held where it can change in place."""
        return _Held(value) if isinstance(value, (list, dict, set)) else value


def _restored(value: Any) -> Any:
    if not isinstance(value, _Held):
        return value
    value.value.clear()
    if isinstance(value.value, list):
        value.value.extend(value.contents)
    else:
        value.value.update(value.contents)
    return value.value
