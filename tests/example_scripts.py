"""The training scripts of the examples as modules, for tests that run them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from types import ModuleType

from tree import ROOT


@contextmanager
def training_script(name: str) -> Iterator[ModuleType]:
    """`examples/NAME/train.py`; what it sets of torch for its process is set back."""
    import torch

    spec = util.spec_from_file_location(f"train_{name}", ROOT / "examples" / name / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
