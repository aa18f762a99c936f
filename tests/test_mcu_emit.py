"""The emitted files as their users compile them: warnings, symbols, several at once, budgets."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.devices import KNOWN_CORES
from qspinn.backends.mcu.emit import _NEEDS as NEEDS
from qspinn.backends.mcu.emit import FORMAT
from qspinn.backends.mcu.lanes import FUNCTIONS as LANES
from qspinn.backends.mcu.names import identifier, prefix_of, quoted
from qspinn.backends.mcu.toolchain import CORES

from mcu_builds import (
    WARNINGS,
    ZIG,
    compiles,
    convolutional,
    emitted,
    files_of,
    mlp,
    recurrent,
    run,
    undefined,
    write,
    zig_object,
)
from mcu_nets import camera, excitatory, few_votes
from networks import random_network
from qspinn.ir import Graph
from test_mcu_run import RARE

ALL = {"mlp": mlp, "recurrent": recurrent, "conv": convolutional, "camera": camera, **RARE}
COMPILERS = {
    "gcc": ("gcc", "-std=c99"),
    "g++": ("g++", "-std=c++17"),
    "clang": (*ZIG, "cc", "-std=c99"),
    "clang++": (*ZIG, "c++", "-std=c++17"),
    "gcc c11": ("gcc", "-std=c11", "-O3"),
    "arm gcc": ("arm-none-eabi-gcc", "-mcpu=cortex-m0", "-mthumb", "-std=c99"),
}
CORES_TESTED = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "rv32imc")


def tiny() -> Graph:
    return mlp("tiny", (3, 2))


# --- the text ---


@pytest.mark.parametrize("file", ["tiny.h", "tiny_impl.h", "tiny_data.h", "tiny_run.h", "tiny.c"])
def test_golden(golden: str, file: str) -> None:
    text = emitted(tiny(), "stm32c011").files[file].decode()
    # Versions and fitted sizes change without a change of the templates.
    text = re.sub(r"(qspinn) \S+: DO", r"\1 0: DO", text)
    text = re.sub(r"((?:CODE_BYTES|STACK_BYTES|INSN_TYP_\w+) +)\d+u", r"\g<1>1000u", text)
    digest = tiny().digest
    text = text.replace(digest, "0" * 64).replace(f"0x{digest[:8].upper()}u", "0x0u")
    assert text == golden


@pytest.mark.parametrize("name", ALL)
def test_the_header_is_short(name: str) -> None:
    graph = ALL[name]()
    headers = {n: t.decode().splitlines() for n, t in files_of(graph) if n.endswith(".h")}
    (header,) = (t for n, t in headers.items() if not re.search(r"_(impl|data|run)\.h", n))
    (around,) = (t for n, t in headers.items() if n.endswith("_run.h"))
    members = sum(
        line.endswith("*/") and line.startswith("    ") and ";" in line for line in header
    )
    assert len(header) - members <= 140, "a person reads it; each member of the state has a line"
    assert len(around) <= 150
    for lines in (header, around):
        assert max(map(len, lines)) <= 120


def test_the_same_bytes_each_time() -> None:
    again = replace(convolutional())
    assert files_of(convolutional()) == files_of(again)
    text = b"".join(content for _, content in files_of(again)).decode()
    assert not re.search(r"20\d\d-|/home|/tmp|/root", text)
    assert again.digest in text


def test_steps_of_the_plan_become_a_macro() -> None:
    assert b"MLP_NUM_STEPS    24u" in emitted(mlp(), steps="24").files["mlp.h"]
    assert b"NUM_STEPS" not in emitted(mlp()).files["mlp.h"]


def test_equal_tables_are_stored_once() -> None:
    graph = mlp("twins", (12, 9, 9))
    twin = graph.map(lambda n: replace(n, weight=graph["fc2"].weight) if n.name == "fc1" else n)
    twin = twin.map(lambda n: replace(n, shape=(9,)) if n.name == "x" else n)
    assert emitted(twin).files["twins_data.h"].count(b"_weight[84]") == 1


# --- names ---


NAMES = {
    'say "hi"\n*/ int main(){} /*': "say_hi_int_main",
    "int": "net_int",
    "stdint": "net_stdint",
    "string": "net_string",
    "784-128-10": "net_784_128_10",
    "": "net",
    "???": "net",
    "Größe": "groe",
    "a__b": "a_b",
    "_x_": "x",
    "class": "net_class",
    "memory": "net_memory",
    "isolation": "net_isolation",
    "x" * 99: "x" * 48,
    "main": "net_main",
}


@pytest.mark.parametrize("name", NAMES)
def test_prefixes(name: str) -> None:
    assert prefix_of(name) == NAMES[name]
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", prefix_of(name))


@pytest.mark.parametrize("text", ["*/", "/*/", "**//*", "???/", "??/\n", "\\", '"', "ü\n"])
def test_quoted_text_ends_no_comment(text: str) -> None:
    shown = quoted(text)
    assert shown.isascii()
    assert "\n" not in shown
    assert not re.search(r"\*/|/\*|\?\?", shown)


def test_identifiers() -> None:
    assert identifier("fc1.weight") == "fc1_weight"
    assert identifier("1st", "x") == "x_1st"


def hostile() -> Graph:
    """Names that are keywords, that look alike, and that the emitted code uses itself."""
    graph = mlp('an "odd"\n*/ name??/', (9, 7, 5, 4))
    names = {
        "x": "step", "fc1": "int", "lif1": "*/ a b", "fc2": "a-b", "lif2": "a b", "fc3": "reset",
        "lif3": "row_s8_i16", "out": 'out"put\n',
    }  # fmt: skip
    return graph.map(
        lambda n: replace(n, name=names[n.name], inputs=tuple(names[i] for i in n.inputs))
    )


@pytest.mark.needs("gcc", "g++")
def test_hostile_names(tmp_path: Path) -> None:
    prefix = write(tmp_path, hostile()).prefix
    for compiler in ("gcc", "g++"):
        source = tmp_path / ("a.c" if compiler == "gcc" else "a.cpp")
        source.write_text(f'#include "{prefix}.c"\n')
        compiles(tmp_path, *COMPILERS[compiler], *WARNINGS, "-c", source.name, "-o", "a.o")


# --- compilers ---


@pytest.mark.needs("gcc", "g++", "zig")
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_warnings(compiler: str, tmp_path: Path, require: Callable[[str], None]) -> None:
    if compiler == "arm gcc":
        require("arm-gcc")
    graphs = [make() for make in ALL.values()] + [random_network(s)[0] for s in range(990, 996)]
    sources = []
    for graph in graphs:
        prefix = write(tmp_path, graph).prefix
        sources.append(f"{prefix}.cpp" if "++" in compiler else f"{prefix}.c")
        if "++" in compiler:
            (tmp_path / sources[-1]).write_text(f'#include "{prefix}.c"\n')
    compiles(tmp_path, *COMPILERS[compiler], "-O2", *WARNINGS, "-c", *sources)


@pytest.mark.needs("zig", "unicorn")
@pytest.mark.parametrize("core", CORES_TESTED)
def test_no_undefined_symbols(core: str, tmp_path: Path) -> None:
    graphs = [make() for make in ALL.values()] + [random_network(s)[0] for s in range(996, 999)]
    for i, graph in enumerate(graphs):
        prefix = write(tmp_path, graph).prefix
        option = ("-ffreestanding", "-fno-builtin")[: i % 3]
        assert not undefined(zig_object(tmp_path, CORES[core], prefix, *option))


@pytest.mark.needs("arm-gcc", "unicorn")
@pytest.mark.parametrize(
    ("cpu", "option"),
    [("cortex-m0", "-O2"), ("cortex-m0", "-Os"), ("cortex-m4", "-O3"),
     ("cortex-m33", "-ffreestanding")],
)  # fmt: skip
def test_no_undefined_symbols_of_gcc(cpu: str, option: str, tmp_path: Path) -> None:
    graphs = [make() for make in ALL.values()] + [random_network(s)[0] for s in (3, 999)]
    command = ("arm-none-eabi-gcc", f"-mcpu={cpu}", "-mthumb", "-std=c99", "-O2", option)
    sources = [f"{write(tmp_path, graph).prefix}.c" for graph in graphs]
    compiles(tmp_path, *command, "-c", *sources)
    for source in sources:
        assert not undefined(tmp_path / source.replace(".c", ".o"))


def test_every_arithmetic_function_is_tried() -> None:
    """By the networks that executors run and compilers see here or in test_mcu_run.py."""
    graphs = [make() for make in ALL.values()] + [random_network(s)[0] for s in range(900, 908)]
    text = b"".join(b"".join(dict(files_of(g)).values()) for g in graphs).decode()
    known = {*NEEDS, "asr", "signed", "mask64", "divide", "noise", "ones", "wrap64", *LANES}
    called = {name for name in known if re.search(rf"_{name}\(", text)}
    assert known - called <= {"divide"}, "test_an_image_beyond_32_bit_reciprocals has that one"


@pytest.mark.needs("zig", "unicorn")
def test_all_symbols_have_the_prefix(tmp_path: Path) -> None:
    prefix = write(tmp_path, convolutional()).prefix
    from mcu_builds import elf_of

    table = elf_of(zig_object(tmp_path, CORES["cortex-m4"], prefix)).get_section_by_name(".symtab")
    defined = [
        s for s in table.iter_symbols() if s["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT")
    ]
    assert all(s.name.startswith(f"{prefix}_") for s in defined)
    public = {s.name for s in defined if s["st_info"]["bind"] == "STB_GLOBAL"}
    assert public == {f"{prefix}_{f}" for f in ("reset", "step", "winner", "output", "score")}


# --- several units, languages and networks ---

USER = """
#include "mlp.h"
#include "recurrent.h"
#include "mlp.h"
{start}int use_{name}(void);
int use_{name}(void)
{{
    static mlp_state_t a, b;
    static recurrent_state_t r;
    const uint8_t events[2] = {{0, 1}};
    mlp_reset(&a);
    mlp_reset(&b);
    recurrent_reset(&r);
    return mlp_step(&a, events, 2u) != MLP_OK || mlp_step(&b, events, 1u) != MLP_OK ||
           recurrent_step(&r, events, 2u) != RECURRENT_OK || mlp_winner(&a) >= MLP_NUM_OUTPUTS;
}}{end}
"""


@pytest.mark.needs("gcc", "g++")
@pytest.mark.parametrize("form", ["file", "macro in C", "macro in C++"])
def test_two_networks_in_two_units_of_two_languages(form: str, tmp_path: Path) -> None:
    for graph in (mlp(), recurrent()):
        write(tmp_path, graph)
    c = USER.format(name="c", start="", end="")
    cpp = USER.format(name="cpp", start='extern "C" {', end="}")
    macro = "#define MLP_IMPLEMENTATION\n#define RECURRENT_IMPLEMENTATION\n"
    (tmp_path / "c.c").write_text((macro if form == "macro in C" else "") + c)
    (tmp_path / "cpp.cpp").write_text((macro if form == "macro in C++" else "") + cpp)
    (tmp_path / "main.c").write_text(
        "int use_c(void);\nint use_cpp(void);\nint main(void) { return use_c() || use_cpp(); }\n"
    )
    sources = ["c.c", "main.c", *(["mlp.c", "recurrent.c"] if form == "file" else [])]
    compiles(tmp_path, "gcc", "-std=c99", *WARNINGS, "-c", *sources)
    compiles(tmp_path, "g++", "-std=c++17", *WARNINGS, "-c", "cpp.cpp")
    objects = [s.replace(".c", ".o") for s in sources]
    compiles(tmp_path, "g++", *objects, "cpp.o", "-o", "both")
    assert run(tmp_path, str(tmp_path / "both")).code == 0


# --- what is checked at compile time ---


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("standard", ["-std=c99", "-std=c11", "-xc++"])
def test_budgets_break_the_build(standard: str, tmp_path: Path) -> None:
    write(tmp_path, mlp())
    build = ("gcc", standard, "-c", "mlp.c", "-o", "mlp.o")
    compiles(tmp_path, *build, "-DMLP_RAM_BUDGET=4096", "-DMLP_FLASH_BUDGET=65536")
    for region in ("RAM", "FLASH"):
        done = run(tmp_path, *build, f"-DMLP_{region}_BUDGET=64")
        assert done.code
        assert f"{region.lower()}_budget" in done.said


@pytest.mark.needs("gcc")
def test_files_of_two_compilations_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path, mlp())
    (tmp_path / "mlp_data.h").write_bytes(
        emitted(mlp(sizes=(12, 9, 4), bits=4)).files["mlp_data.h"]
    )
    done = run(tmp_path, "gcc", "-c", "mlp.c")
    assert "mlp_data.h and mlp.h are of different networks" in done.said
    write(tmp_path, mlp())
    header = (tmp_path / "mlp.h").read_text()
    (tmp_path / "mlp.h").write_text(re.sub(r"(MLP_FORMAT +)\d+", r"\g<1>9", header))
    assert f"mlp_data.h has format {FORMAT}" in run(tmp_path, "gcc", "-c", "mlp.c").said


# --- what is checked at run time ---

CALLER = r"""
#include <stdio.h>
#include <string.h>
#define {M}_IMPLEMENTATION
#include "{p}.h"
{more}
static {p}_state_t s, before;
static int refused({p}_status_t status, {p}_status_t wanted)
{{
    return status == wanted && memcmp(&s, &before, sizeof s) == 0;
}}
int main(void)
{{
    {body}
}}
"""


def checks(folder: Path, graph: Graph, body: str, more: str = "") -> None:
    network = write(folder, graph)
    text = CALLER.format(p=network.prefix, M=network.macro, body=body, more=more)
    (folder / "caller.c").write_text(text)
    command = ("gcc", "-std=c99", "-fsanitize=address,undefined", "-o", "caller")
    compiles(folder, *command, *WARNINGS, "caller.c")
    done = run(folder, str(folder / "caller"))
    assert done.code == 0, f"check {done.code} fails\n{done.said}"


@pytest.mark.needs("gcc")
def test_a_refused_step_changes_nothing(tmp_path: Path) -> None:
    body = """
    const uint8_t good[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, bad[2] = {3, 12};
    mlp_reset(&s);
    if (mlp_step(&s, good, 12u) != MLP_OK) return 1;
    before = s;
    if (!refused(mlp_step(&s, bad, 2u), MLP_ERROR_INDEX)) return 2;
    if (!refused(mlp_step(&s, good, 13u), MLP_ERROR_COUNT)) return 3;
    if (!refused(mlp_step(&s, NULL, 1u), MLP_ERROR_NULL)) return 4;
    if (mlp_step(NULL, good, 1u) != MLP_ERROR_NULL) return 5;
    mlp_reset(NULL);
    if (mlp_step(&s, NULL, 0u) != MLP_OK || memcmp(&s, &before, sizeof s) == 0) return 6;
    if (mlp_output(&s, MLP_NUM_OUTPUTS) != 0 || mlp_score(NULL, 0u) != 0u) return 7;
    mlp_reset(&s);
    memset(&before, 0, sizeof before);
    return memcmp(&s, &before, sizeof s) == 0 ? 0 : 8;
    """
    checks(tmp_path, mlp(), body)


@pytest.mark.needs("gcc")
def test_values_are_checked(tmp_path: Path) -> None:
    body = """
    const uint8_t events[2] = {0, 39}, good[2] = {7, 0}, bad[2] = {1, 8};
    delayed_reset(&s);
    if (delayed_step(&s, events, good, 2u) != DELAYED_OK) return 1;
    before = s;
    if (!refused(delayed_step(&s, events, bad, 2u), DELAYED_ERROR_VALUE)) return 2;
    return refused(delayed_step(&s, events, NULL, 2u), DELAYED_ERROR_NULL) ? 0 : 3;
    """
    checks(tmp_path, RARE["delayed"](), body)


@pytest.mark.needs("gcc")
def test_the_interface_of_a_vote(tmp_path: Path) -> None:
    """Decisions and scores are of classes, outputs of neurons; a class of one beats one of two."""
    body = """
    if (FEW_NUM_OUTPUTS != 2u || FEW_NUM_VOTERS != 3u) return 1;
    few_reset(&s);
    s.score[0] = 3u;
    s.score[1] = 3u;
    if (few_winner(&s) != 0u) return 2;
    s.score[1] = 4u;
    if (few_winner(&s) != 1u || few_score(&s, 1u) != 4u || few_score(&s, 2u) != 0u) return 3;
    s.exc_spikes[0] = 7u;
    if (few_output(&s, 2u) != 1 || few_output(&s, 3u) != 0) return 4;
    uneven_reset(&u);
    u.score[0] = 65535u * 2u;
    u.score[1] = 65535u;
    if (uneven_winner(&u) != 0u) return 5;
    u.score[0]--;
    if (uneven_winner(&u) != 1u) return 6;
    before = s;
    return refused(few_step(&s, NULL, 1u), FEW_ERROR_NULL) ? 0 : 7;
    """
    write(tmp_path, excitatory("uneven", 4, (0, 1, 0, -1)))
    checks(tmp_path, few_votes(), body, '#include "uneven.c"\nstatic uneven_state_t u;')
    header = (tmp_path / "uneven.h").read_text()
    assert "right for fewer than 65536 steps" in header
    assert "30 spiking inputs, 4 neurons that vote for 2 classes" in header
    assert "steps since reset." not in (tmp_path / "few.h").read_text()


@pytest.mark.needs("gcc")
def test_placement_and_trust(tmp_path: Path) -> None:
    write(tmp_path, mlp())
    options = (
        '-DMLP_ROM=__attribute__((section(".weights")))',
        '-DMLP_HOT=__attribute__((section(".fast")))', "-DMLP_TRUST", "-DMLP_ROLLED=",
        "-DMLP_READ(a)=(*(a))",
    )  # fmt: skip
    compiles(tmp_path, "gcc", "-std=c99", *WARNINGS, "-O2", *options, "-c", "mlp.c")
    shown = subprocess.run(
        ("objdump", "-h", "mlp.o"), cwd=tmp_path, check=True, text=True, capture_output=True
    ).stdout
    assert ".weights" in shown
    assert ".fast" in shown


def test_devices_are_plausible() -> None:
    for name, device in BACKEND.devices.items():
        assert device.name == name
        assert device.core in KNOWN_CORES
        assert device.source or name == BACKEND.default_device
        assert set(device.regions) == {"ram", "flash"}
        assert np.all([size >= 512 for size in device.regions.values()])
