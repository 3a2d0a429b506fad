"""CSV files that others left become records that say what they have, and no more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from hpcbench import load_results
from hpcbench.analysis.summary.points import summarise
from hpcbench.cli.main import main
from hpcbench.exchange.import_csv import CsvImport, CsvOrigin, import_csv_folder, read_csv_folder
from hpcbench.records import store
from hpcbench.records.columns import Record
from hpcbench.records.folder import Results
from tests.helpers.builders import PRINTED, refusal

HEADER = (
    "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
    "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,"
    "p90 latency,p95 latency,p99 latency"
)
"""As perf_analyzer writes it for the loop's flags: with --percentile=95, without --verbose-csv."""

ANALYZER = (
    "Model,Batch,Concurrency,Model Config Path,Instance Group,Max Batch Size,"
    "Satisfies Constraints,Throughput (infer/sec),p99 Latency (ms)"
)
"""Model Analyzer 1.58's default columns of metrics-model-inference.csv."""

BATCHES = (1, 4, 8, 16, 32, 64, 128)


def loop_row(batch: int, speed: float = 500.0) -> dict[str, float]:
    """Figures of one point, under the names of their columns, as they would be measured."""
    # By Little's law at concurrency 4.
    latency = 4e6 / speed * batch**0.5
    return {
        "throughput_infer_per_s": round(speed * batch**0.5, 2),
        "client_send_us": 14,
        "network_us": 553,
        "server_queue_us": 2438,
        "server_compute_input_us": 62,
        "server_compute_infer_us": round(latency) - 3419,
        "server_compute_output_us": 350,
        "client_recv_us": 2,
        "latency_p50_us": round(latency * 0.98),
        "latency_p90_us": round(latency * 1.2),
        "latency_p95_us": round(latency * 1.3),
        "latency_p99_us": round(latency * 1.6),
    }


def write_loop(folder: Path, models: dict[str, float]) -> Path:
    """The tree that the loop of the CMS SONIC documentation leaves."""
    for model, speed in models.items():
        (folder / model).mkdir(parents=True)
        for batch in BATCHES:
            cells = ",".join(f"{value:g}" for value in loop_row(batch, speed).values())
            (folder / model / f"{model}_batch{batch}.csv").write_text(f"{HEADER}\n4,{cells}\n")
    return folder


def imported(tree: Path, results: Path, **known: object) -> tuple[pd.DataFrame, CsvImport]:
    found = import_csv_folder(tree, results, CsvOrigin(**known))  # type: ignore[arg-type]
    return load_results(results), found


# perf_analyzer in a loop


@pytest.mark.parametrize("case", ["grpc_async", "grpc_async_p95", "grpc_p75", "rate", "metrics"])
def test_every_figure_of_a_real_csv_arrives_under_its_name(tmp_path: Path, case: str) -> None:
    """Files that a real perf_analyzer wrote; every column of the file is looked up by its name."""
    (tmp_path / "tree" / "net").mkdir(parents=True)
    shutil.copy(PRINTED / case / "result.csv", tmp_path / "tree" / "net" / "net_batch4.csv")
    frame, _ = imported(tmp_path / "tree", tmp_path / "results", percentile=95)
    (row,) = frame.to_dict("records")
    (cells,) = pd.read_csv(PRINTED / case / "result.csv").to_dict("records")
    assert (row["model"], row["batch_size"], row["status"]) == ("net", 4, "ok")
    assert row["throughput_infer_per_s"] == cells["Inferences/Second"]
    assert row["latency_p99_us"] == cells["p99 latency"]
    assert row["server_compute_infer_us"] == cells["Server Compute Infer"]
    assert row["network_us"] == cells["Network+Server Send/Recv"]
    match case:
        case "grpc_async_p95":
            assert (row["percentile"], row["latency_percentile_us"]) == (95, 26865)
            assert pd.isna(row["latency_avg_us"])
        case "grpc_p75":
            assert (row["percentile"], row["latency_percentile_us"]) == (75, 4002)
        case "rate":
            assert row["request_rate"] == 50
            assert pd.isna(row["concurrency"])
        case _:
            assert pd.isna(row["percentile"])
            assert row["latency_avg_us"] == cells["Avg latency"]


def test_the_percentile_is_only_what_somebody_has_said(tmp_path: Path) -> None:
    tree = write_loop(tmp_path / "tree", {"net": 500.0})
    frame, found = imported(tree, tmp_path / "unknown")
    assert frame["percentile"].isna().all()
    assert any("--percentile" in words for words in found.missing)
    frame, found = imported(tree, tmp_path / "known", percentile=95)
    assert set(frame["percentile"]) == {95}
    assert frame["latency_percentile_us"].tolist() == frame["latency_p95_us"].tolist()
    assert not any("--percentile" in words for words in found.missing)


def test_several_concurrencies_of_one_file_are_several_points(tmp_path: Path) -> None:
    tree = write_loop(tmp_path / "tree", {"net": 500.0})
    path = tree / "net" / "net_batch4.csv"
    row = path.read_text().splitlines()[1].removeprefix("4,")
    path.write_text(f"{HEADER}\n" + "".join(f"{c},{row}\n" for c in (1, 2, 4)))
    frame, _ = imported(tree, tmp_path / "results")
    assert frame.loc[frame["batch_size"] == 4, "concurrency"].tolist() == [1, 2, 4]
    assert frame["point_id"].is_unique


@pytest.mark.parametrize("content", ["", HEADER + "\n", HEADER + "\n4,832.253,14,55"])
def test_a_file_without_figures_is_a_failed_point_of_its_model(
    tmp_path: Path, content: str
) -> None:
    tree = write_loop(tmp_path / "tree", {"net": 500.0})
    (tree / "net" / "net_batch128.csv").write_text(content)
    frame, _ = imported(tree, tmp_path / "results", percentile=95)
    (row,) = frame[frame["status"] == "failed"].to_dict("records")
    assert (row["batch_size"], row["concurrency"], row["percentile"]) == (128, 4, 95)
    assert row["reason"] == "perf_analyzer left no throughput in net/net_batch128.csv"
    assert len(frame) == len(BATCHES)


def test_a_point_that_was_measured_after_it_had_failed_is_one_row(tmp_path: Path) -> None:
    tree = write_loop(tmp_path / "tree", {"net": 500.0})
    path = tree / "net" / "net_batch128.csv"
    whole = path.read_text()
    path.write_text("")
    imported(tree, tmp_path / "results")
    path.write_text(whole)
    frame, _ = imported(tree, tmp_path / "results")
    assert frame["status"].tolist() == ["ok"] * len(BATCHES)


def test_importing_again_gives_the_same_rows_also_from_a_copy(tmp_path: Path) -> None:
    tree = write_loop(tmp_path / "tree", {"net": 500.0, "other": 300.0})
    first, _ = imported(tree, tmp_path / "results")
    shutil.copytree(tree, tmp_path / "copy" / "tree", copy_function=shutil.copyfile)
    for path in (tmp_path / "copy" / "tree").rglob("*.csv"):
        os.utime(path, (2e9, 2e9))
    second, _ = imported(tmp_path / "copy" / "tree", tmp_path / "results")
    pd.testing.assert_frame_equal(first, second)
    assert len(store.read_table(tmp_path / "results")) == 2 * len(BATCHES)


def test_a_file_with_new_figures_supersedes_the_old_ones(tmp_path: Path) -> None:
    tree = write_loop(tmp_path / "tree", {"net": 500.0})
    imported(tree, tmp_path / "results")
    path = tree / "net" / "net_batch1.csv"
    path.write_text(path.read_text().replace("4,500,", "4,777,"))
    os.utime(path, (2e9, 2e9))
    frame, _ = imported(tree, tmp_path / "results")
    assert frame.loc[frame["batch_size"] == 1, "throughput_infer_per_s"].tolist() == [777]
    assert len(frame) == len(BATCHES)


def test_folders_above_the_models_are_pools_that_are_never_joined(tmp_path: Path) -> None:
    for gpu, speed in (("T4", 100.0), ("A100", 900.0)):
        write_loop(tmp_path / "tree" / gpu, {"net": speed})
    frame, _ = imported(tmp_path / "tree", tmp_path / "results")
    assert frame.groupby("pool").size().to_dict() == {"A100": 7, "T4": 7}
    assert frame["point_id"].nunique() == 7
    message = refusal(read_csv_folder, tmp_path / "tree", CsvOrigin(pool="gpu"))
    assert "are about the same point" in message
    assert "A100/net/net_batch1.csv" in message


def test_what_the_files_lack_is_reported_and_missing(tmp_path: Path) -> None:
    tree = write_loop(tmp_path / "tree", {"net": 500.0, "other": 300.0})
    (tree / "other" / "other_batch128.csv").unlink()
    (tree / "notes.csv").write_text("a,b\n1,2\n")
    (tree / "net" / "last.csv").write_text((tree / "net" / "net_batch1.csv").read_text())
    ended = CliRunner().invoke(
        main, ["import-csv", str(tree), "--results", str(tmp_path / "results"), "--gpu", "Tesla T4"]
    )
    assert ended.exit_code == 0, ended.output
    assert "13 points of 2 models" in ended.output
    assert f"left out: {tree}/notes.csv: has columns of neither perf_analyzer" in ended.output
    assert f"left out: {tree}/net/last.csv: its name does not say model and batch" in ended.output
    assert "  how many requests were counted\n" in ended.output
    assert "  other on tree at batch size 128: no file\n" in ended.output
    assert "the GPU" not in ended.output
    frame = load_results(tmp_path / "results")
    assert set(frame["gpu_name"]) == {"Tesla T4"}
    assert frame["request_count"].isna().all()
    assert frame["node"].isna().all()


def test_a_tree_without_such_files_is_refused_with_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n")
    message = refusal(read_csv_folder, tmp_path, CsvOrigin())
    assert "holds no CSV file of perf_analyzer or Model Analyzer" in message
    assert f"{tmp_path}/a.csv: has columns of neither" in message
    assert "{model}_batch{N}.csv" in message
    assert "is not a folder" in refusal(read_csv_folder, tmp_path / "none", CsvOrigin())


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("a_batch4.csv", "9" * 200_000 + ",1", "is not a CSV file: field larger than field limit"),
        ("a_batch0.csv", "4,832.253", "its name does not say model and batch size"),
        (f"a_batch{10**30}.csv", "4,832.253", "its name does not say model and batch size"),
    ],
)
def test_a_file_that_no_perf_analyzer_has_written_is_skipped(
    tmp_path: Path, name: str, line: str, reason: str
) -> None:
    (tmp_path / name).write_text(f"Concurrency,Inferences/Second\n{line}\n")
    assert reason in refusal(read_csv_folder, tmp_path, CsvOrigin())


@pytest.mark.parametrize("throughput", ["-5", "0", "nan", "inf", ""])
def test_a_throughput_that_cannot_be_is_none(tmp_path: Path, throughput: str) -> None:
    path = tmp_path / "a_batch4.csv"
    path.write_text(f"Concurrency,Inferences/Second\n{10**30},{throughput}\n")
    (record,) = read_csv_folder(tmp_path, CsvOrigin()).records
    assert record.status == "failed"
    assert record.concurrency is None


def test_the_figure_of_a_csv_tree_is_that_of_the_same_figures_in_parquet(tmp_path: Path) -> None:
    """The plotted numbers: throughput, latency, and their ratios to the first model."""
    models = {"particlenet_AK4": 500.0, "particlenet_AK4_PT": 320.0}
    tree = write_loop(tmp_path / "tree", models)
    frame, _ = imported(tree, tmp_path / "imported", percentile=95, gpu="Tesla T4")
    assert len(frame) == 14
    direct = Results(tmp_path / "direct")
    direct.create()
    rows = [
        Record(
            point_id=f"{model}-{batch}",
            campaign="scan",
            site="here",
            pool="gpu",
            repeat=0,
            placement_id="aaaaaaaaaaaa",
            status="ok",
            model=model,
            model_label=model,
            gpu_name="Tesla T4",
            batch_size=batch,
            concurrency=4,
            percentile=95,
            latency_percentile_us=loop_row(batch, speed)["latency_p95_us"],
            **loop_row(batch, speed),
        )
        for model, speed in models.items()
        for batch in BATCHES
    ]
    store.write_records(direct.records / "aaaaaaaaaaaa.parquet", rows)
    plotted = []
    for results in (tmp_path / "imported", tmp_path / "direct"):
        out = results / "figures"
        ended = CliRunner().invoke(main, ["plot", str(results), "--out", str(out)])
        assert ended.exit_code == 0, ended.output
        (numbers,) = out.glob("throughput_latency_vs_batch*.csv")
        plotted.append(pd.read_csv(numbers))
    shown = ["model_label", "batch_size", "measured", "status"]
    shown += [c for c in plotted[0] if c.startswith(("throughput_infer_per_s", "latency_ms"))]
    assert {"latency_ms_ratio", "throughput_infer_per_s_ratio"} <= set(shown)
    assert len(plotted[0]) == 14
    pd.testing.assert_frame_equal(plotted[0][shown], plotted[1][shown])
    first = plotted[0].loc[plotted[0]["model_label"] == "particlenet_AK4"]
    assert first["latency_ms"].tolist() == [
        loop_row(batch)["latency_p95_us"] / 1000 for batch in BATCHES
    ]


# Model Analyzer


def write_analyzer(folder: Path, *rows: str) -> Path:
    folder.mkdir(exist_ok=True)
    text = "\n".join([ANALYZER, *rows]) + "\n\n"
    (folder / "metrics-model-inference.csv").write_text(text)
    return folder


def test_model_analyzers_configurations_become_records_in_the_units_of_the_columns(
    tmp_path: Path,
) -> None:
    tree = write_analyzer(
        tmp_path / "tree",
        "net,8,16,net_config_3,2:GPU,64,Yes,1265.4,14.9",
        "net,8,16,net_config_default,1:GPU,32,No,700.1,22.5",
        "net,1,16,net_config_3,2:GPU,64,Yes,None,None",
    )
    frame, found = imported(tree, tmp_path / "results")
    assert frame["status"].tolist() == ["failed", "ok", "ok"]
    row = frame.iloc[1]
    assert (row["model"], row["model_label"], row["batch_size"]) == ("net", "net_config_3", 8)
    assert (row["concurrency"], row["instance_count"], row["instance_kind"]) == (16, 2, "KIND_GPU")
    assert (row["max_batch_size"], row["throughput_infer_per_s"]) == (64, 1265.4)
    assert row["latency_p99_us"] == pytest.approx(14900)
    assert pd.isna(row["latency_avg_us"])
    assert "the server's own times" in found.missing


def test_columns_that_model_analyzer_was_asked_for_are_found_wherever_they_stand(
    tmp_path: Path,
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "metrics-model-inference.csv").write_text(
        "Server Queue time (ms),Throughput (infer/sec),Request Rate,Batch,Avg Latency (ms),Model\n"
        "1.5,99.0,100,2,3.25,net\n\n"
    )
    frame, _ = imported(tmp_path / "tree", tmp_path / "results")
    row = frame.iloc[0]
    assert (row["server_queue_us"], row["latency_avg_us"]) == (1500, 3250)
    assert (row["request_rate"], row["batch_size"]) == (100, 2)
    assert row["model_label"] == "net"


def test_several_models_at_once_and_the_table_of_gpus_are_skipped_with_the_reason(
    tmp_path: Path,
) -> None:
    tree = write_analyzer(tmp_path / "tree", 'a,"8, [4]",16,a_config_1,1:GPU,64,Yes,"9, [4]",1.0')
    (tree / "metrics-model-gpu.csv").write_text("Model,GPU UUID,Batch\nnet,GPU-1,8\n")
    write_loop(tree, {"net": 500.0})
    _, found = imported(tree, tmp_path / "results")
    reasons = {path.name: reason for path, reason in found.skipped.items()}
    assert "several models at once" in reasons["metrics-model-inference.csv"]
    assert "metrics-model-inference.csv" in reasons["metrics-model-gpu.csv"]
    assert len(found.records) == len(BATCHES)


def test_imported_points_are_summarised_like_measured_ones(tmp_path: Path) -> None:
    tree = write_loop(tmp_path / "tree", {"net": 500.0})
    frame, _ = imported(tree, tmp_path / "results", percentile=95)
    points = summarise(frame)
    assert points["batch_size"].tolist() == list(BATCHES)
    assert points["latency_ms"].notna().all()
