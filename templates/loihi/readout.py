"""From what the output did in each sample to a class. Ties go to the lowest."""

import numpy as np

FULL_VOTE = 1 << 16


def classes(readout, sent, potential, labels):
    """The class of each sample.

    `sent` and `potential` are (samples, steps, outputs): what left the network, and the membrane
    potentials of its last neurons. `labels` says which class each output votes for; -1: for none.
    """
    counts = sent.astype(np.int64).sum(1)
    if readout == "vote":
        return votes(counts, labels).argmax(1)
    if readout == "first_spike":
        return first_spikes(sent, potential[:, -1]).argmax(1)
    scores = {"count": counts, "membrane_last": potential[:, -1], "membrane_max": potential.max(1)}
    return scores[readout].argmax(1)


def votes(counts, labels):
    """The spikes of each class, (samples, classes), each times FULL_VOTE // its number of outputs."""
    speaks = labels[:, None] == np.arange(labels.max() + 1)
    return counts @ speaks.astype(np.int64) * (FULL_VOTE // speaks.sum(0))


def first_spikes(sent, last):
    """The last potential of those that spiked first, or of all where none did."""
    fired = sent > 0
    first = np.where(fired.any(1), fired.argmax(1), sent.shape[1])
    earliest = first == first.min(1, keepdims=True)
    return np.where(earliest, last, last.min() - 1)
