"""Run the network in Lava's fixed-point simulator.

    python run.py --input spikes.npy --output out.npy [--decide classes.npy] [--trace DIR]
                  [--models | --config MODULE:NAME]

`spikes.npy` holds integers, (samples, steps, *input shape); `out.npy` receives what the network
sends, (samples, steps, *output shape), each step aligned with the input that caused it. With
--decide, `classes.npy` receives the class of each sample. Of several inputs, `spikes.npz` holds an
array `input.NAME` for each, as many samples and steps in all; or each has a file of its own,
--input NAME=spikes.npy. Of several outputs, `out.npz` and `classes.npz` receive an array
`output.NAME` for each. INPUTS and OUTPUTS in network.py have the names; the first output is the
one whose accuracy qspinn reports. With --trace, DIR receives every
register of every layer after every step, as LAYER.REGISTER.npy. With --models, Lava's process
models are stepped in this process, which gives the same values much sooner. With --config, Lava
runs under the configuration that NAME() of MODULE returns, for those who have Intel's compiler:
lava.magma.core.run_configs:Loihi2HwCfg, or a function of your own beside this file.
"""

import argparse
import functools
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import zipfile

import numpy as np

ACTIVATION = 32767


def main():
    """Read the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--input", required=True, action="append", metavar="[NAME=]FILE", help="spikes.npy or .npz"
    )
    parser.add_argument("--output", required=True, help="out.npy, or out.npz of several outputs")
    parser.add_argument("--decide", metavar="FILE", help="classes.npy or .npz")
    parser.add_argument("--trace", metavar="DIR", help="a folder for all registers")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--models", action="store_true", help="without Lava's runtime: faster")
    how.add_argument("--config", metavar="MODULE:NAME", help="what makes Lava's run configuration")
    options = parser.parse_args()
    try:
        import lava_compat  # noqa: F401
    except ImportError as error:
        print(f"run.py: {error}: pip install --ignore-requires-python --no-deps lava-nc==0.10.0",
              "scipy networkx asteval", file=sys.stderr)
        return 3
    import network

    if options.config:
        try:
            options.config = configured(options.config)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            print(f"run.py: --config {options.config}: {error}", file=sys.stderr)
            return 2
        own = [name for name, layer in network.LAYERS.items() if not layer["stock"]]
        if own:
            print(f"run.py: for the simulator only: {', '.join(own)}", file=sys.stderr)
    try:
        data, problem = received(options.input, network.INPUTS)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        problem = f"--input {' '.join(options.input)}: {error}"
    for path in (options.output, options.decide):
        if path and not os.path.isdir(os.path.dirname(path) or "."):
            problem = problem or f"{path}: there is no such folder"
    if problem:
        print(f"run.py: {problem}", file=sys.stderr)
        return 2
    if options.trace:
        os.makedirs(options.trace, exist_ok=True)
    signal.signal(signal.SIGTERM, give_up)
    try:
        simulate(network, data, options)
    except OverflowError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    return 0


def configured(place):
    """A run configuration of Lava, by the module and the name of what makes it."""
    from lava.magma.core.run_configs import RunConfig

    module, _, name = place.partition(":")
    made = getattr(importlib.import_module(module), name)()
    if not isinstance(made, RunConfig):
        raise TypeError(f"makes a {type(made).__name__}, not a RunConfig of Lava")
    return made


def received(files, inputs):
    """What each input receives, by name, and what is wrong with it, in words."""
    data, origin = {}, {}
    for text in files:
        name, named, path = text.partition("=")
        if not named or name not in inputs:
            name, path = "", text
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            name = name or next(iter(inputs))
            found = {f"input.{name}": found}
        for key in found:
            if key in {f"input.{name}" for name in inputs}:
                data[key.removeprefix("input.")] = found[key]
                origin[key.removeprefix("input.")] = path
    for name, wanted in inputs.items():
        if name not in data:
            return data, f"{' and '.join(files)}: nothing for the input {name}: give {name}=FILE.npy"
        if problem := wrong_with(data[name], wanted):
            return data, f"{origin[name]}: {problem}"
    sizes = {name: data[name].shape[:2] for name in inputs}
    if len(set(sizes.values())) > 1:
        return data, f"the inputs differ in samples and steps: {sizes}"
    return {name: data[name] for name in inputs}, ""


def wrong_with(data, wanted):
    """What is wrong with the input, in words."""
    shape = tuple(wanted["shape"])
    if data.ndim < 2 or data.shape[2:] != shape or 0 in data.shape:
        shape = ", ".join(map(str, ("samples", "steps", *shape)))
        return f"has the shape {data.shape}, not ({shape})"
    if not (np.issubdtype(data.dtype, np.integer) or data.dtype == np.bool_):
        return f"holds {data.dtype}, not integers"
    low, high = wanted["low"], wanted["high"]
    if data.min() < low or data.max() > high:
        return f"runs from {data.min()} to {data.max()}, the input takes {low} to {high}"
    return ""


def give_up(*_):
    """A process of Lava failed, and said how: end the others, which wait for it."""
    for child in multiprocessing.active_children():
        child.kill()
    print("run.py: a process of Lava failed", file=sys.stderr, flush=True)
    os._exit(1)


def simulate(network, data, options):
    """Run all samples and write what was asked for."""
    samples, steps = next(iter(data.values())).shape[:2]
    outputs = network.OUTPUTS.values()
    recorded = set(network.LAYERS) if options.trace else {out["layer"] for out in outputs}
    tied = options.decide and any(out["readout"] == "first_spike" for out in outputs)
    states = options.trace or tied or any(out["register"] != "s" for out in outputs)
    if network.JOINT:
        groups = [{name: x.reshape(-1, *x.shape[2:]) for name, x in data.items()}]
    else:
        groups = [{name: x[i] for name, x in data.items()} for i in range(samples)]
    execute = step_models if options.models else functools.partial(run_lava, options.config)
    runs = [one_run(network, group, recorded, states, steps, execute) for group in groups]
    wanted = {(out["layer"], out[word]) for out in outputs for word in ("register", "potential")}
    kept = {}
    for name in list(runs[0]):
        shape = tuple(network.LAYERS[name[0]]["shape"])
        values = np.concatenate([run.pop(name) for run in runs])
        values = values.reshape(samples, steps, *shape)
        if options.trace:
            np.save(os.path.join(options.trace, f"{name[0]}.{name[1]}.npy"), values)
        if name in wanted:
            kept[name] = values
    sent, chosen = {}, {}
    for name, out in network.OUTPUTS.items():
        values, delay = kept[out["layer"], out["register"]], out["delay"]
        late = np.zeros_like(values)
        late[:, delay:] = values[:, : max(steps - delay, 0)]
        sent[name] = late.reshape(samples, steps, *out["shape"])
        if options.decide:
            unsent = np.zeros_like(values) if out["register"] == "s" else values
            potential = kept.get((out["layer"], out["potential"]), unsent)
            chosen[name] = decided(out, late, potential)
    store(options.output, sent)
    if options.decide:
        store(options.decide, chosen)


def store(path, values):
    """Write what each output gives: an array, or of several outputs an archive of arrays."""
    if len(values) == 1:
        np.save(path, *values.values())
    else:
        np.savez(path, **{f"output.{name}": array for name, array in values.items()})


def decided(out, sent, potential):
    """The class of each sample, by the readout of an output."""
    from readout import classes

    labels = np.load(os.path.join(HERE, "params.npz"), allow_pickle=False).get(out["labels"])
    flat = (*sent.shape[:2], -1)
    return classes(out["readout"], sent.reshape(flat), potential.reshape(flat), labels)


def one_run(network, data, recorded, states, steps, execute):
    """Run once on (steps, *shape) of each input; return registers by layer and name, aligned."""
    from recording import Run

    latest = max(layer["shift"] for layer in network.LAYERS.values())
    length = len(next(iter(data.values())))
    total = length + latest
    with tempfile.TemporaryDirectory() as folder:
        interval = steps if network.JOINT else total + 1
        run = Run(folder, total, interval, recorded)
        for name, facts in network.INPUTS.items():
            np.save(run.events(facts["process"]), to_lava(data[name]))
        parameters = dict(np.load(os.path.join(HERE, "params.npz"), allow_pickle=False))
        processes = network.build(parameters, run)
        stock = [n for n, layer in network.LAYERS.items() if layer["stock"] and n in recorded]
        settings = [(due, name, word, parameters[p]) for due, name, word, p in network.SETTINGS]
        execute(processes, run, {name: run.file(name) for name in stock}, settings, states)
        check_activations(network, run)
        return collect(network, run, length)


def run_lava(config, processes, run, recorded, settings, states):
    """Lava's own runtime, a process for each of its processes; simulated unless configured."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from sinks import Registers, Spikes

    recorder = Registers if states else Spikes
    for name, file in recorded.items():
        recorder(lif=processes[name], file=file, steps=run.steps)
    config, done, leaders = config or Loihi2SimCfg(select_tag="fixed_pt"), 0, []
    for step in sorted({step for step, *_ in settings} | {run.steps}):
        for leader in leaders:
            leader.run(condition=RunSteps(step - done))
        # Lava runs what is connected; inputs with nothing in common are runs of their own.
        for process in processes.values():
            if process.runtime is None:
                process.run(condition=RunSteps(step - done), run_cfg=config)
                leaders.append(process)
        done = step
        for due, name, variable, values in settings:
            if due == step < run.steps:
                getattr(processes[name], variable).set(values)
    for leader in leaders:
        leader.stop()


def step_models(processes, run, recorded, settings, states):
    """Lava's process models without its runtime."""
    import stepping

    stepping.run(processes, run.steps, recorded, settings)


def check_activations(network, run):
    """Refuse a result that rests on a broken assumption."""
    for name, layer in network.LAYERS.items():
        if layer["watched"]:
            peak = int(np.load(run.path(f"{name}.watch.peak.npy")).max())
            if peak > ACTIVATION:
                raise OverflowError(
                    f"the summed input of {name} reached {peak}; it was assumed to stay within "
                    f"{ACTIVATION}, beyond which Loihi computes something else"
                )


def collect(network, run, steps):
    """The recorded registers, each from its layer's first step on."""
    found = {}
    for name, layer in network.LAYERS.items():
        for register in ("s", *layer["states"]):
            file = f"{run.file(name)}.{register}.npy"
            if name in run.recorded and os.path.exists(file):
                values = np.load(file)[layer["shift"] : layer["shift"] + steps]
                found[name, register] = from_lava(values, tuple(layer["shape"]))
    return found


def to_lava(data):
    """(steps, channels, [height,] width) -> (steps, width, height, channels); others become flat."""
    if data.ndim not in (3, 4):
        return data.reshape(len(data), -1)
    return data.reshape(len(data), data.shape[1], -1, data.shape[-1]).transpose(0, 3, 2, 1)


def from_lava(values, shape):
    """The inverse of `to_lava` for a signal of `shape`."""
    if values.ndim == 4:
        values = values.transpose(0, 3, 2, 1)
    return values.reshape(len(values), *shape)


HERE = os.path.dirname(os.path.abspath(__file__))

if __name__ == "__main__":
    sys.exit(main())
