"""The parts of the functions by which an output is asked, whose sizes are fitted."""

from __future__ import annotations

import re
from collections import Counter

from .kernelparts import Parts, reach_parts, turns
from .layout import Struct
from .network import Read


def asked_parts(read: Read, struct: Struct) -> dict[str, Parts]:
    """The functions by which an output is asked."""
    winner: Parts = Counter({f"winner {read.readout}": 1})
    if read.membrane is not None:
        lane = read.membrane.lane
        winner[f"winner {lane.name if lane else 'membrane'}"] += 1
    if read.vote is not None and read.vote.gains.varies:
        winner["winner gains" if read.vote.gains.table else "winner two gains"] += 1
        winner["winner codes"] += read.vote.gains.codes is not None
    winner["winner 64"] += read.score is None and read.edge.type.bits == 64
    output: Parts = Counter({f"output {read.edge.kind}": 1})
    output["output words"] += read.edge.kind == "mask" and read.edge.words > 1
    of_edge = re.findall(r"s->(\w+)", read.edge.at)
    for parts in (winner, output):
        parts["one element"] += read.edge.size == 1
    output += reach_parts(of_edge, struct) + turns("output", read.edge.size)
    compared = of_edge if read.score is None else [read.score.name]
    winner += reach_parts(compared, struct) + turns("winner", read.decisions)
    found = {"winner": winner, "output": output}
    if read.score is not None:
        found["score"] = Counter({"score": 1, "score 64": int(read.score.type.bits == 64)})
        found["score"][f"score {read.score.type.bits}"] += 1
        found["score"] += turns("score", read.decisions) + reach_parts([read.score.name], struct)
    return {f"{read.start}{name}": parts for name, parts in found.items()}
