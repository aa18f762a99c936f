"""The parts of tiles that `codesize` counts, and the stack they take."""

from __future__ import annotations

import re
from collections import Counter

from .kernelparts import Parts, reach_parts, turns
from .layout import Struct
from .network import Start, TileAdder, Update
from .packedimage import PackedImage
from .packedlif import PackedLif
from .tileforms import WHOLE, TileForm
from .tilestage import Tile, TileDrive
from .updateparts import body_parts, number_parts


def form_of(form: TileForm) -> str:
    """What the functions that add rows of a form share; empty for the usual one."""
    if form == WHOLE:
        return ""
    return f" {form.template}{f' {form.together}' if form.together > 1 else ''}"


def adder_parts(adder: TileAdder) -> Parts:
    """What the function that adds rows is made of: as a whole, since nothing in it varies."""
    return Counter({f"tile sum {'more ' if adder.more else ''}{adder.form.name}": 1})


def tile_functions(stage: Tile, vectors: bool, struct: Struct) -> dict[str, Parts]:
    """What the functions beside the stage's own are made of, by name.

    Args:
        stage: The stage.
        vectors: Whether the core has Helium.
        struct: Where members lie.
    """
    found = {drive.fill: _list_parts(drive, struct) for drive in stage.drives if drive.made}
    packed = stage.packed
    if packed is None:
        return found
    found[stage.exact] = exact_parts(stage.update)
    if packed.spikes and not (vectors and stage.vectors):
        found[stage.spike] = spike_parts(packed)
    return found


def exact_parts(update: Update) -> Parts:
    """The function that updates the neurons of a word alone."""
    exact = body_parts(update)
    exact["exact"] += 1
    exact["exact odd"] += update.size % 2
    return exact


def image_functions(stage: PackedImage) -> dict[str, Parts]:
    """What the functions beside the stage's own are made of, by name."""
    number: Parts = Counter()
    if stage.update.mask and stage.update.place:
        number_parts(stage.update, number)
    found = {stage.exact: exact_parts(stage.update) + number + Counter({"exact by place": 1})}
    if stage.packed.spikes:
        found[stage.spike] = spike_parts(stage.packed) + number + Counter({"spiking by place": 1})
    return found


def image_parts(stage: PackedImage) -> Parts:
    """What the stage itself is made of: a loop over two words."""
    bands = stage.bands
    parts: Parts = Counter({"image bands": int(bands is not None)})
    parts["image rest"] += bands is not None and bands.rows % bands.height != 0
    for part, count in word_parts(stage.packed).items():
        parts[part] += 2 * count
    return parts


def _list_parts(drive: TileDrive, struct: Struct) -> Parts:
    """The function that lists rows."""
    callers = drive.edge.kind == "list"
    parts: Parts = Counter({f"list {'events' if callers else 'mask'}": 1})
    parts[f"list {'events' if callers else 'mask'} parts"] += drive.parts
    if not callers and drive.edge.words > 1:
        parts += turns("list words", drive.edge.words) + Counter({"list words": 1})
    assert drive.made is not None, "where there is no list, nothing makes one"
    parts[f"list index {drive.index.bits}"] += 1
    members = [drive.made.name, *re.findall(r"s->(\w+)", drive.edge.at)]
    parts += reach_parts(members, struct, "list ")
    if drive.kept is not None:
        parts["list kept"] += 1 if callers else 2
        parts["list ranks"] += drive.kept.ranks is not None
    parts["delay slot"] += " " in drive.edge.at
    return parts


def options_of(packed: PackedLif) -> dict[str, int]:
    """What a packed update may have or not, and how often."""
    biases = packed.biases
    return {
        packed.spikes or "exact": 1,
        "narrow": int(packed.narrow > 0),
        "factor": int(packed.decay.factor > 0),
        "leak": int(packed.decay.shift > 0 and not packed.decay.factor),
        "gain": int(packed.gain > 0),
        "gap": int(packed.compares),
        "low": int(packed.low > 0),
        "fresh": int(packed.fresh > 0),
        "thresholds": int(packed.thresholds is not None),
        "biases": len(biases),
        "threshold codes": int(_coded(packed.thresholds)),
        "thresholds 16": int(_entry(packed.thresholds) == 16),
        "threshold factor": int(packed.thresholds is not None and packed.thresholds.factor != 1),
        "biases 16": sum(_entry(bias) == 16 for bias in biases),
        "crowded": int(packed.thresholds is not None and bool(biases)),
        "bias factors": sum(bias.factor != 1 for bias in biases),
        "bias codes": sum(bias.codes is not None for bias in biases),
        "move": int(bool(packed.move)),
        "subtracts": int(packed.reset is None),
    }


def _coded(start: Start | None) -> bool:
    return start is not None and start.codes is not None


def _entry(start: Start | None) -> int:
    """Bits of a table's entries; 0 where there is none."""
    return 0 if start is None or start.table is None else start.table.type.bits


def spike_parts(packed: PackedLif) -> Parts:
    """The function of words in which neurons spike."""
    left_out = ("factor", "leak", "gain", "biases", "biases 16", "bias factors", "bias codes")
    options = options_of(packed).items()
    return Counter({f"spiking {option}": n for option, n in options if option not in left_out})


def vector_parts(stage: Tile) -> Parts:
    """What a stage is made of that Helium does: the functions that add rows are parts of it."""
    packed, size = stage.packed, stage.update.size
    assert packed is not None, "others are not done by vectors"
    whole, rest = divmod(size, stage.lanes)
    left = stage.tiles - (whole - whole % 2)
    pairs, last = whole > 1, left > 0
    parts: Parts = Counter({"helium": 1, "helium loop": int(pairs), "helium last": int(last)})
    for nth, drive in enumerate(stage.drives):
        parts["tile list"] += drive.made is not None
        parts["tile list parts"] += drive.parts * (pairs + last)
        for two, count in ((True, pairs + (left == 2)), (False, int(left == 1))):
            of = f"helium sum{' two' if two else ''}"
            parts[of] += count * (1 + drive.parts)
            parts[f"{of} more"] += count * ((nth > 0) + drive.parts)
    copies = 2 * pairs + whole % 2
    groups = 2 * copies + (rest >= 8)
    for of, count in (("group", groups), ("part", int(rest % 8 > 0))):
        parts[f"helium {of}"] += count
        for option, chosen in options_of(packed).items():
            parts[f"helium {option}"] += count * chosen
    parts["helium fired"] += copies + (rest > 0)
    parts["helium odd"] += size % 2
    return parts


def inlined_sums(stage: Tile) -> Parts:
    """The functions that add rows, where Helium's are parts of a stage that it does not update."""
    parts: Parts = Counter()
    for nth, drive in enumerate(stage.drives):
        if drive.rows.form == WHOLE:
            parts["helium sum"] += 1 + drive.parts
            parts["helium sum more"] += (nth > 0) + drive.parts
    return parts


def tile_parts(stage: Tile) -> Parts:
    """What the stage itself is made of."""
    parts: Parts = Counter()
    several = stage.tiles > 1
    for nth, drive in enumerate(stage.drives):
        parts["tile add"] += 1
        parts["tile add more"] += nth > 0
        parts["tile list"] += drive.made is not None
        parts["tile list parts"] += drive.parts
        parts["tile list given"] += drive.made is not None and drive.edge.callers
    parts["tiles"] += several
    packed = stage.packed
    if packed is None:
        copies = 2 + stage.update.size % 2
        for part, count in body_parts(stage.update).items():
            parts[part] += count * (1 if part in _ONCE else copies)
        parts["tile mask"] += bool(stage.update.mask)
        parts["tile neurons"] += copies
        parts["tile wide mask"] += bool(stage.update.mask) and stage.lanes == 32
        parts["tile last"] += several and stage.pairs_of_last != stage.words
        return parts
    parts["tile packed"] += 1
    parts["tile turns"] += stage.turns
    parts["tile turns odd"] += stage.turns and 4 * stage.turns_of_last != stage.words and several
    parts["tile rest"] += stage.rest > 0
    parts["tile odd"] += stage.update.size % 2
    parts["tile mask loop"] += stage.update.words > 1
    parts[f"tile rest {stage.rest}"] += 0 < stage.rest < 4
    parts["tile alone"] += not several
    parts["tile odd alone"] += stage.update.size % 2 and not several
    parts["tile last alone"] += several and stage.pairs_of_last == 0
    parts["tiles 2"] += stage.tiles == 2
    copies = 4 * stage.turns + (stage.rest > 0)
    for part, count in word_parts(packed).items():
        parts[part] += count * copies
        # Some compilers write a loop of two words out.
        parts[f"second {part}"] += count * (stage.turns and stage.rest == 2)
    return parts


_ONCE = ("draws", "pressure", "high pressure")


def word_parts(packed: PackedLif) -> Parts:
    """What a word of two neurons takes."""
    options = options_of(packed).items()
    return Counter(
        {"word": 1, **{f"word {o}": n for o, n in options if o not in ("fresh", "subtracts")}}
    )


_STACK = {"armv6m": (232, 6), "armv81m": (400, 4), "rv32imc": (192, 4)}
_STACK_V7M = (200, 4)
"""Bytes of the deepest calls seen, and what a value that is kept at once adds."""
_DRIVE = 8
"""What a further list adds."""


def tile_stack(stage: Tile, isa: str, live: int) -> int:
    """An upper bound of the stack that a stage takes, its caller included.

    Args:
        stage: The stage.
        isa: The instruction set.
        live: The most values that the update of a neuron keeps at once.
    """
    # The sums of more neurons, and the frames of functions in C.
    narrow = any(drive.rows.form != WHOLE for drive in stage.drives)
    sums = 4 * (stage.words - WHOLE.lanes // 2) + 32 * narrow
    return least_stack(isa, live) + _DRIVE * (len(stage.drives) - 1) + sums


def least_stack(isa: str, live: int) -> int:
    """The same of a stage with one list of bytes."""
    base, each = _STACK.get(isa, _STACK_V7M)
    return base + each * live
