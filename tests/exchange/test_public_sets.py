"""The comparison with public sets finds each cell that arrived, and each that did not."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbench import load_results
from hpcbench.exchange.import_table import import_table
from tests import public_sets
from tests.public_sets import WITH_UNITS, Count, PublicSet, compare

PERF = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
    "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,"
    "p90 latency,p95 latency,p99 latency\n"
    "4,448.667,140,1719,2136,1499,12165,54,1,15721,24389,30269,32029\n"
    "22,5.33333,221,0,3203741,55,719501,52,2,4053467,4064347,4064371,4064371\n"
)
"""A row of BERT on a T4 with batches of 2, and one on CPUs that was measured too shortly."""

README = """
#### Offline: NVIDIA A30, ONNX Runtime with FP16

| Parameter Name | Parameter Value |
|:---|:---|
| GPU | NVIDIA A30 |
| Max batch size | 16 |
| Number of model instances | 1 |

| Batch | Concurrency | Inferences/Second | Client Send (ms) | p99 latency (ms) | avg latency (ms) |
|---:|---:|---:|---:|---:|---:|
| 1 | 1 | 102.0 | 0.0 | 9.8 | 9.7 |
"""

GKE = "deploy/gke-marketplace-app/benchmark/perf/perf_bert.csv"


def published(folder: Path, files: dict[str, str]) -> tuple[str, str]:
    """A bare repository that had these files once, and the commit that took them away."""

    def git(*words: str) -> str:
        name = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        ran = subprocess.run(
            ["git", "-C", str(folder), *name, *words], check=True, text=True, capture_output=True
        )
        return ran.stdout.strip()

    folder.mkdir()
    git("init", "--quiet")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git("add", ".")
    git("commit", "--quiet", "--message=add")
    git("rm", "--quiet", "-r", ".")
    git("commit", "--quiet", "--message=remove")
    return str(folder / ".git"), git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    files = {GKE: PERF, "a/triton/bert/README.md": README, "a/triton/none/README.md": "# Nothing\n"}
    return published(tmp_path_factory.mktemp("published") / "repository", files)


def of_kind(compare: object, commit: str) -> PublicSet:
    (found,) = (each for each in public_sets.SETS if each.compare is compare)
    return replace(found, commit=f"{commit}~1")


def test_cells_of_a_former_commit_arrive_and_rows_that_cannot_be_true_are_counted(
    repository: tuple[str, str], tmp_path: Path
) -> None:
    place, commit = repository
    count = compare(of_kind(public_sets.compare_gke, commit), place, tmp_path)
    # Of each row thirteen numbers, and the model in the name of the file.
    assert (count.files, count.records, count.cells) == (1, 2, 28)
    assert (count.wrong, count.lost, count.faults) == (0, 0, [])
    assert (count.impossible, dict(count.rules)) == (1, {"LITTLE": 1})


def test_tables_of_readmes_arrive_and_one_without_is_refused_by_name(
    repository: tuple[str, str], tmp_path: Path
) -> None:
    place, commit = repository
    count = compare(of_kind(public_sets.compare_readmes, commit), place, tmp_path)
    assert (count.files, count.records) == (2, 1)
    assert (count.wrong, count.lost, count.faults) == (0, 0, [])
    # Six numbers, the heading, and three facts of the table above.
    assert count.cells == 10
    (refused,) = count.refused
    assert refused.startswith("a/triton/none: README.md: no table has a throughput")


@pytest.mark.parametrize(
    ("changed", "wrong", "lost"),
    [
        ({}, 0, 0),
        ({"| 9.8 |": "| 9.9 |"}, 1, 0),
        ({"| 1 | 1 | 102.0": "| 2 | 1 | 102.0"}, 1, 10),
        ({"Client Send (ms)": "Client Dispatch (ms)"}, 0, 1),
    ],
)
def test_a_cell_that_is_wrong_or_lost_is_counted_and_named(
    tmp_path: Path, changed: dict[str, str], wrong: int, lost: int
) -> None:
    """What was imported stays, and the file that it is compared with says something else."""
    path = tmp_path / "bert" / "README.md"
    path.parent.mkdir()
    path.write_text(README)
    (reading,) = WITH_UNITS
    import_table(path, tmp_path / "results", public_sets.publication(path, reading))
    text = README
    for old, new in changed.items():
        text = text.replace(old, new)
    count = Count()
    rows = list(public_sets.readme_rows(text, reading, ()))
    count.add(load_results(tmp_path / "results"), rows, "bert")
    assert (count.wrong, count.lost) == (wrong, lost)
    assert len(count.faults) == (0 if not wrong + lost else 2 if lost > 1 else 1)
