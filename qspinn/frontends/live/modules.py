"""Which module is what: known by the package and the name of its class, never by importing it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qspinn.errors import FrontendError
from qspinn.frontends.live import norse, rockpool, sinabs, snntorch, spikingjelly
from qspinn.frontends.live.cells import Neurons
from qspinn.frontends.live.layers import LAYERS, Handler

_FRAMEWORKS = (snntorch, norse, spikingjelly, sinabs, rockpool)
CELLS: Mapping[str, Mapping[str, Neurons]] = {each.PACKAGE: each.CELLS for each in _FRAMEWORKS}
OWN_LAYERS: Mapping[str, Mapping[str, Handler]] = {
    "torch": LAYERS,
    spikingjelly.PACKAGE: spikingjelly.OWN_LAYERS,
    sinabs.PACKAGE: sinabs.OWN_LAYERS,
    rockpool.PACKAGE: rockpool.OWN_LAYERS,
}
REFUSED: Mapping[str, Mapping[str, str]] = {each.PACKAGE: each.REFUSED for each in _FRAMEWORKS}
SHORT = {"torch": "nn", "snntorch": "snn"}

IN_ORDER = {
    ("torch", "Sequential"), ("norse", "SequentialState"), ("norse", "Lift"),
    ("spikingjelly", "MultiStepContainer"), ("spikingjelly", "SeqToANNContainer"),
    ("spikingjelly", "StepModeContainer"), ("sinabs", "Repeat"), ("sinabs", "Network"),
    ("rockpool", "TorchSequential"),
}  # fmt: skip
"""Containers that run their children one after the other."""
STEPWISE = {"Lift", "MultiStepContainer", "SeqToANNContainer", "Repeat"}
"""Those that take a time axis and give their children one step, or time in the batch."""
_OVER_TIME = {"StateLeaky", "LinearLeaky", "LeakyParallel", "LeakyKernel"}
"""Neurons of snnTorch's that take all steps at once."""
_BARE = {"Module", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"}
_HARMLESS = {"__init__", "__repr__", "__str__", "extra_repr", "_get_name"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of modules: its package and its name there; a class of the user's own has neither."""

    package: str = ""
    name: str = ""

    @property
    def neurons(self) -> Neurons | None:
        """How it becomes neurons."""
        return CELLS.get(self.package, {}).get(self.name)

    @property
    def layer(self) -> Handler | None:
        """How it becomes another node."""
        return OWN_LAYERS.get(self.package, {}).get(self.name)

    @property
    def leaf(self) -> bool:
        """Whether a module of this kind is one node or layer, whatever its children are."""
        return bool(self.package) and (self.package, self.name) not in IN_ORDER

    @property
    def looped(self) -> bool:
        """Whether what it sends comes back to it in the next call."""
        return (self.package, self.name) == ("norse", "RecurrentSequential")

    @property
    def ordered(self) -> bool:
        """Whether it runs its children one after the other."""
        return (self.package, self.name) in IN_ORDER


def kind(module: Any) -> Kind:
    """What a module is: the nearest class of a framework whose behaviour it does not change."""
    for cls in type(module).__mro__:
        package = cls.__module__.partition(".")[0]
        if package in CELLS or package == "torch":
            plain = cls.__module__.startswith("torch.nn.modules") and cls.__name__ not in _BARE
            return Kind(package, cls.__name__) if package != "torch" or plain else Kind()
        changed = {n for n, value in vars(cls).items() if callable(value)} - _HARMLESS
        if changed:
            return Kind()
    return Kind()


def label(path: str, module: Any) -> str:
    """How errors name a module: ``net.3 (snn.Alpha)``."""
    found = kind(module)
    package = SHORT.get(found.package, found.package)
    name = f"{package}.{found.name}" if package else type(module).__name__
    return f"net.{path} ({name})" if path else f"net ({name})"


def unread(module: Any) -> FrontendError:
    """Why a module of a framework is refused."""
    found = kind(module)
    known = sorted((*CELLS.get(found.package, ()), *OWN_LAYERS.get(found.package, ())))
    why = REFUSED.get(found.package, {}).get(found.name)
    return FrontendError(
        "has no exact counterpart in qspinn" + (f": {why}" if why else ""),
        hint=f"of {SHORT.get(found.package, found.package)} these are read: {', '.join(known)}",
    )


def children(module: Any) -> Iterator[tuple[str, Any]]:
    """The children of a container in the order in which it runs them, a repeated one each time."""
    if kind(module).name == "Network":
        yield "spiking_model", module.spiking_model
    else:
        yield from ((name, each) for name, each in module._modules.items() if each is not None)


def plain(module: Any) -> bool:
    """Whether all code that runs is a framework's own."""
    found = kind(module)
    return found.leaf or (found.ordered and all(plain(each) for _, each in children(module)))


def leaves(module: Any, path: str = "", whole: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """Paths and modules that become nodes, in the order of their names.

    Args:
        module: The root, at ``path``.
        path: Where it is.
        whole: Containers to take as they are, where all in them is a framework's own.
    """
    found = kind(module)
    if found.leaf or (found.name in whole and found.ordered and plain(module)):
        yield path, module
        return
    for name, each in children(module):
        yield from leaves(each, f"{path}.{name}" if path else name, whole)


def takes_time(module: Any) -> bool | None:
    """Whether a module is given a time axis; None where that is the same to it."""
    found = kind(module)
    if found.package == "spikingjelly":
        once = found.name.startswith("NonSpiking") or getattr(module, "step_mode", "s") == "m"
        return once if found.neurons else None
    if found.package == "norse" and found.neurons:
        return hasattr(module, "record_states")
    if found.package == "sinabs" and found.neurons:
        return "Squeeze" not in found.name
    if found.neurons and (found.package == "rockpool" or found.name in _OVER_TIME):
        return True
    return False if found.neurons else None


def leading(module: Any) -> int:
    """How many dimensions (batch, or time and batch) a signal has before its own.

    Raises:
        FrontendError: Some modules take a time axis and others take single steps.
    """
    by_answer = _timed(module, "")
    if len(by_answer) > 1:
        one, many = by_answer[False], by_answer[True]
        raise FrontendError(
            f"{many} takes all steps at once, {one} one step a call",
            hint="give all modules one mode (step_mode, cells or layers, Squeeze or not)",
        )
    return 2 if True in by_answer else 1


def _timed(module: Any, path: str) -> dict[bool, str]:
    """Answers of `takes_time`, and a module for each."""
    found = kind(module)
    if found.name in STEPWISE and found.ordered:
        return {True: label(path, module)}
    if found.leaf and not found.looped:
        answer = takes_time(module)
        return {} if answer is None else {answer: label(path, module)}
    answers: dict[bool, str] = {}
    for name, each in children(module):
        answers = {**_timed(each, f"{path}.{name}" if path else name), **answers}
    return answers
