"""Where values go: recorders of a LIF layer's registers, and a watch on its summed input."""

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from recording import Record


class Spikes(AbstractProcess):
    """Keeps the spikes of a LIF layer."""

    def __init__(self, *, lif, file, steps):
        shape = lif.s_out.shape
        super().__init__(shape=shape, file=file, steps=steps)
        self.s_in = InPort(shape)
        lif.s_out.connect(self.s_in)


@implements(proc=Spikes, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikes(PyLoihiProcessModel):
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.record = Record(proc_params["file"], proc_params["steps"])

    def run_spk(self):
        self.record.add(self.time_step, s=self.s_in.recv())


class Registers(AbstractProcess):
    """Keeps the spikes and the states of a LIF layer as they are after each step."""

    def __init__(self, *, lif, file, steps):
        shape = lif.s_out.shape
        super().__init__(shape=shape, file=file, steps=steps)
        self.s_in = InPort(shape)
        self.u = RefPort(shape)
        self.v = RefPort(shape)
        lif.s_out.connect(self.s_in)
        self.u.connect_var(lif.u)
        self.v.connect_var(lif.v)


@implements(proc=Registers, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRegisters(PyLoihiProcessModel):
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    u: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
    v: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.record = Record(proc_params["file"], proc_params["steps"])

    def run_spk(self):
        self.spikes = self.s_in.recv()

    def post_guard(self):
        return True

    def run_post_mgmt(self):
        u, v = self.u.read(), self.v.read()
        self.record.add(self.time_step, s=self.spikes, u=u, v=v)


class Watch(AbstractProcess):
    """Keeps the largest magnitude of a layer's summed input, which is assumed to fit 16 bits."""

    def __init__(self, *, shape, file, steps):
        super().__init__(shape=shape, file=file, steps=steps)
        self.a_in = InPort(shape)


@implements(proc=Watch, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyWatch(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int64)

    def __init__(self, proc_params):
        super().__init__(proc_params)
        self.record = Record(proc_params["file"], proc_params["steps"])

    def run_spk(self):
        self.record.add(self.time_step, peak=np.abs(self.a_in.recv()).max())
