"""Steps Lava's process models in this process: its arithmetic and ports, without its runtime.

Lava starts a process for each of its processes and has them meet in every phase of every step; that
costs far more than what they compute. Here each model runs in a thread, from step to step, and
waits only for what it receives: a network of first-in-first-out channels, whose values do not
depend on who runs when. Models, variables, virtual ports and channel types are Lava's own.
"""

import queue
import threading
from types import SimpleNamespace

import numpy as np
from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
from lava.magma.compiler.subcompilers.py.pyproc_compiler import PyProcCompiler
from lava.magma.core.process.ports.ports import create_port_id
from lava.magma.core.run_configs import Loihi2SimCfg

from recording import Record

MODELS = {}


class Channel:
    """One connection, seen from both of its ends: values arrive in the type its sender sends."""

    def __init__(self, name, shape, dtype):
        self.name, self.shape, self.dtype = name, shape, dtype
        self.values = queue.SimpleQueue()

    def send(self, data):
        """Put a copy on its way, cast as Lava's shared memory casts it."""
        value = np.empty(self.shape, self.dtype)
        value[...] = data
        self.values.put(value)

    def recv(self):
        """Wait for the next value."""
        return self.values.get()


class Last:
    """An end that keeps the latest value."""

    def __init__(self, name):
        self.name, self.value = name, None

    def send(self, data):
        """Keep a copy."""
        self.value = np.array(data)


def run(processes, steps, recorded, settings):
    """Run processes for some steps.

    Args:
        processes: Everything that takes part, by name.
        steps: How many.
        recorded: File prefixes by name, of LIFs whose registers are kept.
        settings: (after so many steps, name, variable, values) to set.
    """
    models, ends = build(processes, recorded)
    done = queue.SimpleQueue()
    for name, model in models.items():
        due = [(step, word, values) for step, other, word, values in settings if other == name]
        keeps = Record(recorded[name], steps) if name in recorded else None
        given = (model, steps, due, keeps, ends.get(name), done)
        threading.Thread(target=live, args=given, daemon=True).start()
    for _ in models:
        error = done.get()
        if error is not None:
            raise error


def live(model, steps, settings, record, end, done):
    """One model, from the first step to the last."""
    try:
        for step in range(1, steps + 1):
            for due, word, values in settings:
                if due == step - 1:
                    getattr(model, word)[...] = values
            model.time_step = step
            model.run_spk()
            if record is not None:
                record.add(step, s=end.value, u=model.u, v=model.v)
    except Exception as error:
        done.put(error)
    else:
        done.put(None)


def build(processes, recorded):
    """Lava's models of processes with channels between them, and the ends of recorded ones."""
    for process in processes.values():
        process._model_class = model_of(process)
    names = {process.id: name for name, process in processes.items()}
    compiler = PyProcCompiler(list(processes.values()), {"pypy_channel_size": 1})
    compiler._tmp_channel_map = SimpleNamespace(set_port_initializer=lambda port, given: None)
    builders = {n: compiler._create_builder_for_process(p) for n, p in processes.items()}
    for name, process in processes.items():
        for port in process.in_ports:
            for source in port.get_src_ports():
                dtype = getattr(source.process.model_class, source.name).d_type
                ends = [Channel(p.name, source.shape, dtype) for p in (source, port)]
                ends[1].values = ends[0].values
                builders[names[source.process.id]].set_csp_ports([ends[0]])
                builders[name].set_csp_ports([ends[1]])
                sender = create_port_id(source.process.id, source.name)
                builders[name].add_csp_port_mapping(sender, ends[1])
    ends = {name: Last("s_out") for name in recorded}
    for name, end in ends.items():
        builders[name].set_csp_ports([end])
    return {name: builder.build() for name, builder in builders.items()}, ends


def model_of(process):
    """The model that Lava's own search and rules choose for a process."""
    kind = type(process)
    if kind not in MODELS:
        found = ProcGroupDiGraphs._find_proc_models(process)
        config = Loihi2SimCfg(select_tag="fixed_pt")
        MODELS[kind] = ProcGroupDiGraphs._select_proc_models(process, found, config)
    return MODELS[kind]
