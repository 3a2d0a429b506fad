"""Triton's messages come without gRPC, and are those that tritonclient has."""

import subprocess
import sys


def imported_by(code: str) -> set[str]:
    """The modules that a fresh Python holds after this code."""
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_planning_imports_no_grpc_no_tables_and_no_dask() -> None:
    modules = imported_by("import hpcbench.plan.plan")
    assert "tritonclient.grpc.model_config_pb2" in modules
    assert modules.isdisjoint({"grpc", "numpy", "pandas", "pyarrow", "dask", "distributed"})


def test_the_messages_are_those_of_tritonclient_whichever_is_imported_first() -> None:
    ours, theirs = (
        "from hpcbench.config.triton_protobuf import ModelConfig as ours",
        "from tritonclient.grpc.model_config_pb2 import ModelConfig as theirs",
    )
    for first, second in ((ours, theirs), (theirs, ours)):
        imported_by(f"{first}\n{second}\nassert ours is theirs")
