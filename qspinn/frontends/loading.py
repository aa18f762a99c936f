"""`qspinn.load`: a trained network, from a file or as the framework's own module."""

from __future__ import annotations

from os import PathLike
from typing import Any

from qspinn.errors import FrontendError
from qspinn.frontends import load_model
from qspinn.frontends.report import Imported


def load(source: Any, sample_input: Any = None, **options: Any) -> Imported:
    """Read a trained network; `print` it to see what was assumed.

    Args:
        source: The path of a file (`qspinn.frontends.load_model`), or a `torch.nn.Module` of
            snnTorch, Norse, SpikingJelly, sinabs, Rockpool or lava-dl
            (`qspinn.frontends.live.load`).
        sample_input: For a module: an example of what it takes.
        options: Of the function that reads it.

    Raises:
        FrontendError: It cannot be read, or not without more options.
    """
    if isinstance(source, (str, PathLike)):
        if sample_input is not None:
            raise FrontendError("a file needs no sample_input", at=str(source))
        return load_model(str(source), **options)
    if not any(cls.__module__ == "torch.nn.modules.module" for cls in type(source).__mro__):
        raise FrontendError(
            f"a {type(source).__name__} is neither a path nor a torch.nn.Module",
            hint="give a file, or the module itself",
        )
    from qspinn.frontends import live

    return live.load(source, sample_input, **options)
