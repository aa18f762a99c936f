"""Lets Lava 0.10, made for Python 3.10 and numpy 1, run on what is newer. Import it before lava.

Each fix applies only where it is needed and changes no arithmetic. Exceptions inside Lava's
processes, which it keeps to itself, are printed, and end the run instead of hanging it.
"""

import dataclasses
import os
import signal
import sys
import traceback

import numpy as np


def import_var_model():
    """Python 3.11 refuses unhashable defaults, which one module of Lava has."""
    original = getattr(dataclasses, "_get_field", None)
    if sys.version_info < (3, 11) or original is None:
        return

    def get_field(cls, name, *rest):
        default = getattr(cls, name, None)
        kind = type(default)
        if kind.__hash__ is None and kind.__module__ == "lava.magma.compiler.var_model":
            kind.__hash__ = object.__hash__
        return original(cls, name, *rest)

    dataclasses._get_field = get_field
    try:
        import lava.magma.compiler.var_model  # noqa: F401
    finally:
        dataclasses._get_field = original


def fix_reshape():
    """numpy 2.4 no longer knows the keyword `newshape`."""
    from lava.magma.core.process.ports.ports import ReshapePort

    def forward(self):
        return lambda data: np.reshape(data, self.shape)

    def backward(self):
        return lambda data: np.reshape(data, self.old_shape)

    ReshapePort.get_transform_func_fwd = forward
    ReshapePort.get_transform_func_bwd = backward


def fix_conv_geometry():
    """Conv keeps its geometry in 8 bits, which numpy 2 refuses for images beyond 127."""
    try:
        from lava.proc.conv.models import AbstractPyConvModel
    except ImportError:
        return
    for name in ("kernel_size", "stride", "padding", "dilation", "groups"):
        getattr(AbstractPyConvModel, name).d_type = np.int32


def report_exceptions():
    """Print what goes wrong inside a process, and end the run."""
    from lava.magma.runtime.message_infrastructure.multiprocessing import SystemProcess

    target = SystemProcess.run

    def run(self):
        inner = self._target

        def reporting(*args, **kwargs):
            try:
                return inner(*args, **kwargs)
            except Exception:
                traceback.print_exc()
                sys.stderr.flush()
                os.kill(os.getppid(), signal.SIGTERM)
                raise

        self._target = reporting
        return target(self)

    SystemProcess.run = run


import_var_model()
fix_reshape()
fix_conv_geometry()
report_exceptions()
