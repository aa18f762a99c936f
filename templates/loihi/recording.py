"""What one run is given, and how its values are kept: an array for each register, in one file."""

import os

import numpy as np


class Run:
    """One run of the network.

    Attributes:
        steps: The number of Lava's steps.
        interval: Steps between two resets of all states.
    """

    def __init__(self, folder, steps, interval, recorded):
        self.folder, self.steps, self.interval = folder, steps, interval
        self.recorded = recorded

    def events(self, source):
        """The file of what an input receives, (steps, *shape) in Lava's layout."""
        return self.path(f"{source}.events.npy")

    def file(self, layer):
        """Where the registers of a layer go; empty if nobody wants them."""
        return self.path(layer) if layer in self.recorded else ""

    def path(self, name):
        """A file of this run."""
        return os.path.join(self.folder, name)


class Record:
    """Keeps registers step by step, and writes them after the last step."""

    def __init__(self, file, steps):
        self.file, self.steps, self.kept = file, steps, {}

    def add(self, step, **registers):
        """Keep the registers after `step`, the first of which is 1."""
        if not self.file:
            return
        for name, values in registers.items():
            values = np.asarray(values)
            if name not in self.kept:
                self.kept[name] = np.zeros((self.steps, *values.shape), values.dtype)
            self.kept[name][step - 1] = values
        if step == self.steps:
            for name in registers:
                np.save(f"{self.file}.{name}.npy", self.kept[name])
