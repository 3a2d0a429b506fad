"""Files from elsewhere, mutated: each ends in a message or in a correct result.

No traceback, no hang, no memory that runs away, no control character on the terminal, and no file
outside the folder that was named. What `make soak` does 2,000 times, the usual tests do 20 times.
"""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hpcbench.cli.main import main
from hpcbench.cluster import ledger
from hpcbench.records import store
from hpcbench.records.columns import Status
from hpcbench.records.folder import Results
from tests.elsewhere.mutate import mutated
from tests.helpers.builders import PRINTED, record, write_model, write_prefix, write_site

MOST_S = 10.0
MOST_BYTES = 1 << 30

FEW, MANY = 20, 2000

CAMPAIGN = """
name: study
model_repository: models
models:
  - name: tagger
    label: Tagger ONNX
    server: {instance_count: [1, 2], preferred_batch_size: [null, [4, 8]]}
load:
  batch_size: [1, 4, 8, 16]
  concurrency: [4]
measurement: {protocol: grpc, async: true, percentile: 95, measurement_interval_ms: 1000}
exclude:
  - {batch_size: [16], concurrency: [4]}
variants:
  fast: {instance_count: 2, batch_size: 8}
repeats: 3
"""

Words = Sequence[str | Path]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real files of every kind: each kind in a folder of its name."""
    root = tmp_path_factory.mktemp("original")
    results = Results(root / "results")
    results.create()
    rows = [record(n, status=Status.FAILED if n == 3 else Status.OK) for n in range(8)]
    for row in rows:
        store.write_point(results, row)
    store.write_plan(
        results, [{name: getattr(row, name) for name in store.PLAN_SCHEMA.names} for row in rows]
    )
    run = ledger.begin(results, "slurm")
    ledger.add_job(results, run, "a100", "17")
    (root / "merged").mkdir()
    store.write_records(root / "merged" / "all.parquet", rows)
    csv = root / "csv" / "tagger"
    csv.mkdir(parents=True)
    for number, folder in enumerate(sorted(PRINTED.glob("*/*.csv"))[:4]):
        shutil.copy(folder, csv / f"tagger_batch{1 << number}.csv")
    for kind in ("campaign", "site"):
        (root / kind).mkdir()
        write_prefix(root / kind)
        write_model(root / kind / "models")
        write_site(root / kind)
        (root / kind / "campaign.yaml").write_text(CAMPAIGN)
    pool = {"gpus_per_job": 1, "walltime": "2:00:00", "partition": "gpu", "max_jobs": 4}
    pool |= {"memory": "64GiB", "directives": ["--exclusive"], "prologue": ["module load triton"]}
    write_site(root / "site", scheduler="slurm", pools={"a100": pool, "v100": dict(pool)})
    events = root / "events"
    write_model(events / "models", inputs={"x": (-1,)})
    table = pa.table({"x": [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]] * 5})
    pq.write_table(table, events / "events.parquet")
    np.savez(events / "events.npz", x=np.ones((15, 2), dtype=np.float32))
    np.save(events / "events.npy", np.ones((15, 2), dtype=np.float32))
    return root


def _make_input(name: str) -> Callable[[Path], list[Words]]:
    def commands(folder: Path) -> list[Words]:
        words = ["make-input", folder / "models", "tagger", "--pad", "0", "--truncate"]
        words += ["--shape", "x=2", "--from", folder / name, "--out", folder / "input.json"]
        return [words if name != "events.npy" else [*words, "--map", "x=events"]]

    return commands


def _results_commands(folder: Path) -> list[Words]:
    return [
        ("status", folder),
        ("recommend", folder),
        ("compare", folder, folder),
        ("aggregate", folder, "--out", folder / "out.parquet"),
    ]


KINDS: dict[str, tuple[str, Callable[[Path], list[Words]]]] = {
    "results": ("records/*.parquet", _results_commands),
    "plan": ("plan.parquet", _results_commands),
    "ledger": ("jobs.jsonl", lambda folder: [("status", folder)]),
    "merged": ("all.parquet", lambda folder: _results_commands(folder / "all.parquet")[1:3]),
    "csv": ("*/*.csv", lambda folder: [("import-csv", folder, "--results", folder / "new")]),
    "campaign": (
        "campaign.yaml",
        lambda folder: [("plan", folder / "campaign.yaml", "--site", folder / "site.yaml")],
    ),
    "model": (
        "models/*/config.pbtxt",
        lambda folder: [("plan", folder / "campaign.yaml", "--site", folder / "site.yaml")],
    ),
    "site": (
        "site.yaml",
        lambda folder: [("plan", folder / "campaign.yaml", "--site", folder / "site.yaml")],
    ),
    "events": ("events.parquet", _make_input("events.parquet")),
    "npz": ("events.npz", _make_input("events.npz")),
    "npy": ("events.npy", _make_input("events.npy")),
}
SOURCES = {
    "plan": "results",
    "ledger": "results",
    "model": "campaign",
    "npz": "events",
    "npy": "events",
}
"""The kinds that are files beside others of the original."""


def _check(words: Words, seed: int) -> int:
    # Of its own CPU: how long it waits for it is the business of what else runs.
    started = time.process_time()
    done = CliRunner().invoke(main, list(map(str, words)))
    what = f"{words[0]}, seed {seed}: {done.output}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise AssertionError(what) from done.exception
    assert done.exit_code in {0, 1, 2, 3}, what
    assert time.process_time() - started < MOST_S, what
    controls = set(done.output) & set(map(chr, (*range(9), *range(11, 32), 127)))
    assert not controls, what
    if done.exit_code > 1:
        assert done.stderr.strip(), f"{words[0]}, seed {seed}: no message"
    return done.exit_code


def _mutate_all(kind: str, original: Path, tmp_path: Path, count: int) -> dict[int, int]:
    """How many mutations ended with which exit code."""
    pattern, commands = KINDS[kind]
    source = original / SOURCES.get(kind, kind)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (tmp_path / "beside").write_text("untouched")
    codes: dict[int, int] = {}
    for seed in range(count):
        folder = tmp_path / "work"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        paths = sorted(folder.glob(pattern))
        path = paths[seed % len(paths)]
        path.write_bytes(mutated(path.read_bytes(), seed))
        # One command for each mutation, in turn: a folder that one can read, all can.
        several = commands(folder)
        code = _check(several[seed // len(paths) % len(several)], seed)
        codes[code] = codes.get(code, 0) + 1
        assert path.exists(), f"seed {seed}: the damaged file was deleted"
        assert sorted(each.name for each in tmp_path.iterdir()) == ["beside", "work"], seed
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    assert grown < MOST_BYTES, grown
    return codes


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", KINDS)
def test_a_few_mutations_of_each_kind_of_file_end_in_a_message_or_a_result(
    original: Path, tmp_path: Path, kind: str
) -> None:
    codes = _mutate_all(kind, original, tmp_path, FEW)
    assert codes.get(0, 0) + codes.get(1, 0) + codes.get(2, 0) > 0


@pytest.mark.soak
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_mutations_do_so_as_well(original: Path, tmp_path: Path, kind: str) -> None:
    codes = _mutate_all(kind, original, tmp_path, MANY)
    assert sum(codes.values()) == MANY


def test_the_original_files_are_read(original: Path, tmp_path: Path) -> None:
    """Else every mutation would end in the same message, and nothing would be tried."""
    for kind, (_, commands) in KINDS.items():
        folder = tmp_path / kind
        shutil.copytree(original / SOURCES.get(kind, kind), folder)
        for words in commands(folder):
            done = CliRunner().invoke(main, list(map(str, words)))
            assert done.exit_code in {0, 1}, f"{kind}: {done.output}"
