"""Server and clients on a loopback of their own: who reaches it, and where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hpcbench.config.container import Container
from hpcbench.measure import server as triton
from hpcbench.measure.inference import infer
from hpcbench.plan import plan
from hpcbench.records.columns import Status
from hpcbench.runtime.loopback import Port
from tests.helpers.confined import AS_A_USER, WITHOUT_NETWORKS
from tests.helpers.real import measured, quick_run
from tests.helpers.stranger import as_stranger

IDENTITY = """
import triton_python_backend_utils as utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            utils.InferenceResponse(
                [utils.Tensor("of_" + x.name(), x.as_numpy()) for x in request.inputs()]
            )
            for request in requests
        ]
"""

TENSORS = {
    "text": ("BYTES", "TYPE_STRING", np.array([b"", "µ".encode(), b"a\0b"], object)),
    "half": ("FP16", "TYPE_FP16", np.array([0.5, -1.0, 65504.0], np.float16)),
    "flag": ("BOOL", "TYPE_BOOL", np.array([True, False, True])),
    "long": ("INT64", "TYPE_INT64", np.array([2**62, -1, 0], np.int64)),
}


def identity(repository: Path) -> None:
    """A model that sends its inputs back."""
    version = repository / "identity" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(IDENTITY)
    lines = [
        f'{way} {{ name: "{prefix}{name}" data_type: {kind} dims: [3] }}'
        for name, (_, kind, _) in TENSORS.items()
        for way, prefix in (("input", ""), ("output", "of_"))
    ]
    text = "\n".join(['backend: "python"', "max_batch_size: 0", *lines])
    (version.parent / "config.pbtxt").write_text(text)


TRY_PORTS = """\
set +e; exec 2>/dev/null
for port in "$@"; do
    bash -c "exec 3<>/dev/tcp/127.0.0.1/$port" && echo "reached $port"
    bash -c "exec 3<>/dev/tcp/::1/$port" && echo "reached $port"
    ss -Hltn | grep -w "$port"
done
for pid in $(pgrep tritonserver); do
    nsenter --net="/proc/$pid/ns/net" true && echo "entered the network of $pid"
    nsenter --target "$pid" --user --net --preserve-credentials true && echo "entered $pid"
done
echo done
"""


@pytest.mark.native
@pytest.mark.usefixtures("leaves_nothing")
def test_nobody_else_reaches_a_server_and_its_own_requests_do(
    tmp_path: Path, native_prefix: Path
) -> None:
    identity(tmp_path / "models")
    models = [{"name": "identity"}]
    campaign, site = quick_run(
        tmp_path, native_prefix, tmp_path / "models", models=models, load={"concurrency": 1}
    )
    (placement,) = plan.plan(campaign, site).placements["cpu"]
    container = site.container.model_copy(update={"network_isolation": "required"})
    options = triton.ServerOptions(cpus=2)
    with triton.serve(placement.served[0], container, tmp_path / "log", options) as server:
        found = infer(
            server.http_port,
            "identity",
            {name: (kind, values) for name, (kind, _, values) in TENSORS.items()},
        )
        for name, (_, _, values) in TENSORS.items():
            assert found[f"of_{name}"].tolist() == values.tolist()
        with pytest.raises(ValueError, match="identity"):
            infer(server.http_port, "identity", {})
        ports = server.http_port, server.grpc_port, server.metrics_port
        for port in ports:
            port.connect(10).close()
            with pytest.raises(OSError, match="refused"):
                Port(port.number).connect(10)
        if os.getuid() == 0:
            assert as_stranger(TRY_PORTS, *(str(port.number) for port in ports)) == "done\n"


REASON = """
import sys
from hpcbench.config.container import Container
from hpcbench.errors import UnusableNode
from hpcbench.measure import isolation
container = Container(prefix="/native", network_isolation=sys.argv[1])
try:
    print(isolation.shared_loopback_reason(container, gpus=False))
    with isolation.loopback_for(container, gpus=False) as found:
        print(len(found.namespaces))
except UnusableNode as error:
    print(error.message.partition(": ")[2])
"""


REFUSED = (
    "network_isolation: required, and this node does not allow it: user and network namespaces: "
    "the limit is reached"
)


@pytest.mark.parametrize(
    ("asked", "allowed", "forbidden"),
    [
        ("auto", ["None", "2"], ["user and network namespaces: the limit is reached", "0"]),
        ("required", ["None", "2"], [REFUSED]),
        ("off", ["network_isolation: off", "0"], ["network_isolation: off", "0"]),
    ],
)
def test_a_node_that_forbids_it_is_used_without_or_refused_as_the_site_says(
    asked: str, allowed: list[str], forbidden: list[str]
) -> None:
    for where, expected in ((AS_A_USER, allowed), (WITHOUT_NETWORKS, forbidden)):
        words = [*where, sys.executable, "-c", REASON, asked]
        done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
        assert done.stdout.splitlines() == expected, done.stderr


@pytest.mark.native
def test_a_model_that_needs_the_network_fails_with_a_hint(
    tmp_path: Path, native_prefix: Path
) -> None:
    identity(tmp_path / "models")
    script = tmp_path / "models" / "identity" / "1" / "model.py"
    script.write_text("import socket; socket.create_connection(('192.0.2.1', 80))\n" + IDENTITY)
    models = [{"name": "identity"}]
    campaign, site = quick_run(
        tmp_path, native_prefix, tmp_path / "models", models=models, load={"concurrency": 1}
    )
    (record,) = measured(campaign, site, tmp_path / "logs")
    assert record.status == Status.FAILED
    assert "Network is unreachable" in (record.reason or "")
    assert "say network_isolation: off in the site file" in (record.reason or "")


def test_the_word_off_is_no_truth_value() -> None:
    """YAML 1.1 reads it as false."""
    assert Container.model_validate({"network_isolation": False}).network_isolation == "off"
