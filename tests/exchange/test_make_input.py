"""Events become the JSON that perf_analyzer sends."""

import base64
import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from hpcbench.cli.main import main
from hpcbench.errors import BadInput
from hpcbench.exchange.event_columns import ListColumn, events_from_arrays, read_events
from hpcbench.exchange.input_layout import InputOptions
from hpcbench.exchange.make_input import WrittenInput, pad_lists, write_input
from hpcbench.plan.arrivals import read_intervals
from hpcbench.plan.model import TritonModel, read_model

PT = [[1.0, 2.0, 3.0], [4.0], [5.0, 6.0]]
ETA = [[0.1, 0.2, 0.3], [0.4], [0.5, 0.6]]


def model(folder: Path, *inputs: str, max_batch_size: int = 8) -> TritonModel:
    """A model with inputs such as "x FP32 2,-1"."""
    version = folder / "models" / "tagger" / "1"
    version.mkdir(parents=True)
    text = f"max_batch_size: {max_batch_size}\n"
    for name, data_type, dims in (each.split() for each in inputs):
        text += f'input {{ name: "{name}" data_type: TYPE_{data_type} dims: [ {dims} ] }}\n'
    (version.parent / "config.pbtxt").write_text(text)
    return read_model(folder / "models", "tagger")


def entries(path: Path) -> list[dict[str, Any]]:
    """What is in the file, with base64 as FP32."""
    found = json.loads(path.read_text())["data"]
    for entry in found:
        for name, tensor in entry.items():
            if "b64" in tensor:
                values = np.frombuffer(base64.b64decode(tensor["b64"]), "<f4")
                entry[name] = values.reshape(tensor["shape"])
    return found


def made(folder: Path, tagger: TritonModel, data: dict[str, Any], **options: Any) -> WrittenInput:
    return write_input(
        tagger, events_from_arrays(data), folder / "out.json", InputOptions(**options)
    )


def refused(folder: Path, tagger: TritonModel, data: dict[str, Any], **options: Any) -> str:
    """The message of what cannot be written; nothing is left in the folder."""
    before = set(folder.iterdir())
    with pytest.raises(BadInput) as caught:
        made(folder, tagger, data, **options)
    assert set(folder.iterdir()) == before
    return str(caught.value)


def test_an_array_of_the_models_shape_is_written_as_it_is(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(5, 2, 3)).astype(np.float32)
    summary = made(tmp_path, model(tmp_path, "x FP32 2,3"), {"x": x})
    found = entries(tmp_path / "out.json")
    assert summary.events == len(found) == 5
    assert summary.bytes == (tmp_path / "out.json").stat().st_size
    np.testing.assert_array_equal([entry["x"] for entry in found], x)


def test_only_the_first_events_are_written_where_a_number_is_given(tmp_path: Path) -> None:
    x = np.arange(600.0).reshape(600, 1)
    made(tmp_path, model(tmp_path, "x FP32 1"), {"x": x}, events=300)
    found = entries(tmp_path / "out.json")
    assert [float(entry["x"][0]) for entry in found] == list(range(300))


@pytest.mark.parametrize(("dims", "axis"), [("2,-1", 0), ("-1,2", 1)])
def test_columns_are_stacked_where_the_model_has_as_many(
    tmp_path: Path, dims: str, axis: int
) -> None:
    columns = {"pt": ak.Array(PT), "eta": ak.Array(ETA)}
    made(tmp_path, model(tmp_path, f"x FP32 {dims}"), columns, columns={"x": ("pt", "eta")}, pad=-9)
    second = entries(tmp_path / "out.json")[1]["x"]
    expected = np.array([[4.0, -9.0, -9.0], [0.4, -9.0, -9.0]], np.float32)
    np.testing.assert_array_equal(second, expected if axis == 0 else expected.T)


def test_scalars_of_many_columns_make_a_vector(tmp_path: Path) -> None:
    columns = {"pt": np.array([1.0, 2.0]), "charge": np.array([1, -1])}
    made(tmp_path, model(tmp_path, "x FP32 2"), columns, columns={"x": ("pt", "charge")})
    assert [e["x"].tolist() for e in entries(tmp_path / "out.json")] == [[1.0, 1.0], [2.0, -1.0]]


def test_lists_are_filled_and_cut_to_the_shape_that_was_asked_for(tmp_path: Path) -> None:
    summary = made(
        tmp_path,
        model(tmp_path, "x FP32 -1"),
        {"x": ak.Array(PT)},
        shapes={"x": (2,)},
        pad=0,
        truncate=True,
    )
    found = [entry["x"].tolist() for entry in entries(tmp_path / "out.json")]
    assert found == [[1.0, 2.0], [4.0, 0.0], [5.0, 6.0]]
    assert summary.changed == ("x: 1 of 3 lists were filled", "x: 1 of 3 lists were cut")


def test_without_padding_events_keep_their_own_lengths(tmp_path: Path) -> None:
    summary = made(tmp_path, model(tmp_path, "x FP32 -1"), {"x": ak.Array(PT)})
    assert [entry["x"].tolist() for entry in entries(tmp_path / "out.json")] == PT
    assert not summary.layouts[0].is_one_shape


def test_texts_are_written_as_texts(tmp_path: Path) -> None:
    made(tmp_path, model(tmp_path, "x STRING 2"), {"x": [["tau", "μ"], ["", "jet"]]})
    first = json.loads((tmp_path / "out.json").read_text())["data"][0]
    assert first == {"x": {"content": ["tau", "μ"], "shape": [2]}}


@pytest.mark.parametrize(
    ("declared", "values", "options", "words"),
    [
        ("x FP32 2", PT, {}, "lists of 1 to 3 values, and input 'x' of model 'tagger' takes 2"),
        ("x FP32 2", PT, {}, "--truncate cuts them to the first 2"),
        ("x FP32 5", PT, {}, "--pad 0 fills them with zeros"),
        ("x FP32 -1", [[], [1.0]], {}, "has empty lists"),
        (
            "x FP32 2,2",
            PT,
            {},
            "has dims [2, 2], which cannot be made of the columns x (lists of double)",
        ),
        ("x INT64 3", [[1.0, 2.0, 3.0]], {}, "holds double, and input 'x' of model 'tagger' takes"),
        ("x FP32 1", [["a"]], {}, "holds string, and input 'x' of model 'tagger' takes FP32"),
        ("x STRING 1", [[1]], {}, "holds int64, and input 'x' of model 'tagger' takes STRING"),
        ("x UINT8 1", [[300]], {}, "holds 300, which UINT8 cannot hold"),
        ("x FP16 1", [[1e6]], {}, "holds 1000000.0, which FP16 cannot hold"),
        ("x UINT8 3", [[1], [2]], {"pad": -1}, "--pad -1: input 'x' is UINT8"),
        ("x FP32 2", [[None, 1.0]], {}, "column 'x' has missing values (null)"),
        ("x BF16 1", [[1.0]], {}, "is BF16, which perf_analyzer's JSON cannot hold"),
        ("y FP32 1", [[1.0]], {}, "no column 'y' for input 'y' of model 'tagger'"),
        ("y FP32 1", [[1.0]], {}, "it has: x (lists of double)"),
        ("x FP32 1", [[1.0]], {"columns": {"xx": ("x",)}}, "--map xx: model 'tagger' has no such"),
        ("x FP32 2", [[1.0]], {"shapes": {"x": (3,)}}, "has dims [2], given: [3]"),
        ("x FP32 1", [], {}, "has no events"),
    ],
)
def test_what_does_not_fit_is_reported_and_leaves_nothing(
    tmp_path: Path, declared: str, values: Any, options: dict[str, Any], words: str
) -> None:
    tagger = model(tmp_path, declared)
    assert words in refused(tmp_path, tagger, {"x": pa.array(values)}, **options)


def test_columns_side_by_side_must_have_lists_of_one_length(tmp_path: Path) -> None:
    columns = {"pt": [[1.0, 2.0]], "eta": [[1.0]]}
    asked = {"x": ("pt", "eta")}
    message = refused(tmp_path, model(tmp_path, "x FP32 2,-1"), columns, columns=asked, pad=0)
    assert "the lists of 'pt' and 'eta' differ in length" in message


def test_two_dims_that_columns_could_lie_along_are_not_guessed(tmp_path: Path) -> None:
    columns = {"pt": [[1.0, 2.0]], "eta": [[1.0, 2.0]]}
    asked = {"x": ("pt", "eta")}
    message = refused(tmp_path, model(tmp_path, "x FP32 2,2"), columns, columns=asked)
    assert "it is unclear which of them stands for the 2 columns" in message


def test_an_event_of_ragged_lists_is_not_filled_unasked(tmp_path: Path) -> None:
    columns = {"x": [[[1.0, 2.0], [3.0]], [[1.0], [2.0]]]}
    message = refused(tmp_path, model(tmp_path, "x FP32 2,-1"), columns)
    assert "has an event whose lists differ in length: 1 to 2" in message


def test_columns_of_different_numbers_of_events_are_refused() -> None:
    with pytest.raises(BadInput, match="different numbers of events: a: 1, b: 2"):
        events_from_arrays({"a": np.zeros(1), "b": np.zeros(2)})


def test_a_model_whose_configuration_has_no_inputs_is_reported(tmp_path: Path) -> None:
    assert "config.pbtxt lists no inputs" in refused(tmp_path, model(tmp_path), {"x": [1.0]})


LISTS = st.lists(st.lists(st.lists(st.floats(width=32, allow_nan=False), max_size=4), max_size=4))


@given(LISTS, st.integers(1, 5), st.integers(1, 5))
def test_filled_and_cut_lists_are_those_of_a_loop(
    events: list[list[list[float]]], rows: int, columns: int
) -> None:
    expected = np.full((len(events), rows, columns), -7.0)
    for e, event in enumerate(events):
        for i, row in enumerate(event[:rows]):
            for j, value in enumerate(row[:columns]):
                expected[e, i, j] = value
    lengths = (
        np.array([len(event) for event in events], int),
        np.array([len(row) for event in events for row in event], int),
    )
    flat = np.array([value for event in events for row in event for value in row], float)
    found = pad_lists(ListColumn(lengths, pa.array(flat)), flat, (rows, columns), -7.0)
    np.testing.assert_array_equal(found, expected)


def test_records_in_parquet_are_columns_with_dots(tmp_path: Path) -> None:
    jets = ak.zip({"pt": ak.Array(PT), "eta": ak.Array(ETA)})
    ak.to_parquet(ak.Array({"jet": jets, "met": [1.0, 2.0, 3.0]}), tmp_path / "events.parquet")
    events = read_events(tmp_path / "events.parquet")
    assert list(events.types) == ["jet.pt", "jet.eta", "met"]
    asked = InputOptions(columns={"x": ("jet.pt", "jet.eta"), "y": ("met",)}, pad=0)
    write_input(model(tmp_path, "x FP32 2,-1", "y FP32 1"), events, tmp_path / "out.json", asked)
    found = entries(tmp_path / "out.json")
    np.testing.assert_array_equal(found[2]["x"], np.array([[5, 6, 0], [0.5, 0.6, 0]], np.float32))
    assert found[2]["y"].tolist() == [3.0]


def test_numpy_files_are_read_as_parquet_is(tmp_path: Path) -> None:
    x = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "all.npz", x=x, y=x)
    pq.write_table(pa.table({"x": x.tolist()}), tmp_path / "x.parquet")
    tagger = model(tmp_path, "x FP32 2")
    found = []
    for name in ("x.npy", "all.npz", "x.parquet"):
        write_input(tagger, read_events(tmp_path / name), tmp_path / f"{name}.json")
        found.append((tmp_path / f"{name}.json").read_text())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.root", b"root", "allowed are files of events that end in .parquet"),
        ("x.parquet", b"no", "is not a .parquet file of events"),
        ("x.npz", b"no", "is not a .npz file of events"),
        ("x.npy", None, "cannot be read: No such file"),
    ],
)
def test_files_that_hold_no_events_are_reported(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_events(tmp_path / name)
    assert words in str(caught.value)


def test_the_command_says_what_it_made(tmp_path: Path) -> None:
    model(tmp_path, "x FP32 2,-1")
    ak.to_parquet(ak.Array({"pt": PT, "eta": ETA}), tmp_path / "events.parquet")
    out = tmp_path / "events.json"
    words = [tmp_path / "models", "tagger", "--from", tmp_path / "events.parquet", "--out", out]
    asked = ["make-input", *map(str, words), "--map", "x=pt,eta"]
    done = CliRunner().invoke(main, [*asked, "--pad", "0", "--shape", "x=2,3"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[:2] == [
        "x: FP32 2 x 3 from pt, eta",
        "x: 2 of 3 lists were filled",
    ]
    assert "3 events, 0.0 MB in" in done.output
    own = CliRunner().invoke(main, asked)
    assert "x: FP32 2 x own length from pt, eta" in own.output
    assert "only batch_size 1 can be measured" in own.output


# Times of arrival


def arrivals(source: Path, out: Path, *options: str) -> Any:
    words = ["--arrivals", "at", "--from", str(source), "--out", str(out), *options]
    return CliRunner().invoke(main, ["make-input", *words])


def test_timestamps_become_the_intervals_of_a_load(tmp_path: Path) -> None:
    out = tmp_path / "arrivals.txt"
    log = tmp_path / "log.csv"
    log.write_text(
        "host,at\na,2026-03-01T12:00:00.250\nb,2026-03-01T12:00:00\na,2026-03-01T12:00:01\n"
    )
    done = arrivals(log, out)
    assert done.exit_code == 0, done.output
    assert done.output == f"2 intervals, 1 s, 2 requests per second in the mean, in {out}\n"
    assert out.read_text() == "250000\n750000\n"
    assert read_intervals(out, "load").microseconds == (250_000, 750_000)
    pq.write_table(pa.table({"at": [3.0, 1.0, 1.5]}), tmp_path / "log.parquet")
    assert arrivals(tmp_path / "log.parquet", out).exit_code == 0
    assert out.read_text() == "500000\n1500000\n"
    # The earliest ones, not those that stand first.
    assert arrivals(tmp_path / "log.parquet", out, "--events", "2").exit_code == 0
    assert out.read_text() == "500000\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("time\n1\n2\n", "there is no column 'at'; it has: time"),
        ("at\nx\ny\n", "holds values of type string"),
        ("at\n1\n1\n", "has no two different times"),
        ("at\n1\n2,3\n", "cannot be read"),
    ],
)
def test_a_column_without_times_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "log.csv").write_text(content)
    done = arrivals(tmp_path / "log.csv", tmp_path / "out.txt")
    assert done.exit_code != 0
    assert words in " ".join(done.output.split())
    assert not (tmp_path / "out.txt").exists()


def test_events_and_arrivals_are_not_mixed(tmp_path: Path) -> None:
    for option in (["--pad", "1"], ["--map", "x=y"], ["models", "m"]):
        done = arrivals(tmp_path / "log.csv", tmp_path / "out.txt", *option)
        assert done.exit_code == 2
        assert "has no meaning with --arrivals" in done.output
    words = ["make-input", "--from", "x.npy", "--out", "x.json"]
    assert "REPOSITORY and MODEL are missing" in CliRunner().invoke(main, words).output


@pytest.mark.parametrize("option", [["--map", "x"], ["--map", "x=a,,b"], ["--shape", "x=2,0"]])
def test_the_command_refuses_options_that_it_cannot_read(tmp_path: Path, option: list[str]) -> None:
    words = ["make-input", str(tmp_path), "m", "--from", "x.npy", "--out", "x.json", *option]
    assert CliRunner().invoke(main, words).exit_code == 2
