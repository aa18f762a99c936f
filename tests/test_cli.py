"""The command line as a person or a CI job meets it: exit codes, streams, files left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from cli_runs import Result, Run
from qspinn.cli import main
from qspinn.errors import ToolchainError
from qspinn.storage import load

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits" / "digits.nir"
DATA = ROOT / "examples" / "digits" / "digits.npz"


def network(path: Path, *, weight: np.ndarray | None = None, fc: str = "fc") -> Path:
    """A small net without any dialect's signature and without metadata."""
    w = np.eye(3, dtype=np.float32) if weight is None else weight
    ones = np.ones(len(w))
    lif = nir.LIF(tau=0.02 * ones, r=ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones)
    graph = nir.NIRGraph(
        nodes={"in": nir.Input({"input": np.array([3])}), fc: nir.Linear(w), "lif": lif,
               "out": nir.Output({"output": np.array([len(w)])})},
        edges=[("in", fc), (fc, "lif"), ("lif", "out")], type_check=False,
    )  # fmt: skip
    nir.write(path, graph)
    return path


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "digits"
    with pytest.raises(SystemExit) as caught:
        main(["compile", str(DIGITS), "--target", "mcu", "--data", str(DATA), "-o", str(folder)])
    assert caught.value.code == 0
    return folder


def test_compile_writes_everything_and_keeps_stdout_clean(qspinn: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = qspinn("compile", DIGITS, "--target", "mcu", "--data", DATA, "-o", folder)
    assert (done.code, done.out) == (0, "")
    for word in ("integrator", "fc1.weight", "float32", "difference, paired", "lif1.scale"):
        assert word in done.err, word
    names = {p.name for p in folder.iterdir()}
    assert {"digits.h", "digits.c", "digits_impl.h", "digits_data.h", "plan.txt", "graph.qspinn",
            "manifest.json"} <= names  # fmt: skip
    again = tmp_path / "again"
    assert qspinn("compile", DIGITS, "--target", "mcu", "--data", DATA, "-o", again).code == 0
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_json_says_what_the_tables_say(qspinn: Run, tmp_path: Path) -> None:
    done = qspinn("compile", DIGITS, "--target", "mcu", "--data", DATA, "-o", tmp_path / "o",
                  "--json")  # fmt: skip
    facts = json.loads(done.out)
    assert facts["accuracy"]["integer"]["value"] > 0.95
    assert facts["network_bytes"] * 3 < facts["float32_bytes"]


def test_the_plan_that_was_written_gives_the_same_bytes(
    qspinn: Run, artifact: Path, tmp_path: Path
) -> None:
    done = qspinn("compile", DIGITS, "--target", "mcu", "--data", DATA, "-o", tmp_path / "o",
                  "--plan", artifact / "plan.txt")  # fmt: skip
    assert done.code == 0
    assert (tmp_path / "o" / "digits_data.h").read_bytes() == (
        artifact / "digits_data.h"
    ).read_bytes()


@pytest.mark.needs("gcc")
def test_validate_and_check(qspinn: Run, artifact: Path, tmp_path: Path) -> None:
    assert qspinn("validate", artifact, "--samples", 3).code == 0
    done = qspinn("validate", artifact, "--samples", 3, "--data", DATA, "--json")
    (verdict,) = json.loads(done.out)
    assert verdict["mismatch"] is None
    assert verdict["values"] == 3 * 24 * (64 + 10 + 10)
    junit = tmp_path / "junit.xml"
    passed = qspinn("check", artifact, "--budget", "ram=64KiB,flash=64KiB", "--junit", junit)
    assert passed.code == 0
    assert ET.parse(junit).getroot()[0].get("failures") == "0"
    failed = qspinn("check", artifact, "--budget", "ram=16", "--junit", junit, "--json")
    assert failed.code == 1
    suite = ET.parse(junit).getroot()[0]
    assert suite.get("failures") == "1"
    assert json.loads(failed.out)["passed"] is False
    assert "state" in failed.err
    assert "FAIL" in failed.err


@pytest.mark.needs("gcc", "zig", "unicorn")
def test_check_measures_the_code(qspinn: Run, artifact: Path) -> None:
    """Its compiler says what the code takes; the budget goes by that."""
    done = qspinn("check", artifact, "--budget", "flash=64KiB", "--json")
    assert done.code == 0
    code, *checks = json.loads(done.out)["checks"]
    flash = next(check for check in checks if check["name"] == "flash")
    assert (code["group"], code["passed"], flash["name"]) == ("code", True, "flash")
    took, estimate = int(code["measured"].split()[0]), int(code["limit"].split()[1])
    assert abs(estimate / took - 1) < 0.2
    rest = int(flash["measured"].split()[0]) - took
    tight = qspinn("check", artifact, "--budget", f"flash={rest + took}", "--json")
    assert tight.code == 0
    assert qspinn("check", artifact, "--budget", f"flash={rest + took - 1}").code == 1


@pytest.mark.needs("gcc")
def test_a_changed_artifact_is_noticed(qspinn: Run, artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(artifact), str(copy)], check=True)
    header = copy / "digits_data.h"
    header.write_text(header.read_text() + "\n")
    done = qspinn("validate", copy)
    assert done.code == 2
    assert "digits_data.h" in done.err


def test_a_budget_that_is_too_small_refuses_and_leaves_nothing(qspinn: Run, tmp_path: Path) -> None:
    done = qspinn("compile", DIGITS, "--target", "mcu", "-o", tmp_path / "o", "--budget", "ram=64")
    assert done.code == 1
    assert "digits does not fit the budget" in done.err
    assert "the limit is 64 B" in done.err
    assert "hint: " in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_drop_beyond_the_limit_refuses(qspinn: Run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.txt"
    plan.write_text("fc1.weight s2f-6 floor saturate\nfc2.weight s2f-6 floor saturate\n")
    done = qspinn("compile", DIGITS, "--target", "mcu", "--data", DATA, "--plan", plan,
                  "--max-drop", "1%", "-o", tmp_path / "o")  # fmt: skip
    assert done.code == 1
    assert "accuracy drops by" in done.err
    assert not (tmp_path / "o").exists()


def test_inspect_says_what_was_assumed_and_what_targets_say(qspinn: Run) -> None:
    done = qspinn("inspect", DIGITS)
    assert done.code == 0
    assert done.out.startswith("graph digits")
    assert "mcu: can compile it" in done.err
    assert "loihi: can compile it" in done.err
    facts = json.loads(qspinn("inspect", DIGITS, "--json").out)
    assert {a["subject"] for a in facts["assumptions"]} >= {"dt", "reset"}


def test_targets_and_doctor(qspinn: Run) -> None:
    done = qspinn("targets")
    assert done.code == 0
    assert "stm32c011" in done.err
    assert "loihi2" in done.err
    assert json.loads(qspinn("targets", "mcu", "--json").out)["mcu"]["executors"][0] == "host"
    doctor = qspinn("doctor", "--json")
    assert doctor.code == 0
    assert {tool["name"] for tool in json.loads(doctor.out)} >= {"C compiler", "lava"}


BAD = {
    "truncated": lambda p: p.write_bytes(DIGITS.read_bytes()[:3000]),
    "no-hdf5": lambda p: p.write_text("hello"),
    "empty": lambda p: p.write_bytes(b""),
    "nan": lambda p: network(p, weight=np.full((3, 3), np.nan, np.float32)),
    "infinite": lambda p: network(p, weight=np.full((3, 3), np.inf, np.float32)),
    "shapes": lambda p: network(p, weight=np.ones((3, 5), np.float32)),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_models_get_one_clear_error(qspinn: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.nir"
    BAD[kind](path)
    done = qspinn("compile", path, "--target", "mcu", "--dt", "1e-3", "-o", tmp_path / "o")
    refused(done, tmp_path)


def refused(done: Result, folder: Path) -> None:
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("error: ") == 1
    assert "Traceback" not in done.err
    assert [p.name for p in folder.iterdir() if p.suffix != ".nir"] == [], "nothing left behind"


def test_an_unknown_node_is_named(qspinn: Run, tmp_path: Path) -> None:
    path = network(tmp_path / "bad.nir")
    with h5py.File(path, "r+") as file:
        node = file["node/nodes/lif"]
        del node["type"]
        node["type"] = "HodgkinHuxley"
    done = qspinn("compile", path, "--target", "mcu", "--dt", "1e-3", "-o", tmp_path / "o")
    refused(done, tmp_path)
    assert "HodgkinHuxley" in done.err
    assert "lif" in done.err


def test_a_missing_dt_is_asked_for(qspinn: Run, tmp_path: Path) -> None:
    path = network(tmp_path / "net.nir")
    with h5py.File(path, "r+") as file:  # a gain that is no dialect's signature
        file["node/nodes/lif/r"][...] = [0.3, 0.7, 1.9]
    done = qspinn("compile", path, "--target", "mcu", "-o", tmp_path / "o")
    refused(done, tmp_path)
    assert "dt is needed" in done.err
    assert "hint: give dt (--dt)" in done.err


def test_hints_name_the_options_of_the_command_line(qspinn: Run, tmp_path: Path) -> None:
    path = network(tmp_path / "net.nir")
    slow = qspinn("inspect", path, "--dt", "0.5", "--integrator", "euler").unwrapped()
    assert (slow.code, "(--integrator exact)" in slow.err) == (2, True), slow.err
    graded = qspinn("inspect", DIGITS, "--readout", "membrane_last").unwrapped()
    assert graded.code == 2
    assert "hint: readouts (--readout) that do: count, first_spike" in graded.err
    form = qspinn("compile", DIGITS, "--target", "mcu", "--input", "values", "-o", tmp_path / "o")
    assert form.code == 2
    assert "choose events or mask (--input, or option input in a plan)" in form.unwrapped().err


def test_a_name_with_quotes_or_newlines_is_refused(qspinn: Run, tmp_path: Path) -> None:
    path = network(tmp_path / "n.nir", fc='a "b"\n}; int x; {')
    args = ("--target", "mcu", "--dt", "1e-3", "-o", tmp_path / "o")
    done = qspinn("compile", path, *args)
    refused(done, tmp_path)
    assert "quotes" in done.err
    plain = network(tmp_path / "plain.nir")
    refused(qspinn("compile", plain, *args, "--name", 'say "hi"\n#include <evil.h>'), tmp_path)


def test_other_bad_input(qspinn: Run, tmp_path: Path) -> None:
    out = tmp_path / "o"
    cases = {
        "unknown device": ("compile", DIGITS, "--target", "mcu", "--device", "z80", "-o", out),
        "unknown target": ("compile", DIGITS, "--target", "abacus", "-o", out),
        "missing model": ("compile", tmp_path / "none.nir", "--target", "mcu", "-o", out),
        "missing option": ("compile", DIGITS, "--target", "mcu"),
        "bad budget": ("compile", DIGITS, "--target", "mcu", "-o", out, "--budget", "ram=big"),
        "no artifact": ("validate", tmp_path),
        "unknown command": ("transmogrify",),
        "huge seed": ("compile", DIGITS, "--target", "mcu", "-o", out, "--seed", 10**20),
        "bad region": ("compile", DIGITS, "--target", "mcu", "-o", out, "--budget", "rma=1"),
        "long name": ("compile", DIGITS, "--target", "mcu", "-o", tmp_path / ("x" * 300)),
        "missing data": ("compile", DIGITS, "--target", "mcu", "-o", out, "--data", "none.npz"),
    }
    for what, args in cases.items():
        done = qspinn(*args)
        assert done.code == 2, what
        assert "Traceback" not in done.err, what
        assert "rror" in done.err, what
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tool_leaves_the_other_verdicts(
    qspinn: Run, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*args: object) -> None:
        raise ToolchainError("no C compiler was found", hint="install one")

    monkeypatch.setattr("qspinn.cli.check.run_executor", absent)
    junit = tmp_path / "junit.xml"
    done = qspinn("check", artifact, "--budget", "ram=16", "--junit", junit, "--json")
    assert done.code == 3
    assert "hint: install one" in done.err
    suite = ET.parse(junit).getroot()[0]
    assert (suite.get("failures"), suite.get("errors")) == ("1", "1")
    assert json.loads(done.out)["passed"] is False


def test_an_unwritable_folder(qspinn: Run, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    done = qspinn("compile", DIGITS, "--target", "mcu", "-o", blocker / "o")
    assert done.code == 2
    assert "cannot be written" in done.err
    assert os.listdir(tmp_path) == ["file"]


def test_as_a_program_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qspinn.cli", "targets", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) >= {"mcu", "loihi"}


# --- what formats leave open ---


def test_what_the_input_carries(qspinn: Run, tmp_path: Path) -> None:
    path = network(tmp_path / "net.nir")
    common = ("inspect", path, "--dt", "1e-3", "--dialect", "nir")
    for options, told in (
        ((), "spikes, shape"), (("--input-kind", "spike"), "spikes, shape"),
        (("--input-kind", "count"), "counts of up to 255"),
        (("--input-kind", "count", "--input-high", 7), "counts of up to 7"),
        (("--input-kind", "current"), "currents, shape"),
    ):  # fmt: skip
        done = qspinn(*common, *options, "--json")
        assert done.code == 0, done.err
        facts = json.loads(done.out)
        (said,) = [a for a in facts["assumptions"] if told in a["value"]]
        assert said["source"] == ("given" if options else "default")
    done = qspinn(*common, "--input-high", 7).unwrapped()
    assert done.code == 2
    assert "input_high is 7, but the input is a spike" in done.err
    assert qspinn(*common, "--input-kind", "graded").code == 2
    assert qspinn(*common, "--input-kind", "count", "--input-high", 0).code == 2


def test_data_must_bring_what_the_input_is_declared_to_carry(qspinn: Run, tmp_path: Path) -> None:
    path, data = network(tmp_path / "net.nir"), tmp_path / "counts.npz"
    np.savez(data, x=np.arange(600, dtype=np.uint8).reshape(20, 10, 3) % 6)
    common = ("--dt", "1e-3", "--dialect", "nir", "--data", data, "--encode", "none")
    for kind, high, declared in (
        ("count", 3, "counts of up to 3"), ("spike", None, "spikes of 0 and 1"),
        ("current", None, "values that enter directly"),
    ):  # fmt: skip
        more = () if high is None else ("--input-high", high)
        done = qspinn("inspect", path, *common, "--input-kind", kind, *more).unwrapped()
        assert done.code == 2
        assert f"is declared to carry {declared}, and data and encoder bring counts of up to 7" in (
            done.err
        )
    folder = tmp_path / "out"
    done = qspinn("compile", path, *common, "--input-kind", "count", "--input-high", 31,
                  "--target", "mcu", "-o", folder)  # fmt: skip
    assert done.code == 0, done.err
    assert load(folder / "graph.qspinn").input.high == 31
    done = qspinn("compile", path, *common, "--target", "mcu", "-o", tmp_path / "seen")
    assert load(tmp_path / "seen" / "graph.qspinn").input.high == 7


def test_options_that_are_wrong(qspinn: Run, tmp_path: Path) -> None:
    """A format that does not know one says which it takes."""
    path = network(tmp_path / "net.nir")
    for text, words in (
        ("seed=3", "seed cannot be chosen for the format nir"), ("seed", "'seed' is no option"),
        ("seed=3", "it takes dt"), ("=3", "'=3' is no option"), ("a b=3", "'a b=3' is no option"),
        ("reset=zero", "write --reset"), ("input-kind=spike", "write --input-kind"),
        ("name=x", "write --name"), ("path=x", "the file is MODEL"),
    ):  # fmt: skip
        done = qspinn("inspect", path, "--dt", "1e-3", "--option", text).unwrapped()
        assert done.code == 2, text
        assert words in done.err, text
    done = qspinn("inspect", path, "--option", "a=1", "--option", "a=2").unwrapped()
    assert "a is given twice" in done.err


def test_a_budget_leaves_the_limits_it_does_not_name(qspinn: Run, tmp_path: Path) -> None:
    """flash=0 of a device: what --budget ram=... said nothing about still holds."""
    described = tmp_path / "devices.toml"
    described.write_text('[mcu.tiny]\ncore = "cortex-m0plus"\n'
                         'regions = { ram = "6 KiB", flash = "1 KiB" }\n')  # fmt: skip
    out, budget = tmp_path / "o", ("--budget", "ram=6KiB")
    device = ("--target", "mcu", "--device", "tiny", "--device-file", described)
    done = qspinn("compile", DIGITS, *device, *budget, "-o", out)
    assert done.code == 1
    assert "digits does not fit the budget on tiny" in done.err
    assert "flash: needs" in done.err
    lifted = qspinn("compile", DIGITS, *device, "--budget", "flash=64KiB", "-o", out)
    assert lifted.code == 0, lifted.err
    checked = qspinn("check", out, *budget, "--json")
    assert checked.code == 1
    assert [c["name"] for c in json.loads(checked.out)["checks"] if not c["passed"]] == ["flash"]


@pytest.mark.parametrize(("text", "hint"), [("1", "say 1% or 0.01"), ("2.5", "say 2.5% or 0.025")])
def test_a_bare_number_is_no_percentage(qspinn: Run, tmp_path: Path, text: str, hint: str) -> None:
    for option in ("--max-drop", "--eps", "--confidence"):
        done = qspinn("explore", DIGITS, "--target", "mcu", "--data", DATA, option, text, "-o",
                      tmp_path / "o")  # fmt: skip
        assert done.code == 2, option
        assert f"hint: {hint}" in done.err, option


@pytest.mark.parametrize("first", [1, -1])
def test_labels_that_are_no_classes_are_refused(qspinn: Run, tmp_path: Path, first: int) -> None:
    digits = np.load(DATA)
    np.savez(tmp_path / "d.npz", x=digits["x"], y=digits["y"].astype(np.int64) + first)
    for command in (
        ("inspect", DIGITS),
        ("compile", DIGITS, "--target", "mcu", "-o", tmp_path / "o"),
    ):
        done = qspinn(*command, "--data", tmp_path / "d.npz").unwrapped()
        assert done.code == 2
        assert f"d.npz: has labels from {first} to {9 + first}, the network 10 classes" in done.err
        assert "hint: number them from 0 to 9" in done.err


def events(path: Path, last: int) -> Path:
    """Events of twenty samples, half of them at a late step."""
    np.savez(path, t=np.tile([0, last], 20), i=np.tile([3, 5], 20), offsets=np.arange(0, 41, 2),
             y=np.zeros(20, np.int64))  # fmt: skip
    return path


def test_every_command_tells_what_it_cuts(qspinn: Run, tmp_path: Path) -> None:
    data = events(tmp_path / "e.npz", 2299)
    given = ("--data", data, "--encode", "none")
    told = "50 % of the spikes in e.npz lie beyond the last of 24 steps and are cut; --steps 2300"
    out = tmp_path / "o"
    assert told in qspinn("inspect", DIGITS, *given).unwrapped().err
    done = qspinn("compile", DIGITS, "--target", "mcu", *given, "-o", out).unwrapped()
    assert (done.code, told in done.err) == (0, True), done.err
    assert told in qspinn("check", out, "--data", data, "--samples", 1).unwrapped().err
    few = qspinn("inspect", DIGITS, "--data", events(data, 7), "--encode", "none", "--steps", 5)
    assert "beyond the last of 5 steps and are cut; --steps 8" in few.unwrapped().err


def test_data_that_do_not_suit_the_encoder_get_a_remedy(qspinn: Run, tmp_path: Path) -> None:
    data = events(tmp_path / "e.npz", 7)
    done = qspinn("inspect", DIGITS, "--data", data)
    assert (done.code, "e.npz: holds events" in done.err) == (2, True)
    assert "hint: for spikes, say --encode none" in done.err
    np.savez(data, x=np.zeros((20, 1, 64), bool))
    done = qspinn("inspect", DIGITS, "--data", data).unwrapped()
    assert (done.code, "not for spikes of one step (those need --encode none)" in done.err) == (
        0,
        1,
    )
    np.savez(data, x=np.zeros((3, 64)))
    done = qspinn("inspect", DIGITS, "--data", data).unwrapped()
    assert (done.code, "has no sample to calibrate on (split 0)" in done.err) == (2, True)
    assert "0 to calibrate, 1 to select, 2 to report; without it 10 samples or more" in done.err


def test_values_are_said_to_be_taken_as_they_are(qspinn: Run) -> None:
    told = "values taken as they are, 0 to 16 (--gain scales them)"
    assert told not in qspinn("inspect", DIGITS, "--data", DATA).unwrapped().err
    assert told in qspinn("inspect", DIGITS, "--data", DATA, "--gain", "1").unwrapped().err


def test_more_steps_than_memory_holds(qspinn: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done = qspinn("inspect", DIGITS, "--data", DATA, "--steps", "100000000")
    assert (done.code, "100000000 steps, the limit is 1048576" in done.err) == (2, True)
    assert "hint: " in done.err

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("qspinn.cli.inspect.jobs.prepare", full)
    done = qspinn("inspect", DIGITS)
    assert (done.code, done.err.count("error: the memory does not suffice")) == (2, 1)
