"""Figures as files."""

from pathlib import Path

import pandas as pd
import pytest

from hpcbench.analysis.figures.save import save_figures
from hpcbench.analysis.summary import series
from hpcbench.analysis.summary.figure_tables import split_into_figures
from hpcbench.analysis.summary.points import summarise
from hpcbench.analysis.summary.varying_axes import BATCH_SIZE
from hpcbench.errors import BadInput
from tests.helpers.builders_scan import BATCHES, Load, record, scan, through_parquet


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return lambda records: through_parquet(records, tmp_path / "results")


def test_each_figure_is_written_as_png_pdf_and_csv(load, tmp_path):
    """The CSV holds the numbers drawn, also of points that failed."""
    records = [*scan(repeats=2), record(batch=256, status="failed")]
    out = tmp_path / "new" / "out"
    written = save_figures(load(records), out, names=["throughput_latency_vs_batch"]).files
    assert [path.name for path in written] == [
        f"throughput_latency_vs_batch.{suffix}" for suffix in ("png", "pdf", "csv")
    ]
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert written[1].read_bytes().startswith(b"%PDF")
    numbers = pd.read_csv(written[2]).set_index("batch_size")
    assert numbers["status"].to_dict() == {**dict.fromkeys(BATCHES, "ok"), 256: "failed"}
    assert numbers["throughput_infer_per_s"][1] == pytest.approx(800 / (1 + 1 / 24) * 1.01)
    assert set(numbers["device"]) == {"A100-SXM4-40GB"}


SCAN = ["throughput_latency_vs_batch"]


def test_more_than_eight_series_are_split_by_model(load, tmp_path):
    """One figure each, so that it stays readable."""
    records = [record(f"model {name}", concurrency=c) for name in "AB" for c in range(1, 7)]
    written = save_figures(load(records), tmp_path / "out", names=SCAN).files
    assert {path.stem for path in written} == {
        "throughput_latency_vs_batch_model_a",
        "throughput_latency_vs_batch_model_b",
    }


def test_labels_that_no_font_has_are_drawn_without_a_warning(load, tmp_path):
    """Warnings of tests are errors."""
    records = [record(name, concurrency=c) for name in ("粒子网络", "🚀 tagger") for c in (1, 2)]
    written = save_figures(load(records), tmp_path / "out", names=SCAN).files
    assert written[0].read_bytes().startswith(b"\x89PNG")
    assert "粒子网络" in written[2].read_text(encoding="utf-8")


def test_many_models_share_figures_as_long_as_each_line_stands_out(load):
    """Twelve models of one line each are two figures, not twelve."""
    points = summarise(load(record(f"model {n:02d}") for n in range(12)))
    parts = split_into_figures(series.series_along(points, BATCH_SIZE))
    assert [part["series"].nunique() for _, part in parts] == [8, 4]


def test_names_that_are_one_for_a_file_system_overwrite_nothing(load, tmp_path):
    """A dash and a blank both become an underscore."""
    records = [record(n, concurrency=c) for n in ("A-b", "A b") for c in range(1, 6)]
    written = save_figures(load(records), tmp_path / "out", names=SCAN).files
    assert len(set(written)) == 6
    labels = {pd.read_csv(path)["model_label"][0] for path in written if path.suffix == ".csv"}
    assert labels == {"A-b", "A b"}


def test_different_percentiles_never_share_a_figure(load, tmp_path):
    """They have no axis in common."""
    frame = load([record(), record(percentile=99), record(percentile=None)])
    written = save_figures(frame, tmp_path / "out", names=SCAN).files
    names = [path.stem for path in written if path.suffix == ".png"]
    stem = "throughput_latency_vs_batch"
    assert set(names) == {f"{stem}_mean", f"{stem}_p95", f"{stem}_p99"}


def test_a_folder_that_cannot_be_made_is_bad_input(load, tmp_path):
    """Not a traceback."""
    (tmp_path / "file").write_text("")
    drawn = []
    with pytest.raises(BadInput, match=r"--out .*file/out"):
        save_figures(load([record()]), tmp_path / "file" / "out", track=drawn.extend)
    assert drawn == []


def test_whoever_follows_the_progress_gets_each_figure_before_it_is_drawn(load, tmp_path):
    """So that a bar can be shown."""
    seen = []

    def track(figures):
        for figure in figures:
            seen.append((figure.name, len(list(tmp_path.glob("out/*.png")))))
            yield figure

    saved = save_figures(load(scan(repeats=2)), tmp_path / "out", track=track)
    assert [count for _, count in seen] == [*range(len(seen))]
    assert [path.stem for path in saved.files if path.suffix == ".png"] == [n for n, _ in seen]
