"""What the header says of each output, and what its functions and macros are named."""

from __future__ import annotations

from dataclasses import dataclass

from .names import quoted
from .network import Network, Read

READOUTS = {
    "count": "the output with the most spikes",
    "first_spike": "the output that spiked first",
    "membrane_last": "the output with the largest value",
    "membrane_max": "the output with the largest value in any step",
    "vote": "the class with the most spikes per neuron that speaks for it",
}
_SCORES = {
    "count": "The spikes of output i since reset, modulo 2**32.",
    "first_spike": "The step of output i's first spike, at most 2**32 - 2; 2**32 - 1: none yet.",
    "membrane_max": "The largest value of output i since reset.",
    "vote": "The spikes of all neurons that speak for class i since reset, modulo 2**32.",
}


@dataclass(frozen=True, slots=True)
class Outlet:
    """An output as templates print it.

    Attributes:
        read: What it keeps.
        title: The output's own name, fit for a comment.
        word: What it is called in names of C; empty where it is the only output.
        prefix: Starts the names of its functions: ``digits`` or ``digits_kind``.
        end: Ends the names of its macros: nothing or ``_KIND``.
        readout: What its decision is.
        winner_note: What the header says of a decision beside which it is.
        output_type: Of a value that leaves.
        output_title: What that is.
        score_type: Of what the readout keeps.
        score_title: What that is.
    """

    read: Read
    title: str
    word: str
    prefix: str
    end: str
    readout: str
    winner_note: str
    output_type: str
    output_title: str
    score_type: str
    score_title: str

    @property
    def functions(self) -> tuple[str, ...]:
        """What the names of its public functions end with."""
        return ("winner", "output", *(("score",) if self.read.score else ()))


def outlets(network: Network) -> tuple[Outlet, ...]:
    """The outputs of a network, the one that decides first."""
    return tuple(_outlet(read, network) for read in network.reads)


def _outlet(read: Read, network: Network) -> Outlet:
    wide = read.edge.kind == "dense" and read.edge.type.bits == 64
    title = {
        "mask": "Whether output i spiked in the last step: 1 or 0.",
        "dense": "The value of output i after the last step.",
    }[read.edge.kind]
    if read.vote is not None:
        title = title.replace("output i", "output neuron i")
    return Outlet(
        read=read,
        title=quoted(read.output),
        word=read.word,
        prefix=f"{network.prefix}_{read.start}".rstrip("_"),
        end=read.end,
        readout=READOUTS[read.readout],
        winner_note=_winner_note(read),
        output_type="int64_t" if wide else "int32_t",
        output_title=title,
        score_type=_score_type(read),
        score_title=_SCORES.get(read.readout, ""),
    )


def summary(network: Network) -> str:
    """What goes in and what comes out, in a few words."""
    kinds = {"spike": "spiking inputs", "count": "counting inputs", "current": "input values"}
    found = [f"{network.port.size} {kinds[network.port.kind]}"]
    for read in network.reads:
        found.append(_elements(read) + (f" as {read.word}" if read.word else ""))
    return ", ".join(found)


def _elements(read: Read) -> str:
    """What the header says of what leaves the network."""
    if read.vote is None:
        return f"{read.edge.size} outputs"
    return f"{read.edge.size} neurons that vote for {read.vote.classes} classes"


def _winner_note(read: Read) -> str:
    if read.vote is None or not read.vote.gains.varies:
        return ""
    return f"right for fewer than {(1 << 16) // max(read.edge.span.hi, 1)} steps since reset"


def _score_type(read: Read) -> str:
    if read.score is None or read.readout != "membrane_max":
        return "uint32_t"
    return "int64_t" if read.score.type.bits == 64 else "int32_t"
