"""Live torch modules of snnTorch, Norse, SpikingJelly, sinabs and Rockpool as float graphs.

lava-dl's networks are read through the file that they export (`slayer`). Of the others
parameters are read from the modules, in float64; what has no exact counterpart is refused by the
module's path. Nothing here imports a framework: a module's classes say whose it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qspinn.errors import FrontendError, located
from qspinn.frontends.live import slayer
from qspinn.frontends.live.build import Build, Choices
from qspinn.frontends.live.modules import kind, label, leading, leaves, plain
from qspinn.frontends.live.moving import behind
from qspinn.frontends.live.walk import follow, input_shape
from qspinn.frontends.nir_flatten import safe
from qspinn.frontends.report import Assumption, Imported, inferred


def load(
    module: Any,
    sample_input: Any = None,
    *,
    name: str | None = None,
    readout: str | None = None,
    output: str | Sequence[str] | None = None,
    input_kind: str | None = None,
    input_high: int | None = None,
    max_spikes: int | None = None,
) -> Imported:
    """Read a torch module.

    Containers are read in their order, without running anything. A module with a forward pass of
    its own is run once on ``sample_input`` to see what flows where, and left as it was.

    Args:
        module: A `torch.nn.Module` whose layers are torch's and neurons are a framework's.
        sample_input: What the module takes: (batch, ...) for one step, or with time where its
            neurons or its forward pass have it. A pass over time shows feedback of as many steps
            as the sample has. Of several inputs a tuple, in the order of the forward pass, whose
            names they get; or a mapping by these names.
        name: The network's; default the module's class.
        readout: One of `qspinn.ir.READOUTS`.
        output: The path of the module whose output is the network's, where its forward pass
            returns several; or the paths of several, of which the first decides.
        input_kind: ``spike`` (0 or 1), ``count`` or ``current``.
        input_high: The largest count at the input.
        max_spikes: The most spikes of a neuron in a step, where it may send several; 2**b - 1.

    Raises:
        FrontendError: A module has no exact counterpart, or more must be said.
    """
    if slayer.is_network(module):
        options = {"readout": readout, "input_kind": input_kind, "input_high": input_high,
                   "max_spikes": max_spikes, "output": output}  # fmt: skip
        return slayer.load(module, sample_input, safe(name or type(module).__name__), options)
    build = Build(Choices(readout, input_kind, input_high, max_spikes, output))
    with located("net"):
        samples = _samples(module, sample_input)
        if input_kind is None:
            for sample in samples.values():
                _require_spikes(sample)
        lead = leading(module)
        if plain(module):
            if len(samples) > 1 or not isinstance(output, str | None):
                raise FrontendError(
                    "is a chain of modules, with one input and one output", at=label("", module),
                    hint="give it a forward pass of its own",
                )  # fmt: skip
            wire = build.input(input_shape(module, samples.get(""), lead))
            ends = [follow(build, "", module, wire, lead)]
        else:
            from qspinn.frontends.live.tracing import traced

            if not samples:
                raise FrontendError(
                    "its forward pass is code of its own, which is run to see what flows where",
                    at=label("", module),
                    hint="give sample_input, such as the module's own input for one sample",
                )
            ends = traced(build, module, samples, lead)
        packages = sorted({kind(each).package for _, each in leaves(module)} - {"", "torch"})
        word = safe(name or type(module).__name__)
        graph = build.finish(word, behind(build, ends))
    whose = Assumption(
        "framework", ", ".join(packages) or "torch", inferred("the modules' classes")
    )
    names = {n: p for n, p in build.paths.items() if n in graph.by_name and n != p and p}
    meta: dict[str, object] = {"format": "torch", "dialect": ", ".join(packages), "names": names}
    return Imported(graph, (whose, *build.notes), meta)


def _samples(module: Any, given: Any) -> dict[str, Any]:
    """What each input receives, by name; one input has none."""
    import torch

    if given is None:
        return {}
    tensors = isinstance(given, tuple | list) and all(isinstance(x, torch.Tensor) for x in given)
    if isinstance(given, Mapping) or (tensors and len(given) > 1):
        from qspinn.frontends.live.watching import names_of

        names = names_of(module)
        named = given if isinstance(given, Mapping) else dict(zip(names, given, strict=False))
        if len(named) < len(given) or (unknown := [name for name in named if name not in names]):
            what = ", ".join(unknown) if len(named) == len(given) else f"{len(given)} tensors"
            raise FrontendError(
                f"takes {', '.join(names) or 'nothing by name'}; sample_input has {what}",
                at=label("", module),
            )
        if len(named) > 1:
            return {name: _like(module, sample) for name, sample in named.items()}
        (given,) = named.values()
    return {"": _like(module, given)}


def _like(module: Any, sample: Any) -> Any:
    """The sample as a tensor of the module's type and device."""
    import torch

    sample = torch.as_tensor(sample)
    own = next((p for _, p in module.named_parameters() if p.is_floating_point()), None)
    return sample if own is None else sample.to(own.device, own.dtype)


def _require_spikes(sample: Any) -> None:
    values = sample.detach()
    if bool(((values != 0) & (values != 1)).any()):
        raise FrontendError(
            f"sample_input holds values other than 0 and 1, up to {float(values.abs().max()):g}",
            hint="say what the input is: input_kind=count (whole numbers, with input_high) or "
            "current (values), or spike where the sample only shows the shape",
        )
