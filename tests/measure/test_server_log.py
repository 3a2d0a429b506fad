"""What the log of a server says: why it did not start, and what its accelerator runs."""

from pathlib import Path

import pytest

from hpcbench.measure import server_log
from hpcbench.measure.server_log import accelerator_refusal, accelerator_use
from tests.helpers.paths import DATA

LOGS = DATA / "server_log"
LOG = """I1123 00:13:31.641562 20277 cuda_memory_manager.cc:117] "CUDA memory pool disabled"
{line}
| particlenet_AK4 | 1       | UNAVAILABLE: Internal: TritonModelException: ... |
error: creating server: Internal - failed to load all models
"""


def test_the_reason_of_a_failed_load_is_the_backends_own() -> None:
    line = (
        "E1123 00:13:31.824264 20277 model_lifecycle.cc:642] \"failed to load 'm' version 1: "
        "Internal: TritonModelException: the file is no ONNX model\\n\\nAt:\\n  /a/model.py(205): "
        'initialize\\n"'
    )
    error = server_log.load_failure(LOG.format(line=line))
    assert error.message.endswith("the file is no ONNX model")
    assert not error.not_applicable
    assert "UNAVAILABLE" not in error.log_tail, "wide tables are left out"


def test_what_a_backend_can_never_do_is_not_applicable() -> None:
    line = (
        "E1123 00:13:31.824264 20277 model_lifecycle.cc:642] \"failed to load 'm' version 1: "
        "Internal: TritonModelException: hpcbench: not applicable: it asks for tensorrt; this "
        'server runs on the CPU\\n\\nAt:\\n  /a/model.py(205): auto_complete_config\\n"'
    )
    error = server_log.load_failure(LOG.format(line=line))
    assert error.not_applicable
    assert error.message == "it asks for tensorrt; this server runs on the CPU"


@pytest.mark.parametrize(
    "text", ["", "error: unknown option --foo\n", "E1123 main.cc:1] boom\n", "FATAL:   no image\n"]
)
def test_a_server_that_ends_without_loading_anything_is_reported_in_its_last_words(
    text: str,
) -> None:
    error = server_log.load_failure(text)
    assert "ended before it was ready" in error.message
    assert text.strip() in error.message


@pytest.mark.parametrize(
    "words",
    [
        "unrecognized option '--bogus-flag=1'",
        "option '--model=x' is ambiguous; possibilities: '--model-store' '--model-control-mode'",
        "option '--model-repository' requires an argument",
    ],
)
def test_an_option_that_triton_does_not_take_is_named_and_not_its_whole_usage(words: str) -> None:
    usage = "Usage: tritonserver [options]\n  --help\n\tPrint usage\n" + "\tmore\n" * 100
    error = server_log.load_failure(f"/opt/tritonserver/bin/tritonserver: {words}\n{usage}")
    assert error.message == f"the server ended before it was ready: {words}"


def test_a_configuration_that_triton_refuses_is_reported_in_its_words() -> None:
    line = (
        'E1124 16:17:29.994840 12889 model_repository_manager.cc:1460] "Poll failed for model '
        "directory 'jet_tagger': Only one priority level is allowed when 'preserve_ordering' is "
        'true for jet_tagger"'
    )
    error = server_log.load_failure(LOG.format(line=line))
    assert error.message == (
        "Triton refuses the configuration: Only one priority level is allowed when "
        "'preserve_ordering' is true for jet_tagger"
    )


def test_the_tail_of_a_huge_log_is_read_without_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("x" * 1_000_000 + "\n" + "\n".join(f"line {i}" for i in range(50)) + "\n")
    assert server_log.tail(path).splitlines() == [f"line {i}" for i in range(20, 50)]
    assert server_log.tail(tmp_path / "none") == ""


def log(name: str) -> str:
    return (LOGS / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("all_tensorrt", {"TensorrtExecutionProvider": 1}),
        ("partly_tensorrt", {"TensorrtExecutionProvider": 11}),
        ("tensorflow_engines", {}),
    ],
)
def test_an_accelerator_that_is_used_is_reported_with_what_runs_on_it(
    name: str, nodes: dict[str, int]
) -> None:
    found = accelerator_use(log(name), "tensorrt")
    assert found.fell_back is None
    assert found.nodes == nodes


def test_a_model_that_runs_on_others_has_fallen_back() -> None:
    found = accelerator_use(log("no_tensorrt"), "tensorrt")
    assert found.nodes == {"CPUExecutionProvider": 4, "CUDAExecutionProvider": 301}
    assert found.fell_back == (
        "no part of the model runs on TensorrtExecutionProvider; its nodes: 4 on "
        "CPUExecutionProvider, 301 on CUDAExecutionProvider"
    )
    assert accelerator_use(log("all_tensorrt"), "openvino").fell_back is not None


@pytest.mark.parametrize("text", ["", "I1123 model_lifecycle.cc:642] loading: m:1"])
def test_a_log_that_says_nothing_is_no_proof(text: str) -> None:
    assert "does not say" in (accelerator_use(text, "tensorrt").fell_back or "")
    assert accelerator_use(log("tensorrt_without_verbose"), "tensorrt").fell_back is not None


def test_of_several_sessions_the_one_with_the_accelerator_counts() -> None:
    """Parts of a model, and the session that only reads its inputs, are listed, too."""
    both = accelerator_use(
        log("no_tensorrt") + log("all_tensorrt") + log("no_tensorrt"), "tensorrt"
    )
    assert both.fell_back is None
    assert both.nodes == {"TensorrtExecutionProvider": 1}


@pytest.mark.parametrize(
    "warning",
    [
        "[TensorRT EP] ORT_TENSORRT_INT8_ENABLE is set, but platform doesn't support fast native",
        "W0211 1] GPU Execution Accelerator will be ignored for model instance on CPU",
    ],
)
def test_a_backend_that_goes_on_with_less_than_was_asked_has_fallen_back(warning: str) -> None:
    found = accelerator_use(f"{log('all_tensorrt')}{warning}\n", "tensorrt")
    assert warning.rpartition("] ")[2] in (found.fell_back or "")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (log("refused_name"), "unknown Execution Accelerator 'tensorrt' is requested"),
        (log("refused_kind"), "GPU Execution Accelerator can only be set on non-CPU"),
        (
            "unknown parameter 'trt_profile_a' is provided for TensorRT Execution Accelerator",
            "with profiles: false and engine_cache: false",
        ),
        ("Invalid argument: unsupported precision mode 'BF16' is requested", "'BF16'"),
    ],
)
def test_a_backend_without_the_accelerator_says_so(message: str, words: str) -> None:
    assert words in (accelerator_refusal(message) or "")


def test_other_failures_of_a_load_are_no_refusal() -> None:
    assert accelerator_refusal("Internal: the file is no ONNX model") is None


def test_a_server_that_refuses_an_accelerator_is_not_applicable() -> None:
    error = server_log.load_failure(log("refused_kind"))
    assert error.not_applicable
    assert "can only be set on non-CPU backend context" in error.message


LOADING = """I1126 12:28:36.224028 15915 model_lifecycle.cc:472] "loading: add:1"
I1126 12:28:36.224058 15915 model_lifecycle.cc:472] "loading: bls:1"
I1126 12:28:36.224369 15915 model_lifecycle.cc:472] "loading: sub:1"
I1126 12:28:38.597885 15915 model_lifecycle.cc:839] "successfully loaded 'sub'"
"""


def test_a_start_that_hangs_names_what_did_not_load_and_the_last_line() -> None:
    assert server_log.still_loading(LOADING) == (
        "'add' and 'bls' did not load, and the last line of the log is: successfully loaded 'sub'"
    )
    more = (
        LOADING + "I1126 12:28:38.6 15915 model_lifecycle.cc:839] \"successfully loaded 'add'\"\n"
    )
    own = server_log.still_loading(more + "waiting for a licence\n")
    assert own == "'bls' did not load, and the last line of the log is: waiting for a licence"
    assert server_log.still_loading('I1126 12:28:36.2 1 server.cc:1] "starting"\n') == ""


def test_a_log_that_has_grown_too_long_keeps_its_end_while_its_server_writes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_log, "MAX_BYTES", 1000)
    path = tmp_path / "server.log"
    with path.open("a", buffering=1) as server:
        server.write("line of the start\n")
        server_log.cut(path)
        assert path.read_text() == "line of the start\n"
        server.write("a line of many\n" * 200 + "the newest line\n")
        server_log.cut(path)
        server.write("one more\n")
    text = path.read_text()
    assert len(text) < 1000
    assert text.startswith(server_log.CUT)
    assert text.endswith("the newest line\none more\n")
