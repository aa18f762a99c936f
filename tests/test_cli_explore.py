"""``qspinn explore`` as people and CI jobs meet it: whole answers, whoever computes them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from cli_runs import Run
from qspinn.cli import main
from qspinn.errors import QspinnError
from qspinn.explore.files import read
from qspinn.explore.runners import Dask
from tree import ROOT

DIGITS = ROOT / "examples" / "digits" / "digits.nir"
DATA = ROOT / "examples" / "digits" / "digits.npz"
COMMON = ("--target", "mcu", "--data", DATA, "--max-drop", "2%")
GRID = (
    "--strategy", "q-spinn", "--try", "weight=8,4,2", "--try", "membrane=16,8,6",
    "--try", "weight:rounding=nearest_even,floor", "--try", "bias=", "--try", "decay=12,leak",
    "--try", "scale=error,max,percentile", "--try", "threshold=", "--try", "input=all,0.99",
)  # fmt: skip
"""216 candidates: several batches, so that one can be interrupted between two."""
SMALL = (
    "--try", "weight=8,4,2", "--try", "membrane=16,6", "--try", "weight:rounding=nearest_even",
    "--try", "scale=", "--try", "decay=", "--try", "threshold=", "--try", "bias=", "--try",
    "input=all",
)  # fmt: skip
"""36 candidates, which the guided strategy enumerates."""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled loops may be shared with other runs, outcomes may not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QSPINN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def explore(folder: Path, *options: object) -> list[str]:
    return ["explore", str(DIGITS), *map(str, COMMON), "-o", str(folder), *map(str, options)]


def contents(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: None) -> Path:
    """What an uninterrupted exploration of the grid leaves behind."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    with pytest.raises(SystemExit) as caught:
        main(explore(folder, *GRID))
    assert not caught.value.code
    return folder


def test_the_winner_keeps_to_its_limits(qspinn: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    code, out, err = qspinn(*explore(folder, *SMALL, "--json"))
    assert code == 0
    found = read(folder)
    winner = found.winner
    assert winner is not None
    assert winner.bound is not None
    assert winner.bound <= 0.02
    assert winner.memory is not None
    smaller = [e for e in found.entries if e.complete and e.memory and e.bound is not None
               and e.memory.network < winner.memory.network]  # fmt: skip
    assert smaller
    assert all(e.bound > 0.02 for e in smaller if e.bound is not None)
    assert found.report is not None
    assert found.report.accuracy.count == 497
    assert found.complete
    assert json.loads(out)["selected"] == winner.digest
    assert str(winner.memory.network) in err
    names = {p.name for p in folder.iterdir()}
    assert {"front.json", "candidates.csv", "significance.csv", "attribution.csv", "plan.txt",
            "front.svg", "bits.png", "significance.svg"} <= names  # fmt: skip


def test_its_plan_compiles_to_the_memory_it_promised(qspinn: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert qspinn(*explore(folder, *SMALL))[0] == 0
    winner = read(folder).winner
    assert winner is not None
    assert winner.memory is not None
    code, out, _ = qspinn(
        "compile", DIGITS, *COMMON, "--plan", folder / "plan.txt", "-o", tmp_path / "c", "--json"
    )
    assert code == 0
    assert json.loads(out)["network_bytes"] == winner.memory.network
    assert json.loads(out)["regions"] == dict(winner.regions)
    code, _, err = qspinn("explain", folder, "fc1.weight")
    assert code == 0
    assert winner.words["fc1.weight"] in err


def test_compile_searches_where_limits_and_data_ask_for_it(qspinn: Run, tmp_path: Path) -> None:
    code, out, _ = qspinn("compile", DIGITS, *COMMON, *SMALL, "-o", tmp_path / "c", "--json")
    assert code == 0
    found = read(tmp_path / "c")
    assert found.winner is not None
    assert found.winner.memory is not None
    assert json.loads(out)["network_bytes"] == found.winner.memory.network
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    assert "explore/front.json" in manifest["files"]
    assert qspinn("validate", tmp_path / "c", "--samples", "4")[0] == 0


def test_a_budget_below_what_is_possible_says_what_stands_in_the_way(
    qspinn: Run, tmp_path: Path
) -> None:
    code, _, err = qspinn(*explore(tmp_path / "out", *SMALL, "--budget", "flash=1KiB,ram=64KiB"))
    assert code == 1
    assert "smallest within the accuracy" in err
    assert "the obstacle: flash" in err
    assert "hint: " in err
    found = read(tmp_path / "out")
    assert found.selected == ""
    assert found.front
    assert found.report is None  # nothing was selected, so the part stays shut
    assert not (tmp_path / "out" / "plan.txt").exists()


def test_a_search_without_data_or_with_nonsense_is_refused(qspinn: Run, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out")
    misspelt = tmp_path / "plan.txt"
    misspelt.write_text("fc9.weight s4f0 nearest_even saturate free\n")
    for options, message in (
        (("--target", "mcu"), "judged on data"),
        ((*COMMON, "--try", "weight=9"), "cannot be '9'"),
        ((*COMMON, "--try", "weight"), "says nothing to try"),
        ((*COMMON, "--scheme", "ptq,qat"), "no package provides"),
        ((*COMMON, "--scheme", "ptq,itq"), "give --train-data"),
        ((*COMMON, "--scheme", "itq"), "write ptq first"),
        ((*COMMON, "--objective", "beauty"), "no objective 'beauty'"),
        ((*COMMON, "--budget", "rom=1KiB"), "limits 'rom', which the target has not"),
        ((*COMMON, "--confidence", "100%"), "a confidence of 100 %"),
        ((*COMMON, "--max-operations", "inf"), "a limit of inf"),
        ((*COMMON, "--reward", "additive"), "the strategy guided has no reward"),
        ((*COMMON, "--plan", misspelt), "the plan names fc9.weight, which digits has not"),
        ((*COMMON, "--dask", "tcp://127.0.0.1:9", "--accelerator", "cuda"), "exclude each other"),
    ):
        code, _, err = qspinn("explore", DIGITS, *options, *out)
        assert (code, message in err) == (2, True), (options, err)
    assert list(tmp_path.iterdir()) == [misspelt]


def test_a_cache_that_cannot_be_written_is_named(
    qspinn: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("QSPINN_CACHE", str(file))
    for options in ((), ("--resume",)):
        code, _, err = qspinn(*explore(tmp_path / "out", *SMALL, *options))
        assert code == 2
        assert "the cache cannot be" in err
        assert "QSPINN_CACHE names another folder" in err
    assert not (tmp_path / "out").exists()


def test_stopped_before_anything_is_known_it_leaves_what_was_there(
    qspinn: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert qspinn(*explore(tmp_path / "out", *SMALL))[0] == 0
    before = contents(tmp_path / "out")
    monkeypatch.setattr("qspinn.cli.search.stoppable", lambda: nullcontext(lambda: True))
    for options in (SMALL, ()):  # enumerated; screened first
        code, _, err = qspinn(*explore(tmp_path / "out", *options))
        assert code == 2
        assert "aborted" in err
        assert contents(tmp_path / "out") == before
    compiling = qspinn("compile", DIGITS, *COMMON, *SMALL, "-o", tmp_path / "compiled")
    assert compiling.code == 2
    assert "aborted" in compiling.err
    assert not (tmp_path / "compiled").exists()


def test_a_plan_that_no_candidate_can_keep_to_says_why(qspinn: Run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.txt"
    plan.write_text("input.active 70-80\n")
    code, _, err = qspinn(*explore(tmp_path / "out", *SMALL[:-2], "--plan", plan))
    assert code == 1
    assert "candidates are refused; the finest: input.active: keeps inputs up to 80" in err


def test_a_reward_does_not_outweigh_a_limit(qspinn: Run, tmp_path: Path) -> None:
    for more, found in (((), 0), (("--max-operations", "10"), 1)):
        code, _, err = qspinn(
            *explore(tmp_path / "out", *SMALL, "--strategy", "q-spinn", "--reward", "additive"),
            *more,
        )
        assert code == found
        assert ("the obstacle: operations" in err) == bool(found)


def test_the_same_question_gives_the_same_bytes(whole: Path, qspinn: Run, tmp_path: Path) -> None:
    assert qspinn(*explore(tmp_path / "out", *GRID, "--workers", "1"))[0] == 0
    assert contents(tmp_path / "out") == contents(whole)


def started(folder: Path, cache: Path, *options: object) -> subprocess.Popen[bytes]:
    if not cache.exists():  # compiled loops may come along
        ignored = shutil.ignore_patterns("explore")
        shutil.copytree(os.environ["QSPINN_CACHE"], cache, ignore=ignored)
    environment = {**os.environ, "QSPINN_CACHE": str(cache)}
    start = "from qspinn.cli import main; main()"
    arguments = explore(folder, *GRID, "--workers", "1", *options)
    return subprocess.Popen(
        [sys.executable, "-c", start, *arguments], env=environment, stderr=subprocess.PIPE
    )


def rows(cache: Path) -> int:
    """Outcomes kept so far."""
    for file in cache.glob("explore/*.sqlite"):
        try:
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as base:
                return int(base.execute("SELECT COUNT(*) FROM outcome").fetchone()[0])
        except sqlite3.Error:
            return 0
    return 0


def stopped(run: subprocess.Popen[bytes], cache: Path, how: signal.Signals) -> int:
    """Send a signal once some outcomes are kept; how many there are afterwards."""
    for _ in range(3000):
        if rows(cache) > 64 or run.poll() is not None:
            break
        time.sleep(0.005)
    assert run.poll() is None, "it ended before it could be stopped"
    run.send_signal(how)
    return rows(cache)


def test_a_killed_run_goes_on_where_it_was(whole: Path, tmp_path: Path) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "out"
    run = started(folder, cache)
    kept = stopped(run, cache, signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    assert not folder.exists()
    assert kept > 64
    again = started(folder, cache, "--resume")
    _, err = again.communicate()
    assert again.returncode == 0, err
    assert contents(folder) == contents(whole)


def test_an_interrupt_leaves_a_usable_result(whole: Path, tmp_path: Path) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "out"
    run = started(folder, cache, "--try", "fc1.weight=8,7,6,5,4,3,2")
    stopped(run, cache, signal.SIGINT)
    _, err = run.communicate()
    assert run.returncode in (0, 1), err
    assert b"Stopping after this batch" in err
    found = read(folder)
    assert not found.complete
    early = {e.digest: e.accuracy for e in found.entries if e.complete}
    assert 0 < len(early) < 252
    measured = {e.digest: e.accuracy for e in read(whole).entries}
    common = early.keys() & measured.keys()
    assert common
    assert all(early[digest] == measured[digest] for digest in common)


@pytest.mark.needs("dask")
def test_two_workers_of_a_cluster_give_the_same_bytes(
    whole: Path, qspinn: Run, tmp_path: Path
) -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        options: tuple[Any, ...] = ("--dask", cluster.scheduler_address)
        code, _, err = qspinn(*explore(tmp_path / "out", *GRID, *options))
    assert code == 0, err
    assert contents(tmp_path / "out") == contents(whole)


@pytest.mark.needs("dask")
def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(QspinnError, match="no Dask scheduler") as caught:
        Dask.at("tcp://127.0.0.1:9", timeout=0.5)
    assert caught.value.at == "tcp://127.0.0.1:9"
