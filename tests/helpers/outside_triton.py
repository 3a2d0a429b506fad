"""Loads models by a backend's own code, outside Triton: one process, and one import, for many."""

import json
import subprocess
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format

from hpcbench.config.triton_protobuf import ModelConfig

LOAD = """
import json, sys, types
from pathlib import Path
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
sys.path.insert(0, sys.argv[1])
import model
said = []
for path, config in json.load(sys.stdin):
    settings = model.Settings(config["name"], Path(path), config, config["max_batch_size"], 1)
    try:
        model.TritonPythonModel().load(settings)
        said.append("")
    except model.ModelError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def as_triton_has_it(name: str, text: str) -> dict[str, Any]:
    """A config.pbtxt as the dictionary that Triton gives to a backend."""
    config = text_format.Parse(text, ModelConfig(name=name))
    found: dict[str, Any] = json_format.MessageToDict(
        config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return found


def load_errors(prefix: Path, backend: str, models: list[tuple[Path, str]]) -> list[str]:
    """Why each model, a file with a config.pbtxt, does not load; "" where it does."""
    given = [(str(path), as_triton_has_it(path.name, text)) for path, text in models]
    done = subprocess.run(
        [prefix / "python/bin/python3", "-W", "ignore", "-c", LOAD, prefix / "backends" / backend],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: list[str] = json.loads(done.stdout.splitlines()[-1])
    return said
