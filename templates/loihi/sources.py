"""Where spikes come from: events from a file, and a line that spikes every step."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Source(AbstractProcess):
    """Sends row t of the array in `file` at step t + 1, and zeros after the last row."""

    def __init__(self, *, shape, file):
        super().__init__(shape=shape, file=file)
        self.s_out = OutPort(shape=shape)


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySource(PyLoihiProcessModel):
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.rows = np.load(proc_params["file"], mmap_mode="r")
        self.rest = np.zeros(proc_params["shape"], np.int32)

    def run_spk(self):
        t = self.time_step - 1
        row = self.rows[t].astype(np.int32) if t < len(self.rows) else self.rest
        self.s_out.send(row)


class Line(AbstractProcess):
    """One neuron that spikes in every step from `start` on: biases are weights of its synapses."""

    def __init__(self, *, start):
        super().__init__(start=start)
        self.s_out = OutPort(shape=(1,))


@implements(proc=Line, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyLine(PyLoihiProcessModel):
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.first = proc_params["start"]

    def run_spk(self):
        self.s_out.send(np.full((1,), int(self.time_step >= self.first), np.int32))
