"""The emitted encoders called as applications call them, on this machine and on emulated cores."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.emulate import Emulator, linked
from qspinn.backends.mcu.intake import form_of
from qspinn.backends.mcu.network import Network
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import WARNINGS, compiles, emitted
from qspinn.encode import Encoder, Raw, keys
from qspinn.ir import Array, Graph

WRAPPERS = """
#define {M}_IMPLEMENTATION
#include "{P}.h"
#include "{P}_run.h"
static {index} active[{M}_NUM_INPUTS];
uint32_t {P}_try_encode(const {P}_raw_t *raw, uint32_t key, uint32_t step, {buffer} *to);
uint32_t {P}_try_active(const {P}_raw_t *raw, uint32_t key, uint32_t step, {buffer} *to);
uint32_t {P}_try_list(const {P}_raw_t *raw);
uint32_t {P}_try_list(const {P}_raw_t *raw)
{{
    {listed}
}}
uint32_t {P}_try_run({P}_state_t *s, const {P}_raw_t *raw, uint32_t key, {buffer} *to);
uint32_t {P}_try_run_active({P}_state_t *s, const {P}_raw_t *raw, uint32_t key, {buffer} *to);
uint32_t {P}_try_encode(const {P}_raw_t *raw, uint32_t key, uint32_t step, {buffer} *to)
{{
    (void)key;
    {encode}
}}
uint32_t {P}_try_active(const {P}_raw_t *raw, uint32_t key, uint32_t step, {buffer} *to)
{{
    (void)key;
    {active}
}}
uint32_t {P}_try_run({P}_state_t *s, const {P}_raw_t *raw, uint32_t key, {buffer} *to)
{{
    (void)key;
    return {P}_run(s, raw, {key}{null}to);
}}
uint32_t {P}_try_run_active({P}_state_t *s, const {P}_raw_t *raw, uint32_t key, {buffer} *to)
{{
    (void)key;
    (void)active;
    return {P}_run(s, raw, {key}{list}to);
}}
"""

MAIN = """
#include <stdio.h>
#include "{P}.c"
static {P}_state_t state;
static {P}_raw_t raw[{M}_NUM_INPUTS];
static {buffer} to[{M}_NUM_INPUTS];
static void give(uint32_t word) {{ (void)fwrite(&word, sizeof word, 1, stdout); }}
int main(void)
{{
    uint32_t head[2], step, i;
    if ({P}_try_run(NULL, raw, 0u, to) + {P}_try_run(&state, NULL, 0u, to) != 0u) {{ return 1; }}
    if ({P}_try_run_active(&state, raw, 0u, NULL) != 0u) {{ return 2; }}
    while (fread(head, sizeof head, 1, stdin) == 1 && fread(raw, sizeof raw, 1, stdin) == 1) {{
        for (step = 0u; step < head[1]; step++) {{
            for (i = 0u; i < 2u; i++) {{
                uint32_t e, count = i == 0u ? {P}_try_encode(raw, head[0], step, to)
                                            : {P}_try_active(raw, head[0], step, to);
                give(count);
                for (e = 0u; e < count; e++) {{ give((uint32_t)to[e]); }}
            }}
        }}
        give({P}_try_run(&state, raw, head[0], to));
        give({P}_try_run_active(&state, raw, head[0], to));
    }}
    return 0;
}}
"""


@dataclass(frozen=True)
class Tried:
    """A network with an encoder, and its files with functions to call from outside."""

    network: Network
    encoder: Encoder
    files: dict[str, bytes]

    @property
    def raw(self) -> Raw:
        return Raw.parse(self.encoder.raw)

    def key(self, sample: int) -> int:
        return int(keys(self.encoder, np.array([sample]))[0])

    @property
    def buffer(self) -> str:
        port = self.network.port
        if port.form == "mask":
            return "uint32_t"
        return port.value.name if port.value else port.index.name

    def bytes_of(self, raw: Array) -> bytes:
        kind = f"{'i' if self.raw.signed else 'u'}{self.raw.bits // 8}"
        return raw.astype(f"<{kind}").tobytes()


def tried(graph: Graph, encoder: Encoder) -> Tried:
    options = encoder.options()
    files = dict(emitted(graph, **options).files)
    network = build(BACKEND.legalize(graph), form_of(options, graph.input))
    made = Tried(network, encoder, files)
    port, P = network.port, network.prefix
    words = (port.size + 31) // 32 if port.form == "mask" else port.size
    given = f"raw, {'key, ' if encoder.kind == 'rate' else ''}step"
    if encoder.kind == "direct":
        encode = active = f"(void)step;\n    {P}_encode(raw, to);\n    return {words}u;"
    else:
        look = f"{P}_encode_active({given}, active, {P}_active(raw, active), to)"
        encode, active = f"{P}_encode({given}, to)", look
        after = f";\n    return {words}u;" if port.form == "mask" else ";"
        lead = "" if port.form == "mask" else "return "
        encode, active = lead + encode + after, lead + active + after
    spikes = encoder.kind != "direct"
    listed = f"return {P}_active(raw, active);" if spikes else "(void)raw;\n    return 0u;"
    text = WRAPPERS.format(
        P=P, M=network.macro, index=port.index.name, buffer=made.buffer, encode=encode,
        active=active, key="key, " if encoder.kind == "rate" else "", listed=listed,
        null="NULL, " if spikes else "", list="active, " if spikes else "",
    )  # fmt: skip
    main = MAIN.format(P=P, M=network.macro, buffer=made.buffer)
    return replace(made, files={**files, f"{P}.c": text.encode(), "main.c": main.encode()})


def on_host(
    made: Tried, raw: Array, samples: Array, steps: int, folder: Path, *options: str
) -> tuple[list[Array], Array]:
    """What the encoder makes of raw samples, each (2, steps, words), and both runs' decisions."""
    for name, content in made.files.items():
        (folder / name).write_bytes(content)
    compiles(folder, "gcc", "-std=c99", "-O2", *WARNINGS, *options, "main.c", "-o", "main")
    sent = b"".join(
        np.array([made.key(int(s)), steps], "<u4").tobytes() + made.bytes_of(row)
        for s, row in zip(samples, raw, strict=True)
    )
    done = subprocess.run([folder / "main"], input=sent, check=True, capture_output=True)
    words = np.frombuffer(done.stdout, "<u4").astype(np.int64)
    found, winners, at = [], [], 0
    for _ in samples:
        lists: list[list[Array]] = [[], []]
        for turn in range(2 * steps):
            count = int(words[at])
            lists[turn % 2].append(words[at + 1 : at + 1 + count])
            at += 1 + count
        found.append(np.array([[spread(made, row) for row in rows] for rows in lists]))
        winners.append(words[at : at + 2])
        at += 2
    assert at == len(words)
    return found, np.array(winners)


def spread(made: Tried, words: Array) -> Array:
    """What an encoder wrote, as a value for each input."""
    port = made.network.port
    if port.form == "mask":
        bits = words[:, None] >> np.arange(32) & 1
        assert not bits.reshape(-1)[port.size :].any()
        return bits.reshape(-1)[: port.size]
    if port.value is not None:
        half = 1 << 31
        return (words ^ half) - half if port.value.signed else words
    dense = np.zeros(port.size, np.int64)
    assert (np.diff(words) > 0).all()
    dense[words] = 1
    return dense


class Cored:
    """The same on an emulated core."""

    def __init__(self, made: Tried, core: str) -> None:
        self.made, prefix = made, made.network.prefix
        files = tuple((n, c) for n, c in made.files.items() if n != "main.c")
        self.emulator = Emulator(linked(files, prefix, CORES[core]), CORES[core])
        size = made.network.port.size
        self.raw = self.emulator.allocate(size * 2)
        self.to = self.emulator.allocate(size * 8)
        self.state = self.emulator.allocate(made.network.struct.bytes)

    def place(self, raw: Array) -> None:
        self.emulator.write(self.raw, self.made.bytes_of(raw))

    def encode(self, sample: int, step: int, what: str = "encode") -> Array:
        port, key = self.made.network.port, self.made.key(sample)
        name = f"{self.made.network.prefix}_try_{what}"
        count = self.emulator.call(name, self.raw, key, step, self.to)
        kind = (
            "<u4" if port.form == "mask" else port.value.dtype if port.value else port.index.dtype
        )
        wide = np.dtype(kind).itemsize
        words = np.frombuffer(self.emulator.read(self.to, count * wide), kind).astype(np.int64)
        return words if port.value is not None else spread(self.made, words)

    def cost(self, what: str) -> int:
        """The instructions of a call in step 3."""
        given = (self.raw,) if what == "list" else (self.raw, self.made.key(0), 3, self.to)
        with self.emulator.counting() as total:
            self.emulator.call(f"{self.made.network.prefix}_try_{what}", *given)
        return total[0]

    def run(self, sample: int, what: str = "run") -> int:
        name = f"{self.made.network.prefix}_try_{what}"
        return self.emulator.call(name, self.state, self.raw, self.made.key(sample), self.to)
