"""The text of network.py and the parameters it reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qspinn.ir import Array, Graph, Input, Output, Shape
from qspinn.signals import Signal, sent_state, signals

from .lateral import STAGES, Relay
from .layers import Layer
from .names import identifiers, is_image, lava_shape, quoted, register_names, to_lava
from .prestart import late_biases
from .process import class_name, process_values
from .signs import entries
from .stock import Registers
from .synapses import Form, Kernel, Synapse, own_form, way
from .unroll import Sparse
from .weights import Packed
from .words import about_time, chain, describe_input, describe_layer, flat, unflat


@dataclass(frozen=True)
class LayerText:
    """One layer as the template prints it."""

    ident: str
    facts: str
    comment: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class NetworkText:
    """network.py as the template prints it."""

    title: str
    name: str
    chain: str
    about: tuple[str, ...]
    imports: tuple[str, ...]
    own_imports: tuple[str, ...]
    modes: bool
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[LayerText, ...]
    joint: bool
    settings: tuple[str, ...]
    sources: tuple[str, ...]
    wires: tuple[str, ...]
    processes: tuple[str, ...]
    has_sparse: bool
    has_delays: bool


@dataclass
class Script:
    """network.py under construction."""

    graph: Graph
    found: tuple[Layer, ...]
    known: dict[str, Signal] = field(init=False)
    idents: dict[str, str] = field(init=False)
    late: frozenset[str] = field(init=False)
    params: dict[str, Array] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    wires: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    processes: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known, self.idents = signals(self.graph), identifiers(self.graph)
        self.taken = set(self.idents.values())
        skewed = self.graph.start == "skewed"
        self.late = late_biases(self.graph, self.found) if skewed else frozenset()

    @property
    def skewed(self) -> bool:
        """Whether layers start with their first input."""
        return self.graph.start == "skewed"

    @property
    def joint(self) -> bool:
        """Whether samples may follow each other in one run."""
        carried = any(s.delay for layer in self.found for s in layer.synapses)
        return self.skewed and not carried and not any(map(_set_by_host, self.found))

    def text(self) -> NetworkText:
        """Everything the template needs; fills `params`."""
        inputs = self.graph.of_type(Input)
        layers = tuple(self._layer(layer) for layer in self.found)
        names = [self.idents[node.name] for node in inputs]
        names += [name for own in self.processes.values() for name in own]
        outputs = self.graph.of_type(Output)
        return NetworkText(
            title=quoted(self.graph.name),
            name=repr(quoted(self.graph.name)),
            chain=chain(self.graph),
            about=about_time(self.graph, self.found),
            imports=self._imports(),
            own_imports=self._own_imports(),
            modes=bool(self.used & {"Dense", "DelayDense", "Sparse", "DelaySparse"}),
            inputs=tuple(_entry(node.name, self._input(node)) for node in inputs),
            outputs=tuple(_entry(node.name, self._output(node)) for node in outputs),
            layers=layers,
            joint=self.joint,
            settings=tuple(self.settings),
            sources=tuple(line for node in inputs for line in self._source(node)),
            wires=tuple(self.wires),
            processes=tuple(f'"{name}": {name}' for name in names),
            has_sparse=bool(self.used & {"Sparse", "DelaySparse"}),
            has_delays="DelaySparse" in self.used,
        )

    def _layer(self, layer: Layer) -> LayerText:
        ident = self.idents[layer.name]
        self.processes[layer.name] = []
        lines: list[str] = []
        for synapse in layer.synapses:
            lines += self._synapses(synapse, layer)
        lines += self._line(layer)
        lines.append(self._neurons(layer))
        if layer.registers is not None and not layer.proved:
            lines.append(self._watch(layer))
        self.processes[layer.name].append(ident)
        states = tuple(register_names(layer.neuron.states).values())
        facts = {
            "shape": layer.neuron.shape, "shift": layer.shift, "states": states,
            "stock": layer.registers is not None,
            "watched": layer.registers is not None and not layer.proved,
        }  # fmt: skip
        return LayerText(ident, repr(facts), f"{ident}: {describe_layer(layer)}", tuple(lines))

    # --- synapses ---

    def _synapses(self, synapse: Synapse, layer: Layer) -> list[str]:
        if isinstance(synapse.form, Relay):
            return self._relay(synapse, synapse.form, layer)
        lines = []
        for i, packed in enumerate(synapse.packed):
            base = self.idents[synapse.name]
            name = base if i == 0 else self._fresh(f"{base}_{i + 1}")
            if isinstance(synapse.form, Kernel):
                call = self._conv(name, synapse.form, packed, synapse.message_bits)
            else:
                call = self._matrix(name, synapse.form, packed, synapse.lag, synapse.message_bits)
            lines.append(f"{name} = {call}")
            self._wire(synapse, name, layer)
            self.processes[layer.name].append(name)
        return lines

    def _relay(self, synapse: Synapse, form: Relay, layer: Layer) -> list[str]:
        """One neuron sends on how many spikes there were; who spiked gets his own share back."""
        name = self.idents[synapse.name]
        to, neuron, own = (self._fresh(f"{name}_{word}") for word in ("sum", "relay", "own"))
        first, second, third = synapse.packed
        bits, lag = synapse.message_bits, synapse.lag
        ways = (
            (to, self._matrix(to, form.parts()[0], first, lag + 1 - STAGES, bits)),
            (neuron, "GradedVec(shape=(1,), vth=0)"),
            (name, self._matrix(name, form.parts()[1], second, 0, form.message_bits)),
            (own, self._matrix(own, own_form(form), third, lag, bits)),
        )
        self.used.add("GradedVec")
        sends = self._flat(synapse)
        self.wires += [
            f"{sends}.connect({to}.s_in)", f"{to}.a_out.connect({neuron}.a_in)",
            f"{neuron}.s_out.connect({name}.s_in)", f"{sends}.connect({own}.s_in)",
        ]  # fmt: skip
        for given in (name, own):
            self._feed(unflat(f"{given}.a_out", layer.neuron.shape), layer)
        self.processes[layer.name] += [made for made, _ in ways]
        comment = f"# {name}: a neuron sends on how many spiked; {own} takes out who did himself."
        return [comment, *(f"{made} = {call}" for made, call in ways)]

    def _matrix(self, name: str, form: Form, packed: Packed, lag: int, bits: int) -> str:
        options = _options(packed, bits)
        if isinstance(form, Sparse):
            kept = entries(packed)
            self.params |= {
                name: packed.mantissa[kept], f"{name}.rows": form.rows[kept],
                f"{name}.columns": form.columns[kept],
            }  # fmt: skip
            weights = f'sparse(p, "{name}", {form.shape})'
            kind = "DelaySparse" if lag else "Sparse"
            delays = f', delays=delays(p, "{name}", {form.shape}, {lag})' if lag else ""
        else:
            self.params[name] = packed.mantissa
            weights, kind = f'p["{name}"]', "DelayDense" if lag else "Dense"
            delays = f", delays={lag}" if lag else ""
        self.used.add(kind)
        return f"{kind}(weights={weights}{delays}, {options})"

    def _conv(self, name: str, form: Kernel, packed: Packed, bits: int) -> str:
        self.used.add("Conv")
        # Lava convolves (it flips the kernel), and has width before height, channels last.
        self.params[name] = packed.values[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
        channels, height, width = form.image
        pairs = {"stride": form.stride, "padding": form.padding, "dilation": form.dilation}
        geometry = ", ".join(f"{key}={value[::-1]}" for key, value in pairs.items())
        payload = f", num_message_bits={bits}" if bits else ""
        return (
            f'Conv(weight=p["{name}"], input_shape={(width, height, channels)}, {geometry}, '
            f"groups={form.groups}{payload})"
        )

    def _wire(self, synapse: Synapse, name: str, layer: Layer) -> None:
        source, shape = self.idents[synapse.source], self.known[synapse.source].shape
        if isinstance(synapse.form, Kernel):
            sends = f"{source}.s_out"
            if not is_image(shape) or lava_shape(shape)[::-1] != synapse.form.image:
                sends = f"{flat(sends, shape)}.reshape({synapse.form.image}).transpose([2, 1, 0])"
            gives = f"{name}.a_out"
        else:
            sends, gives = self._flat(synapse), unflat(f"{name}.a_out", layer.neuron.shape)
        self.wires.append(f"{sends}.connect({name}.s_in)")
        self._feed(gives, layer)

    def _flat(self, synapse: Synapse) -> str:
        """What a synapse's source sends, flat."""
        return flat(f"{self.idents[synapse.source]}.s_out", self.known[synapse.source].shape)

    def _feed(self, gives: str, layer: Layer) -> None:
        """Connect a port to a layer's neurons, and to what watches their input."""
        ident = self.idents[layer.name]
        self.wires.append(f"{gives}.connect({ident}.a_in)")
        if layer.registers is not None and not layer.proved:
            self.wires.append(f"{gives}.connect({ident}_watch.a_in)")

    def _line(self, layer: Layer) -> list[str]:
        """The biases of a synaptic current: weights of a line that spikes in every step."""
        if not layer.line:
            return []
        ident = self.idents[layer.name]
        line = self._fresh(f"{ident}_line")
        self.used.add("Dense")
        lines = [f"{line} = Line(start={layer.shift})"]
        names = [line]
        for packed in layer.line:
            name = self._fresh(f"{ident}_bias")
            self.params[name] = packed.mantissa
            lines.append(f'{name} = Dense(weights=p["{name}"], {_options(packed, 0)})')
            if layer.shift == 0:  # no spike could arrive in the first step
                self.params[f"{name}.first"] = packed.values.reshape(-1)
                lines.append(f'{name}.a_buff.init = p["{name}.first"]')
            self.wires.append(f"{line}.s_out.connect({name}.s_in)")
            self._feed(unflat(f"{name}.a_out", layer.neuron.shape), layer)
            names.append(name)
        self.processes[layer.name] += names
        return lines

    def _fresh(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self.taken:
            n += 1
            candidate = f"{name}_{n}"
        self.taken.add(candidate)
        return candidate

    # --- neurons ---

    def _neurons(self, layer: Layer) -> str:
        ident, shape = self.idents[layer.name], lava_shape(layer.neuron.shape)
        if layer.registers is None:
            values = process_values(layer)
            self.params |= {f"{ident}.{key}": value for key, value in values.items()}
            given = ", ".join(f'"{key}": p["{ident}.{key}"]' for key in values)
            return (
                f"{ident} = {class_name(ident)}(shape={shape}, start={layer.shift}, "
                f'interval=run.interval, steps=run.steps, file=run.file("{ident}"), '
                f"values={{{given}}})"
            )
        return f"{ident} = {self._lif(ident, layer, layer.registers)}"

    def _lif(self, ident: str, layer: Layer, held: Registers) -> str:
        shape = layer.neuron.shape
        words = [f"shape={lava_shape(shape)}"]
        words += [
            self._register(ident, key, getattr(held, key), shape) for key in ("du", "dv", "vth")
        ]
        waits = layer.name in self.late
        bias = self._register(ident, "bias_mant", held.bias_mant, shape)
        if waits:
            self.params[f"{ident}.bias_mant"] = to_lava(held.bias_mant, shape)
            self._setting(ident, layer, "bias_mant")
            bias = "bias_mant=0"
        if held.bias_mant.any():
            words += [bias, self._register(ident, "bias_exp", held.bias_exp, shape)]
        if not self.skewed or (layer.shift == 0 and not held.starts_at_rest):
            words += [self._register(ident, k, getattr(held, k), shape) for k in "uv"
                      if getattr(held, k).any()]  # fmt: skip
        elif held.starts_at_rest:
            self.used.add("LIFReset")
            words += ["reset_interval=run.interval", f"reset_offset={layer.shift + 1}"]
            return f"LIFReset({', '.join(words)})"
        else:
            for key in "uv":
                self.params[f"{ident}.{key}"] = to_lava(getattr(held, key), shape)
                self._setting(ident, layer, key)
        self.used.add("LIF")
        return f"LIF({', '.join(words)})"

    def _setting(self, ident: str, layer: Layer, variable: str) -> None:
        self.settings.append(repr((layer.shift, ident, variable, f"{ident}.{variable}")))

    def _register(self, ident: str, key: str, values: Array, shape: Shape) -> str:
        first = values.reshape(-1)[0]
        if (values == first).all():
            return f"{key}={int(first)}"
        self.params[f"{ident}.{key}"] = to_lava(values, shape)
        return f'{key}=p["{ident}.{key}"]'

    def _watch(self, layer: Layer) -> str:
        ident = self.idents[layer.name]
        self.used.add("Watch")
        self.processes[layer.name].append(f"{ident}_watch")
        return (
            f"{ident}_watch = Watch(shape={lava_shape(layer.neuron.shape)}, "
            f'file=run.path("{ident}.watch"), steps=run.steps)'
        )

    # --- the frame ---

    def _source(self, node: Input) -> tuple[str, str]:
        ident, shape = self.idents[node.name], lava_shape(node.shape)
        return (
            f"# {ident}: {describe_input(node)}",
            f'{ident} = Source(shape={shape}, file=run.events("{ident}"))',
        )

    def _input(self, node: Input) -> dict[str, object]:
        span = self.known[node.name].interval
        assert span is not None, "an integer graph"
        return {
            "process": self.idents[node.name], "shape": node.shape, "low": span.lo, "high": span.hi
        }  # fmt: skip

    def _output(self, node: Output) -> dict[str, object]:
        ident = self.idents[node.name]
        if node.labels:
            self.params[f"{ident}.labels"] = np.array(node.labels)
        found = way(self.graph, node)
        source = next(layer for layer in self.found if layer.name == found.source.name)
        graded = source.neuron.model.sends == "current"
        return {
            "layer": self.idents[source.name],
            "register": register_names(source.neuron.states)[sent_state(source.neuron)]
            if graded
            else "s",
            "shape": self.known[node.name].shape,
            "delay": found.delay,
            "readout": node.readout,
            "labels": f"{ident}.labels" if node.labels else "",
            "potential": register_names(source.neuron.states).get("v", ""),
        }

    def _imports(self) -> tuple[str, ...]:
        homes = {
            "conv": ("Conv",), "dense": ("DelayDense", "Dense"), "graded": ("GradedVec",),
            "lif": ("LIF", "LIFReset"), "sparse": ("DelaySparse", "Sparse"),
        }  # fmt: skip
        lines = [
            f"from lava.proc.{home}.process import {', '.join(n for n in names if n in self.used)}"
            for home, names in homes.items()
            if self.used & set(names)
        ]
        if self.used & {"Dense", "DelayDense", "Sparse", "DelaySparse"}:
            lines.append("from lava.utils.weightutils import SignMode")
        if self.used & {"Sparse", "DelaySparse"}:
            lines.append("from scipy.sparse import csr_matrix")
        return tuple(lines)

    def _own_imports(self) -> tuple[str, ...]:
        own = [self.idents[n.name] for n in self.found if n.registers is None]
        lines = [f"from neurons_{ident} import {class_name(ident)}" for ident in own]
        if "Watch" in self.used:
            lines.append("from sinks import Watch")
        line = "Line, " if any(layer.line for layer in self.found) else ""
        return (*lines, f"from sources import {line}Source")


def _entry(name: str, facts: dict[str, object]) -> str:
    return f"{name!a}: {facts!r}"


def _set_by_host(layer: Layer) -> bool:
    return layer.registers is not None and not layer.registers.starts_at_rest


def _options(packed: Packed, bits: int) -> str:
    payload = f", num_message_bits={bits}" if bits else ""
    return (
        f"weight_exp={packed.exponent}, num_weight_bits={packed.bits}, "
        f"sign_mode={packed.mode}{payload}"
    )
