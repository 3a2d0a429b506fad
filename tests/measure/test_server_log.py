"""Why a server did not start, out of its log."""

from pathlib import Path

import pytest

from hpcbench.measure import server_log

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
def test_a_server_that_ends_without_loading_anything_is_told_in_its_last_words(text: str) -> None:
    error = server_log.load_failure(text)
    assert "ended before it was ready" in error.message
    assert text.strip() in error.message


def test_a_configuration_that_triton_refuses_is_told_in_its_words() -> None:
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
