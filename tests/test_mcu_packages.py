"""Packages for build systems: their layouts, their rules, and that they build, run and install."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.build import build
from qspinn.backends.mcu.packages import KINDS, semantic

from mcu_builds import WARNINGS, compiles, events, mlp, run, valued
from qspinn import datasets
from qspinn.backend import Sample
from qspinn.backend import backend as find_backend
from qspinn.cli import main
from qspinn.errors import PlanError
from qspinn.ir import Graph
from qspinn.packages import kinds_of
from qspinn.plan import Plan
from qspinn.render import render
from test_mcu_run import RARE

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits" / "digits.nir"
DATA = ROOT / "examples" / "digits" / "digits.npz"
PASSED = "digits: self-test passed"


def compile_digits(folder: Path, *options: str) -> int:
    command = ["compile", str(DIGITS), "--target", "mcu", "-o", str(folder), *options]
    with pytest.raises(SystemExit) as caught:
        main(command)
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user gets of the digits with every package."""
    folder = tmp_path_factory.mktemp("packages") / "digits"
    options = ("--data", str(DATA), "--device", "stm32c011", "--package", "all")
    assert compile_digits(folder, *options) == 0
    return folder


@pytest.fixture(scope="module")
def packages(artifact: Path) -> dict[str, Path]:
    """The folder of each kind."""
    return {kind: artifact / "packages" / kind / "digits" for kind in KINDS}


def manifest_of(artifact: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((artifact / "manifest.json").read_text())
    return found


def packed(
    graph: Graph, kind: str, folder: Path, sample: Sample | None = None, **options: str
) -> Path:
    """A package of a small network without data, below ``folder``."""
    graph, plan = BACKEND.legalize(graph), Plan({}, options=options)
    part = BACKEND.devices["generic"]
    made = BACKEND.emit(graph, part, plan)
    sample = sample or Sample(events(graph)[0], "made up")
    artifact = BACKEND.self_tested(made, graph, part, plan, sample)
    footprint = [
        {"kind": "weights", "owner": "fc", "region": "flash", "bytes": 100},
        {"kind": "state", "owner": "lif", "region": "ram", "bytes": 28},
    ]
    manifest = {
        "device": "generic", "footprint": footprint, "baseline_bytes": 512, "accuracy": None,
        "facts": {**artifact.facts, "instructions": {"cortex-m4": 123000}},
    }  # fmt: skip
    for name, content in BACKEND.package(artifact, graph, part, plan, manifest, kind).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / "packages" / kind / build(graph).prefix


def formed(name: str, kind: str, folder: Path) -> Path:
    """A package of a network with some form of input."""
    nets = {"spikes": mlp, "mask": mlp, "counts": RARE["delayed"]}
    forms = {"mask": "mask", "load": "load", "loaded once": "load", "values": "values"}
    graph = nets.get(name, valued)()
    data = events(graph)[0]
    if name == "loaded once":
        data = np.repeat(data[:1], 9, axis=0)
    options = {"input": forms[name]} if name in forms else {}
    return packed(graph, kind, folder, Sample(data, "made up"), **options)


# --- what is written ---


@pytest.mark.parametrize("kind", KINDS)
def test_golden_layout(kind: str, packages: dict[str, Path], golden: str) -> None:
    root = packages[kind]
    names = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    assert "\n".join(names) + "\n" == golden


def test_the_emitted_files_are_unchanged_in_packages(
    artifact: Path, packages: dict[str, Path]
) -> None:
    names = {p.name for p in artifact.glob("digits*.[ch]")}
    assert {"digits.h", "digits_impl.h", "digits_data.h", "digits_selftest.h"} < names
    for kind, root in packages.items():
        found = {p.name: p for p in root.rglob("digits*.[ch]") if p.parent.name != "classify"}
        assert found.keys() == names
        for name, path in found.items():
            same = path.read_bytes() == (artifact / name).read_bytes()
            assert same or (kind, name) == ("arduino", "digits.c")


def test_the_manifest_lists_them_and_validate_knows(artifact: Path, tmp_path: Path) -> None:
    listed = manifest_of(artifact)["files"]
    found = {str(p.relative_to(artifact)) for p in artifact.rglob("*") if p.is_file()}
    assert found == {*listed, "manifest.json"}
    copy = tmp_path / "copy"
    compiles(tmp_path, "cp", "-r", str(artifact), str(copy))
    for command in (["validate", str(copy), "--samples", "1"], ["check", str(copy)]):
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert not caught.value.code
    (copy / "packages" / "cmake" / "digits" / "CMakeLists.txt").write_text("")
    with pytest.raises(SystemExit) as caught:
        main(["validate", str(copy)])
    assert caught.value.code == 2


def test_the_same_bytes_each_time_and_only_what_was_asked(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again"
    options = ("--data", str(DATA), "--device", "stm32c011", "--package", "zephyr, cmake")
    assert compile_digits(again, *options) == 0
    assert {p.name for p in (again / "packages").iterdir()} == {"cmake", "zephyr"}
    assert "/packages: zephyr, cmake" in capsys.readouterr().err.replace("\n", "")
    for path in (p for p in again.rglob("*") if p.is_file() and p.name != "manifest.json"):
        same = artifact / path.relative_to(again)
        assert path.read_bytes() == same.read_bytes(), path
    # A folder with packages is replaced by one without.
    assert compile_digits(again, "--data", str(DATA)) == 0
    assert not (again / "packages").exists()


def test_the_sample_is_the_first_that_is_right(artifact: Path) -> None:
    test = manifest_of(artifact)["facts"]["selftest"]
    place = int(re.search(r"sample (\d+) of digits.npz", test["origin"])[1])  # type: ignore[index]
    data = datasets.load(DATA)
    assert data.y is not None
    assert test["winner"] == test["label"] == data.y[place]
    # 98 % are right: it is among the first few of the part that is reported on.
    assert place in data.part("report", 5)


@pytest.mark.parametrize("labelled", [True, False])
def test_where_none_is_right_it_is_the_first(labelled: bool, tmp_path: Path) -> None:
    with np.load(DATA) as file:
        arrays = {"x": file["x"][:300], "y": (file["y"][:300] + 5) % 10}
    arrays = arrays if labelled else {"x": arrays["x"]}
    np.savez(tmp_path / "some.npz", **arrays)
    assert compile_digits(tmp_path / "o", "--data", str(tmp_path / "some.npz")) == 0
    test = manifest_of(tmp_path / "o")["facts"]["selftest"]
    (first,) = datasets.load(tmp_path / "some.npz").part("report", 1)
    assert test["origin"] == f"sample {first} of some.npz"
    assert test["label"] == (arrays["y"][first] if labelled else None)
    assert test["winner"] < 10
    assert test["winner"] != test["label"]


def test_without_data_the_sample_is_generated(tmp_path: Path) -> None:
    folder = tmp_path / "o"
    assert compile_digits(folder, "--package", "cmake") == 0
    test = manifest_of(folder)["facts"]["selftest"]
    assert "generated" in test["origin"]
    assert test["label"] is None
    assert "LABEL" not in (folder / "digits_selftest.h").read_text()
    assert "accuracy" not in (folder / "packages/cmake/digits/README.md").read_text()


def test_the_readme_has_the_figures(artifact: Path, packages: dict[str, Path]) -> None:
    facts = manifest_of(artifact)
    ram = sum(line["bytes"] for line in facts["footprint"] if line["region"] == "ram")
    share = f"{100 * facts['accuracy']['integer']['value']:.2f} %"
    for kind, root in packages.items():
        text = (root / "README.md").read_text()
        assert f"| ram | {ram:,} B: state" in text
        assert f"| accuracy, integer | {share} [" in text
        assert "stm32c011" in text
        assert facts["graph"] in text
        words = {"cmake": "add_subdirectory", "arduino": "sketchbook", "platformio": "lib_deps",
                 "zephyr": "EXTRA_ZEPHYR_MODULES", "esp-idf": "idf.py"}  # fmt: skip
        assert words[kind] in text
        assert max(map(len, text.splitlines())) < 180


def test_the_readme_has_the_cost(tmp_path: Path) -> None:
    text = (packed(mlp(), "zephyr", tmp_path) / "README.md").read_text()
    assert "| instructions an inference | cortex-m4 123,000:" in text
    assert "accuracy" not in text


def test_what_cannot_be_packed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compile_digits(tmp_path / "o", "--package", "cmake,mbed") == 2
    said = capsys.readouterr().err
    assert "mcu makes no 'mbed' package" in said
    assert "one of cmake, arduino, platformio, zephyr, esp-idf, or all" in said
    assert not (tmp_path / "o").exists()
    with pytest.raises(PlanError, match="loihi makes no packages"):
        kinds_of(find_backend("loihi"), "cmake")
    assert kinds_of(find_backend("loihi"), None) == ()
    assert kinds_of(BACKEND, " cmake,,arduino,cmake ") == ("cmake", "arduino")
    assert kinds_of(BACKEND, "arduino,all") == KINDS


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("0.1.0", ("0.1.0", "0.1.0+0a1b2c3d")), ("1.20.3rc1", ("1.20.3", "1.20.3-rc1+0a1b2c3d")),
     ("2.0.0.dev4", ("2.0.0", "2.0.0-dev4+0a1b2c3d"))],
)  # fmt: skip
def test_versions(version: str, wanted: tuple[str, str]) -> None:
    assert semantic(version, "0a1b2c3d4e") == wanted


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("name", ["spikes", "mask", "counts", "values", "load", "loaded once"])
def test_the_example_of_every_form_of_input(name: str, tmp_path: Path) -> None:
    root = formed(name, "cmake", tmp_path)
    macro = root.name.upper()
    paths = (f"-D{macro}_ENABLE_SELFTEST", "-I", "include", "-I", "src")
    sources = ("examples/classify/main.c", f"src/{root.name}.c")
    compiles(root, "gcc", "-std=c99", *WARNINGS, *paths, *sources, "-o", "classify")
    done = run(root, str(root / "classify"))
    assert (done.code, "self-test passed" in done.said) == (0, True)


# --- CMake ---

CONSUMER = """
cmake_minimum_required(VERSION 3.13)
project(consumer LANGUAGES C)
find_package(digits {version} REQUIRED)
add_executable(consumer main.c {more})
target_link_libraries(consumer PRIVATE qspinn::digits)
"""
CALLER = """
#include "digits_selftest.h"
static digits_state_t state;
{begin}
int main(void)
{{
    {start}
    return (int)digits_selftest(&state);
}}
"""


def cmake(folder: Path, *options: str) -> None:
    """Configure and build."""
    compiles(folder, "cmake", "-S", ".", "-B", "build", *options)
    compiles(folder, "cmake", "--build", "build")


@pytest.mark.needs("cmake", "gcc")
def test_cmake_builds_tests_installs_and_is_found(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    made, prefix = tmp_path / "made", tmp_path / "prefix"
    flags = f"-DCMAKE_C_FLAGS={' '.join(WARNINGS)}"
    options = ("-DDIGITS_EXAMPLES=ON", f"-DCMAKE_INSTALL_PREFIX={prefix}", flags)
    configure = ("cmake", "-S", str(packages["cmake"]), "-B", str(made))
    compiles(tmp_path, *configure, *options, "-DCMAKE_BUILD_TYPE=MinSizeRel")
    done = run(tmp_path, "cmake", "--build", str(made), "--verbose")
    assert done.code == 0, done.said
    (line,) = (x for x in done.said.splitlines() if "-c" in x and "src/digits.c" in x)
    assert line.rindex("-O2") > line.rindex("-Os"), "the last one counts"
    done = run(made, "ctest", "--verbose")
    assert done.code == 0, done.said
    assert PASSED in done.said
    compiles(made, "cmake", "--install", ".")

    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "main.c").write_text(CALLER.format(begin="", start=""))
    (consumer / "CMakeLists.txt").write_text(CONSUMER.format(version="0.1", more=""))
    cmake(consumer, f"-DCMAKE_PREFIX_PATH={prefix}")
    assert run(consumer, str(consumer / "build" / "consumer")).code == 0
    (consumer / "CMakeLists.txt").write_text(CONSUMER.format(version="99.0", more=""))
    wrong = run(consumer, "cmake", "-S", ".", "-B", "other", f"-DCMAKE_PREFIX_PATH={prefix}")
    assert wrong.code != 0, "a version that is not installed"


@pytest.mark.needs("cmake", "gcc")
@pytest.mark.parametrize("name", ["test", "all", "install"])
def test_networks_with_the_names_of_cmake_targets(name: str, tmp_path: Path) -> None:
    root = packed(mlp(name, (5, 4, 3)), "cmake", tmp_path)
    text = (
        "cmake_minimum_required(VERSION 3.13)\nproject(parent LANGUAGES C)\n"
        f"add_subdirectory({root.relative_to(tmp_path)})\nadd_executable(user main.c)\n"
        f"target_link_libraries(user PRIVATE qspinn::{root.name})\n"
    )
    (tmp_path / "CMakeLists.txt").write_text(text)
    user = CALLER.replace("digits", root.name).format(begin="", start="")
    (tmp_path / "main.c").write_text(user)
    cmake(tmp_path, f"-D{root.name.upper()}_SELFTEST=ON")
    assert run(tmp_path, str(tmp_path / "build" / "user")).code == 0


TOOLCHAIN = """
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m4 -mthumb -ffreestanding")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-nostdlib -T ${CMAKE_CURRENT_LIST_DIR}/image.ld -lgcc")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
"""


@pytest.mark.needs("cmake", "arm-gcc", "qemu")
def test_cmake_for_a_cortex_m4(packages: dict[str, Path], tmp_path: Path) -> None:
    """Built and installed with a toolchain file, found by a firmware, run on a board of QEMU."""
    from qspinn.backends.mcu.qemu import MACHINES

    machine, prefix = MACHINES["cortex-m4"], tmp_path / "prefix"
    (tmp_path / "arm.cmake").write_text(TOOLCHAIN)
    (tmp_path / "image.ld").write_text(render("mcu/image.ld.j2", machine=machine))
    tools = f"-DCMAKE_TOOLCHAIN_FILE={tmp_path / 'arm.cmake'}"
    options = ("-DDIGITS_SELFTEST=ON", f"-DCMAKE_INSTALL_PREFIX={prefix}", tools)
    compiles(tmp_path, "cmake", "-S", str(packages["cmake"]), "-B", "made", *options)
    compiles(tmp_path, "cmake", "--build", "made", "--target", "install")

    consumer = tmp_path / "consumer"
    consumer.mkdir()
    (consumer / "startup.c").write_text(render("mcu/startup.c"))
    start = CALLER.format(begin="", start="")
    (consumer / "main.c").write_text(start)
    (consumer / "CMakeLists.txt").write_text(CONSUMER.format(version="0.1", more="startup.c"))
    cmake(consumer, tools, f"-Ddigits_DIR={prefix / 'lib' / 'cmake' / 'digits'}")
    done = run(
        consumer, "qemu-system-arm", "-M", machine.name, "-display", "none", "-monitor", "none",
        "-serial", "none", "-semihosting-config", "enable=on,target=native", "-kernel",
        "build/consumer",
    )  # fmt: skip
    assert done.code == 0, done.said


# --- Zephyr and ESP-IDF: their commands stand in, the rest is CMake ---

ZEPHYR = """
cmake_minimum_required(VERSION 3.20)
project(app LANGUAGES C)
macro(zephyr_library_named name)
  set(library ${{name}})
  add_library(${{name}} OBJECT)
endmacro()
macro(zephyr_library_sources)
  target_sources(${{library}} PRIVATE ${{ARGV}})
endmacro()
macro(zephyr_library_include_directories)
  target_include_directories(${{library}} PRIVATE ${{ARGV}})
endmacro()
macro(zephyr_include_directories)
  target_include_directories(${{library}} PUBLIC ${{ARGV}})
endmacro()
macro(zephyr_library_compile_definitions_ifdef option definition)
  if(${{option}})
    target_compile_definitions(${{library}} PRIVATE ${{definition}})
  endif()
endmacro()
set(CMAKE_C_FLAGS "-Os")
{config}
add_subdirectory({module} module)
add_executable(app {sample}/src/main.c)
target_link_libraries(app PRIVATE qspinn_digits)
"""


@pytest.mark.needs("cmake", "gcc")
def test_zephyr(packages: dict[str, Path], tmp_path: Path) -> None:
    root = packages["zephyr"]
    module = yaml.safe_load((root / "zephyr" / "module.yml").read_text())
    assert module == {
        "name": "qspinn_digits",
        "build": {"cmake": "zephyr", "kconfig": "zephyr/Kconfig"},
        "samples": ["samples"],
    }
    assert (root / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    kconfig = (root / module["build"]["kconfig"]).read_text()
    offered = set(re.findall(r"^config (\w+)$", kconfig, re.MULTILINE))
    sample = root / "samples" / "classify"
    wanted = dict(re.findall(r"CONFIG_(\w+)=(y)", (sample / "prj.conf").read_text()))
    assert wanted.keys() == offered == {"QSPINN_DIGITS", "QSPINN_DIGITS_SELFTEST"}
    lists = (root / "zephyr" / "CMakeLists.txt").read_text()
    assert {f"CONFIG_{name}" for name in offered} == set(re.findall(r"CONFIG_\w+", lists))
    tests = yaml.safe_load((sample / "sample.yaml").read_text())
    (test,) = tests["tests"].values()
    assert test["harness_config"]["regex"] == [PASSED]
    assert "EXTRA_ZEPHYR_MODULES" in (sample / "CMakeLists.txt").read_text()

    config = "\n".join(f"set(CONFIG_{name} y)" for name in wanted)
    text = ZEPHYR.format(config=config, module=module["build"]["cmake"], sample=sample)
    text = text.replace("add_subdirectory(zephyr", f"add_subdirectory({root / 'zephyr'}")
    (tmp_path / "CMakeLists.txt").write_text(text)
    compiles(tmp_path, "cmake", "-S", ".", "-B", "build")
    done = run(tmp_path, "cmake", "--build", "build", "--verbose")
    (line,) = (x for x in done.said.splitlines() if "-c" in x and "src/digits.c" in x)
    assert line.rindex("-O2") > line.rindex("-Os")
    shown = run(tmp_path, str(tmp_path / "build" / "app"))
    assert (shown.code, PASSED in shown.said) == (0, True)


IDF = """
cmake_minimum_required(VERSION 3.16)
project(app LANGUAGES C)
macro(idf_component_register)
  cmake_parse_arguments(C "" "" "SRCS;INCLUDE_DIRS;PRIV_INCLUDE_DIRS;REQUIRES" ${ARGV})
  get_filename_component(name ${CMAKE_CURRENT_LIST_DIR} NAME)
  set(COMPONENT_LIB __idf_${name})
  add_library(${COMPONENT_LIB} STATIC ${C_SRCS})
  target_include_directories(${COMPONENT_LIB} PUBLIC ${C_INCLUDE_DIRS})
  target_include_directories(${COMPONENT_LIB} PRIVATE ${C_PRIV_INCLUDE_DIRS})
endmacro()
set(CMAKE_C_FLAGS "-Os")
set(CONFIG_QSPINN_DIGITS_SELFTEST y)
add_subdirectory(ROOT digits)
add_subdirectory(ROOT/examples/classify/main main)
target_link_libraries(__idf_main PRIVATE __idf_digits)
add_executable(app start.c)
target_link_libraries(app PRIVATE __idf_main)
"""


@pytest.mark.needs("cmake", "gcc")
def test_esp_idf(packages: dict[str, Path], tmp_path: Path) -> None:
    root = packages["esp-idf"]
    component = yaml.safe_load((root / "idf_component.yml").read_text())
    known = {"version", "description", "license", "tags", "dependencies", "url", "targets"}
    assert component.keys() <= known
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[\w.]+)?\+[0-9a-f]{8}", component["version"])
    assert component["license"] == "MIT"
    assert component["dependencies"] == {"idf": ">=5.0"}
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{3,32}", tag) for tag in component["tags"])
    example = root / "examples" / "classify"
    depends = yaml.safe_load((example / "main" / "idf_component.yml").read_text())
    path = depends["dependencies"]["digits"]["override_path"]
    assert (example / "main" / path).resolve() == root.resolve()
    kconfig = (root / "Kconfig").read_text()
    assert "config QSPINN_DIGITS_SELFTEST" in kconfig
    defaults = (example / "sdkconfig.defaults").read_text()
    assert defaults == "CONFIG_QSPINN_DIGITS_SELFTEST=y\n"
    assert "project.cmake" in (example / "CMakeLists.txt").read_text()

    (tmp_path / "CMakeLists.txt").write_text(IDF.replace("ROOT", str(root)))
    (tmp_path / "start.c").write_text(
        "void app_main(void);\nint main(void) { app_main(); return 0; }\n"
    )
    compiles(tmp_path, "cmake", "-S", ".", "-B", "build")
    done = run(tmp_path, "cmake", "--build", "build", "--verbose")
    (line,) = (x for x in done.said.splitlines() if "-c" in x and "src/digits.c" in x)
    assert line.rindex("-O2") > line.rindex("-Os")
    assert PASSED in run(tmp_path, str(tmp_path / "build" / "app")).said


# --- Arduino ---

SEMVER = (
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
CATEGORIES = {
    "Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing",
    "Data Storage", "Data Processing", "Other",
}  # fmt: skip
FIELDS = {
    "name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url",
    "architectures",
}  # fmt: skip


def lint(root: Path) -> list[str]:
    """What the library specification, revision 2.2, and arduino-lint object to."""
    faults: list[str] = []

    def rule(text: str, kept: bool) -> None:
        faults.extend([] if kept else [text])

    lines = (root / "library.properties").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    name = fields.get("name", "")
    rule("fields are missing or empty", all(fields.get(field) for field in FIELDS))
    rule("unknown fields", fields.keys() <= FIELDS | {"includes", "depends", "dot_a_linkage"})
    rule("name: characters", bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name)))
    rule("name: no letter", bool(re.search("[A-Za-z]", name)))
    rule("name: too long", len(name) <= 63)
    rule("name: starts with Arduino", not name.lower().startswith("arduino"))
    rule("version", bool(re.fullmatch(SEMVER, fields.get("version", ""))))
    rule("maintainer", "arduino" not in fields.get("maintainer", "").lower())
    rule("category", fields.get("category") in CATEGORIES)
    rule("url", bool(re.match(r"https?://\S+$", fields.get("url", ""))))
    paragraph, sentence = fields.get("paragraph", ""), fields.get("sentence", "")
    rule("paragraph repeats sentence", not paragraph.startswith(sentence) or not sentence)
    includes = fields.get("includes", "").split(",")
    rule("includes", all((root / "src" / header.strip()).is_file() for header in includes))
    rule("folder: characters", bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", root.name)))
    rule("no src", (root / "src").is_dir())
    names = {p.name.lower(): p.name for p in root.iterdir()}
    for wanted in ("src", "examples", "extras", "library.properties", "keywords.txt"):
        rule(f"case of {wanted}", names.get(wanted, wanted) == wanted)
    rule("utility beside src", "utility" not in names)
    rule("misspelt", not {"example", "extra", "keyword.txt", "library.property"} & names.keys())
    rule("license", any(re.match(r"(?i)licen[cs]e|copying", n) for n in names))
    rule("readme", any(re.match(r"(?i)readme\.(md|adoc|txt)$", n) for n in names))
    rule("symlinks", not any(p.is_symlink() for p in root.rglob("*")))
    rule("hidden files", not any(p.name.startswith(".") for p in root.rglob("*")))
    rule("executables", not any(p.suffix == ".exe" for p in root.rglob("*")))
    sketches = list((root / "examples").rglob("*.ino"))
    rule("no example", bool(sketches))
    for sketch in sketches:
        rule("sketch folder and file", sketch.parent.name == sketch.stem)
        rule("sketch characters", bool(re.fullmatch(r"[A-Za-z0-9][\w.-]{0,62}", sketch.stem)))
        headers = re.findall(r"#include <(\w+\.h)>", sketch.read_text())
        rule("sketch includes no header of it", f"{root.name}.h" in headers)
    for line in (root / "keywords.txt").read_text().splitlines():
        kind = r"(KEYWORD[123]|LITERAL[12])"
        rule("keywords", not line or line[0] == "#" or bool(re.fullmatch(rf"\w+\t{kind}", line)))
    return faults


def test_arduino_keeps_the_rules(packages: dict[str, Path], tmp_path: Path) -> None:
    assert lint(packages["arduino"]) == []
    for name in ("Arduino thing", "784-128-10", "x" * 90):
        root = packed(mlp(name, (5, 4, 3)), "arduino", tmp_path)
        assert lint(root) == []
    header = f"{packages['arduino'].name}.h"
    assert (packages["arduino"] / "src" / header).is_file()


def test_the_rules_can_be_broken(packages: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "digits"
    compiles(tmp_path, "cp", "-r", str(packages["arduino"]), str(root))
    path = root / "library.properties"
    text = path.read_text()
    for old, new, fault in (
        ("name=digits", "name=dig its", "name: characters"),
        ("name=digits", "name=Arduino_digits", "name: starts with Arduino"),
        ("version=0", "version=v0", "version"),
        ("category=Data Processing", "category=Neural", "category"),
        ("architectures=*", "architectures=", "fields are missing or empty"),
        ("includes=digits.h", "includes=digit.h", "includes"),
    ):
        path.write_text(text.replace(old, new))
        assert lint(root) == [fault]
    path.write_text(text)
    (root / "examples" / "Classify").rename(root / "examples" / "Other")
    assert lint(root) == ["sketch folder and file"]


ARDUINO = r"""
#include <cstdint>
#include <cstdio>
#include <cstdlib>
static struct {
    void begin(long) {}
    void print(const char *text) { std::printf("%s", text); }
    void print(unsigned long n) { std::printf("%lu", n); }
    void print(unsigned int n) { std::printf("%u", n); }
    template <class T> void println(T x) { print(x); std::printf("\n"); }
} Serial;
static int turns;
static void delay(unsigned long) { if (++turns == 2) std::exit(0); }
"""


@pytest.mark.needs("gcc", "g++")
@pytest.mark.parametrize("name", ["digits", "counts", "mask", "load", "loaded once"])
def test_the_sketch_runs(name: str, packages: dict[str, Path], tmp_path: Path) -> None:
    """As the Arduino builder makes it C++, with a board that prints."""
    root = packages["arduino"]
    if name != "digits":
        root = formed(name, "arduino", tmp_path)
    sketch = (root / "examples" / "Classify" / "Classify.ino").read_text()
    end = "\nint main()\n{\n    setup();\n    for (;;) { loop(); }\n}\n"
    (tmp_path / "sketch.cpp").write_text(ARDUINO + sketch + end)
    source = root / "src" / f"{root.name}.c"
    compiles(tmp_path, "gcc", "-Os", "-Wall", "-Wextra", "-Werror", "-c", str(source))
    include = ("-I", str(root / "src"))
    warnings = ("-Wall", "-Wextra", "-Werror")
    made = ("sketch.cpp", f"{root.name}.o", "-o", "sketch")
    compiles(tmp_path, "g++", "-std=c++17", "-Os", *warnings, *include, *made)
    done = run(tmp_path, str(tmp_path / "sketch"))
    assert done.said.count("self-test passed") == 2
    lines = re.findall(r"class (\d+), recorded (\d+)", done.said)
    assert len(lines) == 2
    assert all(decided == recorded for decided, recorded in lines)


@pytest.mark.needs("arm-gcc")
def test_the_library_of_arduino_is_fast_at_os(packages: dict[str, Path], tmp_path: Path) -> None:
    """The pragma in its C file makes the code that -O2 makes."""
    command = ("arm-none-eabi-gcc", "-mcpu=cortex-m0plus", "-mthumb", "-std=gnu11", "-S", "-o")
    source = str(packages["arduino"] / "src" / "digits.c")
    for level in ("-Os", "-O2"):
        compiles(tmp_path, *command, f"{level}.s", level, source)

    def code(name: str) -> list[str]:
        text = (tmp_path / name).read_text()
        body = text[text.index("digits_step:") :]
        return re.findall(
            r"^\t([a-z]\w*)", body[: body.index("\t.size\tdigits_step")], re.MULTILINE
        )

    assert code("-Os.s") == code("-O2.s")


# --- PlatformIO ---


def test_library_json(packages: dict[str, Path]) -> None:
    """The rules of its schema."""
    root = packages["platformio"]
    library = json.loads((root / "library.json").read_text())
    name, version = library["name"], library["version"]
    assert re.fullmatch(r"[\w-]{1,50}", name)
    assert re.fullmatch(SEMVER, version)
    assert len(version) <= 20
    assert len(library["description"]) <= 255
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]{0,38}[a-z0-9]", w) for w in library["keywords"])
    assert (root / "include" / library["headers"]).is_file()
    assert library["build"] == {"flags": ["-O2"], "unflags": ["-Os"]}
    assert "license" not in library, "it would be looked up on the network"
    (example,) = library["examples"]
    for file in example["files"]:
        assert (root / example["base"] / file).is_file()
    ini = (root / "examples" / "classify" / "platformio.ini").read_text()
    assert "DIGITS_ENABLE_SELFTEST" in ini
    link = re.search(r"symlink://(\S+)", ini)
    assert link is not None
    assert (root / "examples" / "classify" / link[1]).resolve() == root.resolve()


@pytest.mark.needs("platformio")
def test_platformio_packs_it(
    packages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORMIO_CORE_DIR", str(tmp_path / "core"))
    monkeypatch.setenv("PLATFORMIO_SETTING_ENABLE_TELEMETRY", "No")
    pio = (sys.executable, "-m", "platformio", "pkg", "pack")
    done = run(packages["platformio"], *pio, "-o", str(tmp_path))
    assert done.code == 0, done.said
    (made,) = tmp_path.glob("digits-*.tar.gz")
    listed = run(tmp_path, "tar", "-tzf", made.name).said.split()
    assert {"library.json", "include/digits.h", "src/digits_data.h", "src/digits.c"} <= set(listed)


# --- what all have in common ---


def test_every_file_is_ascii_without_dates_and_paths(packages: dict[str, Path]) -> None:
    for root in packages.values():
        for path in (p for p in root.rglob("*") if p.is_file()):
            text = path.read_text(encoding="ascii")
            assert text.endswith("\n"), path
            assert not re.search(r"20\d\d-\d|/home|/tmp|/root", text), path
            assert "  \n" not in text.replace("\r", ""), path
            if path.suffix in (".c", ".ino", ".txt", ".yml", ".properties"):
                assert max(map(len, text.splitlines())) <= 121, path


def test_the_input_that_is_shown_is_what_a_step_takes(tmp_path: Path) -> None:
    graph = RARE["delayed"]()
    root = packed(graph, "arduino", tmp_path)
    text = (root / "README.md").read_text()
    assert "delayed_step(&state, events, values, count);" in text
    data = events(graph)[0]
    header = (root / "src" / "delayed_selftest.h").read_text()
    most = int(np.count_nonzero(data.reshape(len(data), -1), axis=1).max())
    assert f"DELAYED_SAMPLE_EVENTS  {most}u" in header
