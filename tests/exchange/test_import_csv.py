"""CSV files that others left become records that say what they have, and no more."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from hpcbench import load_results
from hpcbench.analysis.summary.points import summarise
from hpcbench.cli.main import main
from hpcbench.exchange.import_csv import CsvImport, import_csv_folder, read_csv_folder
from hpcbench.exchange.origin import Origin, name_values
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
    """Metrics of one point, under the names of their columns, as they would be measured."""
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
    if "gpu" in known:
        known["columns"] = {"gpu_name": known.pop("gpu")}
    found = import_csv_folder(tree, results, Origin(**known))  # type: ignore[arg-type]
    return load_results(results), found


# perf_analyzer in a loop


@pytest.mark.parametrize("case", ["grpc_async", "grpc_async_p95", "grpc_p75", "rate", "metrics"])
def test_every_metric_of_a_real_csv_arrives_under_its_name(tmp_path: Path, case: str) -> None:
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
def test_a_file_without_metrics_is_a_failed_point_of_its_model(
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


def test_a_file_with_new_metrics_supersedes_the_old_ones(tmp_path: Path) -> None:
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
    message = refusal(read_csv_folder, tmp_path / "tree", Origin(pool="gpu"))
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
    message = refusal(read_csv_folder, tmp_path, Origin())
    assert "holds no file of perf_analyzer or Model Analyzer" in message
    assert f"{tmp_path}/a.csv: has columns of neither" in message
    assert "{model}_batch{N}" in message
    assert "is not there" in refusal(read_csv_folder, tmp_path / "none", Origin())


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
    assert reason in refusal(read_csv_folder, tmp_path, Origin())


@pytest.mark.parametrize("throughput", ["-5", "0", "nan", "inf", ""])
def test_a_throughput_that_cannot_be_is_none(tmp_path: Path, throughput: str) -> None:
    path = tmp_path / "a_batch4.csv"
    path.write_text(f"Concurrency,Inferences/Second\n{10**30},{throughput}\n")
    (record,) = read_csv_folder(tmp_path, Origin()).records
    assert record.status == "failed"
    assert record.concurrency is None


def test_the_figure_of_a_csv_tree_is_that_of_the_same_metrics_in_parquet(tmp_path: Path) -> None:
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
        one = ["--figure", "throughput_latency_vs_batch"]
        ended = CliRunner().invoke(main, ["plot", str(results), "--out", str(out), *one])
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


# Any name, any form


@pytest.mark.parametrize("case", ["grpc_async", "grpc_async_p95", "rate", "http", "unstable_p95"])
def test_a_printed_report_says_what_its_csv_says_and_more(tmp_path: Path, case: str) -> None:
    """Reports that a real perf_analyzer printed; one that did not settle leaves no CSV."""
    shutil.copy(PRINTED / case / "stdout.txt", tmp_path / "run.log")
    found = read_csv_folder(tmp_path, Origin(columns={"model": "net"}))
    assert not found.skipped
    record = found.records[0]
    csv_file = PRINTED / case / "result.csv"
    if not csv_file.exists():
        assert record.status == "unstable"
        assert record.throughput_infer_per_s
        return
    (cells,) = pd.read_csv(csv_file).to_dict("records")
    assert record.throughput_infer_per_s == pytest.approx(cells["Inferences/Second"], rel=1e-5)
    assert record.latency_p99_us == cells["p99 latency"]
    assert record.request_count
    assert record.batch_size == int((PRINTED / case / "stdout.txt").read_text().split()[6])
    assert record.protocol == ("http" if case == "http" else "grpc")
    shutil.copy(csv_file, tmp_path / "run.csv")
    (joined,) = read_csv_folder(tmp_path, Origin(columns={"model": "net"})).records
    assert joined.point_id == record.point_id
    assert joined.request_count == record.request_count
    assert joined.throughput_infer_per_s == cells["Inferences/Second"]


def test_what_perf_client_printed_once_has_its_compute_time(tmp_path: Path) -> None:
    """Old files do not divide it; without it most of a request was "network"."""
    (tmp_path / "net_batch1.csv").write_text(
        "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
        "Server Compute,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,Weather\n"
        "1,4580,2,101,11,90,5,189,275,288,342,fine\n"
    )
    (tmp_path / "net_batch1.log").write_text(
        "*** Measurement Settings ***\n  Batch size: 1\n  Measurement window: 5000 msec\n"
        "  Stabilizing using p95 latency\n\nRequest concurrency: 1\n"
        "  Pass [1] throughput: 4580 infer/sec. p95 latency: 288 usec\n"
        "  Client: \n    Request count: 22904\n    Throughput: 4580 infer/sec\n"
        "    p50 latency: 189 usec\n    p90 latency: 275 usec\n    p95 latency: 288 usec\n"
        "    p99 latency: 342 usec\n"
        "    Avg gRPC time: 194 usec (marshal 2 usec + response wait 187 usec + unmarshal 5 usec)\n"
        "  Server: \n    Request count: 27829\n"
        "    Avg request latency: 107 usec (overhead 6 usec + queue 11 usec + compute 90 usec)\n"
    )
    frame, found = imported(tmp_path, tmp_path / "results")
    (row,) = frame.to_dict("records")
    assert (row["server_compute_us"], row["network_us"], row["percentile"]) == (90, 101, 95)
    assert (row["request_count"], row["latency_avg_us"], row["valid"]) == (22904, 194, True)
    assert found.unread == {"Weather": 1}
    points = summarise(frame)
    assert points["server_compute_ms"].tolist() == [0.09]


def test_names_say_what_a_pattern_names(tmp_path: Path) -> None:
    row = loop_row(4)
    cells = ",".join(f"{value:g}" for value in row.values())
    path = tmp_path / "T4" / "runs" / "v1_net_b4_c4_i2.csv"
    path.parent.mkdir(parents=True)
    path.write_text(f"{HEADER}\n4,{cells}\n")
    pattern = "{gpu_name}/*/*_{model}_b{batch_size}_c{concurrency}_i{instance_count}"
    (record,) = read_csv_folder(tmp_path, Origin(name=pattern)).records
    assert (record.gpu_name, record.model, record.batch_size) == ("T4", "net", 4)
    assert (record.concurrency, record.instance_count) == (4, 2)
    message = refusal(read_csv_folder, tmp_path, Origin(name="*_b{batch_size}_c4_i2"))
    assert "does not say model" in message
    path.rename(path.with_name("v1_net_b4_c8_i2.csv"))
    assert "says concurrency 4, and its name or an option 8" in refusal(
        read_csv_folder, tmp_path, Origin(name=pattern)
    )
    assert "did you mean 'batch_size'" in refusal(name_values, "{batchsize}", Path("a"))


def test_options_say_what_stands_nowhere(tmp_path: Path) -> None:
    cells = ",".join(f"{value:g}" for value in loop_row(4).values())
    (tmp_path / "perf.csv").write_text(f"{HEADER}\n4,{cells}\n")
    into = ["--results", str(tmp_path / "results")]
    given = ["--model", "net", "--batch-size", "4", "--set", "protocol=grpc", "--set", "gpus=[0]"]
    ended = CliRunner().invoke(main, ["import-csv", str(tmp_path / "perf.csv"), *into, *given])
    assert ended.exit_code == 0, ended.output
    (row,) = load_results(tmp_path / "results").to_dict("records")
    assert (row["model"], row["batch_size"], row["protocol"]) == ("net", 4, "grpc")
    assert row["gpus"] == (0,)
    assert row["valid"]
    for wrong, reason in {
        "protocl=grpc": "did you mean 'protocol'",
        "point_id=a": "is no column that can be given",
        "request_rate=fast": "must be double",
        "protocol": "is not COLUMN=VALUE",
    }.items():
        ended = CliRunner().invoke(main, ["import-csv", str(tmp_path), *into, "--set", wrong])
        assert ended.exit_code == 2
        assert reason in ended.output


@pytest.mark.parametrize(
    ("batch", "changed", "said"),
    [
        (2, {}, "LITTLE in 1 of 1 rows; throughput x latency / concurrency is 4"),
        (4, {"latency_p99_us": 25.6}, "PERCENTILES in 1 of 1 rows; p50 15680, p90"),
        (4, {"latency_p50_us": 90000}, "PERCENTILES in 1 of 1 rows; p50 90000, p90"),
    ],
)
def test_what_cannot_be_true_is_said_with_its_numbers(
    tmp_path: Path, batch: int, changed: dict[str, float], said: str
) -> None:
    """A wrong batch size in the name, milliseconds under p99, percentiles out of order."""
    cells = ",".join(f"{value:g}" for value in (loop_row(4) | changed).values())
    (tmp_path / f"net_batch{batch}.csv").write_text(f"{HEADER}\n4,{cells}\n")
    ended = CliRunner().invoke(
        main, ["import-csv", str(tmp_path), "--results", str(tmp_path / "results")]
    )
    assert said in ended.output
    assert f"net_batch{batch}.csv: " in ended.output
    checked = CliRunner().invoke(main, ["check", str(tmp_path / "results")])
    assert checked.exit_code == 1
    assert said[:6] in checked.output


def test_a_profile_export_gives_what_its_requests_took(tmp_path: Path) -> None:
    """The form of perf_analyzer --profile-export-file, with 200 requests of 1 to 2 ms."""
    requests = [
        {
            "timestamp": 10**9 + n * 10**6,
            "response_timestamps": [10**9 + n * 10**6 + 1_000_000 + n * 5000],
        }
        for n in range(200)
    ]
    export = {
        "experiments": [
            {
                "experiment": {"mode": "concurrency", "value": 1},
                "requests": requests,
                "window_boundaries": [10**9, 10**9 + 201 * 10**6],
            }
        ]
    }
    (tmp_path / "export.json").write_text(json.dumps(export))
    (tmp_path / "other.json").write_text("{}")
    known = Origin(columns={"model": "net", "batch_size": 4})
    found = read_csv_folder(tmp_path, known)
    (record,) = found.records
    assert record.request_count == 200
    assert record.throughput_infer_per_s == pytest.approx(4 * 200 / 0.201)
    assert record.latency_p50_us == pytest.approx(1495)
    assert list(found.skipped.values()) == ["is no JSON of perf_analyzer --profile-export-file"]


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
    assert (row["model"], row["model_label"], row["batch_size"]) == ("net", "net", 8)
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


def test_a_variant_of_model_analyzers_is_one_of_its_model_and_default_is_the_base(
    tmp_path: Path,
) -> None:
    tree = write_analyzer(
        tmp_path / "tree",
        "net,8,16,net_config_3,2:GPU,64,Yes,1265.4,110.5",
        "net,8,16,net_config_default,1:GPU,32,Yes,700.1,195.0",
    )
    frame, _ = imported(tree, tmp_path / "results")
    assert set(frame["model_label"]) == {"net"}
    by_name = frame.set_index("variant_name")["variant"]
    assert by_name["net_config_default"] == "{}"
    assert by_name["net_config_3"] == '{"instance_count": 2, "max_batch_size": 64}'
    (advice,) = json.loads(
        CliRunner().invoke(main, ["recommend", str(tmp_path / "results"), "--json"]).stdout
    )
    assert advice["recommended"]["configuration"]["variant_name"] == "net_config_3"


def test_rows_of_one_key_differ_in_something_unprinted_and_are_no_repeats(tmp_path: Path) -> None:
    """Of a BLS model: what differs are the configurations of the models that it calls."""
    tree = write_analyzer(
        tmp_path / "tree",
        "bls,1,16,bls_config_6,8:GPU,0,Yes,10077.3,2.2",
        "bls,1,16,bls_config_6,8:GPU,0,Yes,3121.0,6.4",
        "bls,1,32,bls_config_6,8:GPU,0,Yes,9915.6,4.7",
    )
    frame, _ = imported(tree, tmp_path / "results")
    assert set(frame["repeat"]) == {0}
    assert frame["point_id"].nunique() == 3
    names = frame.set_index("throughput_infer_per_s")["variant_name"]
    assert names[3121.0] == "bls_config_6, other 2 of 2"
    assert names[9915.6] == "bls_config_6"


def test_several_models_at_once_are_concurrent_measurements(tmp_path: Path) -> None:
    tree = write_analyzer(
        tmp_path / "tree",
        '"resnet,vgg","1,1","4,8","resnet_config_5,vgg_config_7","2:GPU,1:GPU","1,4",Yes,'
        '"419.6, [139.9,279.7]","30.1, [31.2,29.0]"',
    )
    frame, _ = imported(tree, tmp_path / "results")
    assert len(set(frame["together_id"])) == 1
    resnet, vgg = frame.to_dict("records")
    assert (resnet["model"], resnet["concurrency"], resnet["max_batch_size"]) == ("resnet", 4, 1)
    assert (resnet["throughput_infer_per_s"], vgg["throughput_infer_per_s"]) == (139.9, 279.7)
    assert vgg["latency_p99_us"] == pytest.approx(29000)
    (other,) = json.loads(vgg["beside"])
    assert (other["model_label"], other["load"]) == ("resnet", {"batch_size": 1, "concurrency": 4})
    assert len(summarise(frame)) == 2


def test_an_ensemble_has_the_instances_of_the_models_that_it_calls(tmp_path: Path) -> None:
    name = '"sum_config_1: add_config_0, sub_config_1"'
    tree = write_analyzer(tmp_path / "tree", f'sum,1,8,{name},"1:GPU,2:GPU","0,0",Yes,2865.9,3.7')
    (row,) = imported(tree, tmp_path / "results")[0].to_dict("records")
    assert row["variant_name"] == "sum_config_1: add_config_0, sub_config_1"
    assert pd.isna(row["instance_count"])
    assert pd.isna(row["together_id"])


def test_the_table_of_gpus_joins_by_configuration_batch_and_load(tmp_path: Path) -> None:
    tree = write_analyzer(
        tmp_path / "tree",
        "net,8,16,net_config_3,2:GPU,64,Yes,1265.4,110.5",
        "net,1,16,net_config_3,2:GPU,64,Yes,700.1,25.5",
    )
    asked = "Model,GPU UUID,Batch,Concurrency,Model Config Path,Instance Group"
    measured = "GPU Memory Usage (MB),GPU Utilization (%),GPU Power Usage (W)"
    key = "8,16,net_config_3,2:GPU"
    rows = [f"net,GPU-1,{key},870.5,40.0,100.0", f"net,GPU-2,{key},869.5,60.0,110.0"]
    (tree / "metrics-model-gpu.csv").write_text("\n".join([f"{asked},{measured}", *rows, ""]))
    alone = [f"Model,GPU UUID,{measured}", "triton-server,GPU-1,870.0,0.0,56.1", ""]
    (tree / "metrics-server-only.csv").write_text("\n".join(alone))
    frame, _ = imported(tree, tmp_path / "results")
    without, joined = frame.to_dict("records")
    assert pd.isna(without["gpu_power_avg_w"])
    assert (joined["gpu_uuid"], joined["gpu_count"]) == ("GPU-1,GPU-2", 2)
    assert joined["gpu_memory_max_bytes"] == 1740_000_000
    assert (joined["gpu_utilization_avg"], joined["gpu_power_avg_w"]) == (0.5, 105.0)
    assert joined["idle_power_w"] == 56.1
    (tree / "metrics-model-inference.csv").unlink()
    assert "has only the GPUs, and no inf" in refusal(read_csv_folder, tree, Origin())


def test_gpus_of_what_is_not_there_are_left_out_and_named(tmp_path: Path) -> None:
    tree = write_analyzer(tmp_path / "tree", "net,8,16,net_config_3,2:GPU,64,Yes,1265.4,110.5")
    (tree / "metrics-model-gpu.csv").write_text(
        "Model,GPU UUID,Batch,Concurrency,Model Config Path,Instance Group\n"
        "other,GPU-1,8,16,other_config_3,2:GPU\n"
    )
    found = read_csv_folder(tree, Origin())
    assert "1 of 1 rows, as of other, belong to no single row" in next(iter(found.skipped.values()))


def test_status_says_that_results_were_imported(tmp_path: Path) -> None:
    tree = write_loop(tmp_path / "tree", {"net": 500.0})
    for _ in range(2):
        imported(tree, tmp_path / "results")
    ended = CliRunner().invoke(main, ["status", str(tmp_path / "results")])
    assert ended.exit_code == 0, ended.output
    assert "7 measurements, imported or saved: no run has been started here" in ended.output
    assert "7 ok" in ended.output


def test_a_row_that_does_not_distinguish_its_models_is_refused(tmp_path: Path) -> None:
    tree = write_analyzer(tmp_path / "tree", 'a,"8, [4]",16,a_config_1,1:GPU,64,Yes,"9, [4]",1.0')
    assert "does not tell them apart" in refusal(read_csv_folder, tree, Origin())


def test_imported_points_are_summarised_like_measured_ones(tmp_path: Path) -> None:
    tree = write_loop(tmp_path / "tree", {"net": 500.0})
    frame, _ = imported(tree, tmp_path / "results", percentile=95)
    points = summarise(frame)
    assert points["batch_size"].tolist() == list(BATCHES)
    assert points["latency_ms"].notna().all()
