"""Devices: the table that is shipped, files of users, and what commands make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from qspinn.backends.mcu import BACKEND
from qspinn.backends.mcu.devices import DEVICES, KNOWN_CORES, REGIONS

from cli_runs import Run
from qspinn import devices
from qspinn.errors import QspinnError
from qspinn.report.tables import kib
from tree import ROOT

DIGITS = ROOT / "examples" / "digits" / "digits.nir"
PART = """
[mcu.probe]
core = "cortex-m0plus"
mhz = 24
regions = { ram = "5 KiB", flash = "30 KiB" }
others = { backup = 128 }
source = "a board of ours"
note = "the second revision"
"""


def parse(text: str) -> dict[str, Any]:
    return dict(devices.parse(text, "mcu", regions=REGIONS, cores=KNOWN_CORES, at="parts.toml"))


@pytest.fixture
def qspinn(qspinn: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    return lambda *args: qspinn(*args).unwrapped()


def test_what_is_asked_for_is_there() -> None:
    assert len(DEVICES) > 30
    wanted = (
        "atmega328p", "atmega2560", "attiny85", "rp2040", "rp2350", "nrf52832", "nrf52840",
        "nrf5340-app", "samd21g18", "esp32c3", "esp32c6", "ch32v003", "ch32v203c8", "mimxrt1062",
        "mkl25z128", "apollo3-blue-plus", "max78000", "alif-e7-he",
    )  # fmt: skip
    assert set(wanted) <= DEVICES.keys()
    for family in ("c0", "f0", "f1", "f4", "f7", "h7", "l4", "u5"):
        assert any(name.startswith(f"stm32{family}") for name in DEVICES), family


def test_every_part_is_described() -> None:
    for name, part in DEVICES.items():
        assert part.name == name
        assert part.core in KNOWN_CORES
        assert tuple(part.regions) == REGIONS
        if name != BACKEND.default_device:
            assert part.source
            assert 1_000_000 <= part.hertz <= 1_000_000_000
            assert part.regions["ram"] < part.regions["flash"]


def test_the_budget_is_the_ram_that_the_state_goes_into() -> None:
    part = DEVICES["stm32h743xi"]
    assert part.regions["ram"] == 128 << 10
    assert part.others["axi-sram"] == 512 << 10


def test_a_file_of_a_user() -> None:
    (part,) = parse(PART).values()
    assert part.name == "probe"
    assert dict(part.regions) == {"ram": 5120, "flash": 30720}
    assert dict(part.others) == {"backup": 128}
    assert part.hertz == 24_000_000
    assert part.checked == ""
    assert (
        devices.from_facts("probe", json.loads(json.dumps(devices.as_facts(part))), REGIONS) == part
    )


def test_tables_of_other_targets_are_theirs() -> None:
    assert list(parse(PART + "[loihi.chip]\nregions = { cores = 4 }\n")) == ["probe"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[mcu.probe", "parts.toml: is no TOML"),
        ("probe = 3", "parts.toml: 'probe' is no table"),
        ("[mcu]\nprobe = 3", "parts.toml: 'mcu' is no table"),
        (PART.replace("mhz", "MHz"), "parts.toml: mcu.probe: there is no key 'MHz'"),
        (PART.replace("cortex-m0plus", "m0"), "parts.toml: mcu.probe.core: no core 'm0'"),
        (PART.replace('ram = "5 KiB", ', ""), "parts.toml: mcu.probe.regions: gives flash"),
        (PART.replace("5 KiB", "5 KB i"), "mcu.probe.regions.ram: is '5 KB i'"),
        (PART.replace("5 KiB", "0 KiB"), "mcu.probe.regions.ram: is '0 KiB'"),
        (PART.replace("24", '"fast"'), "mcu.probe.mhz: is 'fast'"),
        (PART.replace("24", "true"), "mcu.probe.mhz: is True"),
        (PART + "checked = true", "mcu.probe.checked: is True"),
        (PART.replace('"a board of ours"', "7"), "mcu.probe.source: is 7"),
        (PART.replace("regions = {", "regions = 3 #"), "mcu.probe.regions: is no table"),
        (PART.replace("mcu.probe", 'mcu."-"'), "is no name"),
    ],
)  # fmt: skip
def test_what_cannot_be_used(text: str, words: str) -> None:
    with pytest.raises(QspinnError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_targets_shows_them(tmp_path: Path, qspinn: Run) -> None:
    (tmp_path / "parts.toml").write_text(PART)
    code, _, err = qspinn("targets", "mcu", "--device-file", tmp_path / "parts.toml")
    assert code == 0
    assert "probe cortex-m0plus 24 MHz ram 5 KiB, flash 30 KiB a board of ours; not checked" in err
    _, out, _ = qspinn("targets", "mcu", "--device-file", tmp_path / "parts.toml", "--json")
    facts = json.loads(out)["mcu"]["devices"]
    assert facts["probe"]["hertz"] == 24_000_000
    assert facts["rp2040"]["core"] == "cortex-m0plus"


def test_a_missing_file_is_named(tmp_path: Path, qspinn: Run) -> None:
    code, _, err = qspinn("targets", "mcu", "--device-file", tmp_path / "none.toml")
    assert code == 2
    assert "none.toml: cannot be read" in err


def test_compiling_for_a_part_of_ones_own(
    tmp_path: Path, qspinn: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the environment; and the folder knows the part without the file."""
    path = tmp_path / "parts.toml"
    path.write_text(PART)
    monkeypatch.setenv(devices.VARIABLE, str(path))
    words = ("compile", DIGITS, "--target", "mcu", "--device", "probe")
    code, _, err = qspinn(*words, "-o", tmp_path / "out")
    assert code == 0, err
    assert "of 5120" in err
    assert "24 MHz" in err
    monkeypatch.delenv(devices.VARIABLE)
    path.unlink()
    code, _, err = qspinn("check", tmp_path / "out", "--executor", "host")
    assert code == 0, err
    assert "5120" in err
    code, _, err = qspinn(*words, "-o", tmp_path / "more")
    assert code == 2
    assert "--device-file" in err


def test_too_small_a_part_of_ones_own(tmp_path: Path, qspinn: Run) -> None:
    path = tmp_path / "parts.toml"
    path.write_text(PART.replace("30 KiB", "3 KiB"))
    words = ("compile", DIGITS, "--target", "mcu", "--device", "probe")
    code, _, err = qspinn(*words, "--device-file", path, "-o", tmp_path / "out")
    assert code == 1
    assert "does not fit probe" in err
    assert "flash: needs" in err


def test_amounts_of_memory() -> None:
    assert [kib(n) for n in (512, 1024, 6144, 1 << 21, 5632 << 10, 1000)] == [
        "512", "1 KiB", "6 KiB", "2 MiB", "5632 KiB", "1000",
    ]  # fmt: skip
