"""Models that hpcbench cannot measure are refused in the plan, in a sentence."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbench.plan.backend import unservable_reasons
from hpcbench.plan.model import TritonModel, read_model
from tests.helpers.builders import campaign, expanded, refusal, triton_model, write_model

DECOUPLED = "model_transaction_policy { decoupled: true }"


def said(model: TritonModel, version: int | None = None, streaming: bool = False) -> list[str]:
    return list(unservable_reasons(model, [version], [streaming]))


def test_a_plain_model_is_measured(tmp_path: Path) -> None:
    write_model(tmp_path)
    assert said(read_model(tmp_path, "tagger")) == []


def test_a_model_with_a_state_is_refused_also_in_an_ensemble() -> None:
    state = triton_model("state", config="sequence_batching { }")
    (reason,) = said(state)
    assert reason.startswith("the model has sequence_batching: hpcbench does not measure models")
    (reason,) = said(replace(triton_model(), composing=(state,)))
    assert reason.startswith("'state', which it calls, has sequence_batching")


def test_how_a_model_that_another_one_needs_is_called_is_left_to_that_one(tmp_path: Path) -> None:
    state = triton_model("state", config="sequence_batching { }")
    stream = triton_model("stream", config=DECOUPLED)
    model = replace(triton_model(), composing=(state, stream), needs=("state", "stream"))
    assert said(model) == []
    write_model(tmp_path, "empty")
    (tmp_path / "empty" / "1" / "model.onnx").unlink()
    write_model(tmp_path)
    (reason,) = said(read_model(tmp_path, "tagger", needs=["empty"]))
    assert reason.startswith("version 1 has no model file")


def test_a_decoupled_model_needs_a_stream() -> None:
    model = triton_model(config=DECOUPLED)
    (reason,) = said(model)
    assert "decoupled" in reason
    assert "set streaming: true" in reason
    assert said(model, streaming=True) == []


def test_the_refusal_names_the_campaign_and_the_model() -> None:
    study = campaign(measurement={"streaming": [True, False]})
    message = refusal(expanded, study, {"tagger": triton_model(config=DECOUPLED)})
    assert message.startswith("campaign: model 'tagger': measurement.streaming: the model is dec")


@pytest.mark.parametrize(
    ("policy", "version", "missing"),
    [
        ("", None, []),
        ("version_policy { latest { num_versions: 2 } }", None, [2]),
        ("version_policy { all { } }", None, [1, 2]),
        ("version_policy { specific { versions: [2, 3] } }", None, [2]),
        ("", 1, [1]),
        ("", 3, []),
        ('default_model_filename: "net.onnx"', None, [3]),
    ],
)
def test_a_version_that_would_be_served_without_a_model_file_is_refused(
    tmp_path: Path, policy: str, version: int | None, missing: list[int]
) -> None:
    folder = write_model(tmp_path, extra=policy)
    (folder / "1").rename(folder / "3")
    (folder / "1").mkdir()
    (folder / "2").mkdir()
    (folder / "2" / "readme.txt").touch()
    reasons = said(read_model(tmp_path, "tagger"), version)
    assert [int(reason.split()[1]) for reason in reasons] == missing
    if 2 in missing:
        assert (
            f"version 2 has no model file: {folder}/2 holds readme.txt; the onnxruntime backend "
            "reads model.onnx"
        ) in reasons


def test_a_model_file_that_leads_back_to_itself_is_called_that(tmp_path: Path) -> None:
    network = write_model(tmp_path) / "1" / "model.onnx"
    network.unlink()
    network.symlink_to("model.onnx")
    (reason,) = said(read_model(tmp_path, "tagger"))
    assert reason == f"version 1: {network} is a link that leads back to itself"
    network.unlink()
    network.symlink_to("older.onnx")
    (reason,) = said(read_model(tmp_path, "tagger"))
    assert reason == f"version 1: {network} is a link to older.onnx, which is not there"


def test_a_model_file_that_nobody_can_read_to_an_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton would open it, and wait for ever."""
    network = write_model(tmp_path) / "1" / "model.onnx"
    network.unlink()
    os.mkfifo(network)
    model = read_model(tmp_path, "tagger")
    assert said(model) == [
        f"version 1: {network} is a named pipe; Triton needs a file, and would wait"
    ]
    network.unlink()
    network.symlink_to("/dev/zero")
    (reason,) = said(model)
    assert f"{network} is a device" in reason
    network.unlink()
    # Its path would be too long: it may have 107 letters.
    monkeypatch.chdir(network.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(network.name)
    (reason,) = said(model)
    assert f"{network} is a socket" in reason


def test_what_a_clone_without_git_lfs_leaves_in_the_place_of_a_model_is_refused(
    tmp_path: Path,
) -> None:
    network = write_model(tmp_path) / "1" / "model.onnx"
    network.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n")
    assert said(read_model(tmp_path, "tagger")) == [
        f"version 1: {network} only points to a file in Git LFS; get it with git lfs pull"
    ]


@pytest.mark.parametrize(
    ("name", "config", "file", "words"),
    [
        ("bare", "", "model.txt", "bare/1 holds model.txt; Triton finds the backend by one of mod"),
        ("bare", "max_batch_size: 8", None, "bare/1 holds nothing; Triton finds the backend by"),
        ("bare", 'default_model_filename: "net.onnx"', "net.onnx", "file net.onnx and no backend"),
        ("bare", "", "model.xml", None),
        ("bare", "", "model.pt2", None),
        # The backend of that name, wherever it is from.
        ("model.identity", "", None, None),
        ("bare", 'backend: "identity"', None, None),
    ],
)
def test_a_version_in_which_triton_would_find_no_backend_is_refused(
    tmp_path: Path, name: str, config: str, file: str | None, words: str | None
) -> None:
    version = tmp_path / name / "1"
    version.mkdir(parents=True)
    if file:
        (version / file).touch()
    if config:
        (version.parent / "config.pbtxt").write_text(config)
    reasons = said(read_model(tmp_path, name))
    assert len(reasons) == (words is not None)
    assert all(words in reason for reason in reasons)
