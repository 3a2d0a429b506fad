"""Triton's protobuf message ModelConfig and its parts, imported without gRPC.

`tritonclient.grpc` is the package that ships the generated module ``model_config_pb2``. Its
``__init__`` imports gRPC and NumPy, which nothing here uses and which would take most of the time
of ``hpcbench plan``. So only the generated file is executed, and it keeps its own name: whoever
imports `tritonclient.grpc` afterwards gets the same classes, and protobuf sees each message once.
"""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

__all__ = [
    "TYPE_STRING",
    "DataType",
    "ModelConfig",
    "ModelInstanceGroup",
    "ModelOptimizationPolicy",
    "ModelWarmup",
]

_NAME = "tritonclient.grpc.model_config_pb2"


def _generated_module() -> ModuleType:
    """The module ``model_config_pb2``, without its package."""
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    # This imports nothing: the folder of a package on the path is known without running it.
    package = find_spec("tritonclient")
    for folder in (package.submodule_search_locations if package else None) or ():
        spec = spec_from_file_location(_NAME, Path(folder) / "grpc" / "model_config_pb2.py")
        if spec is not None and spec.loader is not None:
            module = module_from_spec(spec)
            sys.modules[_NAME] = module
            spec.loader.exec_module(module)
            return module
    raise ModuleNotFoundError(f"No module named '{_NAME}'", name=_NAME)


if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import (
        TYPE_STRING,
        DataType,
        ModelConfig,
        ModelInstanceGroup,
        ModelOptimizationPolicy,
        ModelWarmup,
    )
else:
    _MODULE = _generated_module()
    DataType = _MODULE.DataType
    ModelConfig = _MODULE.ModelConfig
    ModelInstanceGroup = _MODULE.ModelInstanceGroup
    ModelOptimizationPolicy = _MODULE.ModelOptimizationPolicy
    ModelWarmup = _MODULE.ModelWarmup
    TYPE_STRING = _MODULE.TYPE_STRING
