"""In the place of nvidia-ml-py, for processes whose path begins with this folder.

They see two invented GPUs, the first of which is divided into two MIG instances.
"""

import importlib
import os
import sys
from pathlib import Path

sys.path.remove(str(Path(__file__).parent))
del sys.modules["pynvml"]
importlib.import_module("pynvml")

from tests.helpers.nvml import nvml  # noqa: E402 - it needs the real one's constants

sys.modules["pynvml"] = nvml(divided=True, serial=os.environ["HPCBENCH_TEST_SERIAL"])  # type: ignore[assignment]
