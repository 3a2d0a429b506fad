"""Build the engines of accelerators before anything is measured with them.

An engine takes minutes to build, and a server that cannot build one loads the model without it and
says so in its log only.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcbench.config.container import Container
from hpcbench.errors import ServerFailed
from hpcbench.measure import device, server_log
from hpcbench.measure import server as triton
from hpcbench.plan import accelerators, model_config
from hpcbench.plan.point import ServerVariant
from hpcbench.runtime.command import runtime_of, scratch_folder
from hpcbench.runtime.ownership import open_no_link, private_folder
from hpcbench.runtime.process import lock_until_closed

_BUILT = "built.json"
"""In a folder of engines: how long they took to build, and where the model's nodes run."""


@dataclass(frozen=True)
class Engines:
    """The engines of a variant.

    Attributes
    ----------
    folder
        Where they are; None if the variant has no accelerator that builds engines.
    columns
        What the records say of them, by the names of the columns.
    """

    folder: Path | None
    columns: Mapping[str, Any]


def prepare_engines(
    variant: ServerVariant,
    container: Container,
    log_path: Path,
    options: triton.ServerOptions,
    tensorrt: str | None,
) -> Engines:
    """Build the engines of a variant with a server of its own, unless this node has them.

    That server logs verbosely: only then does Triton say whether the accelerator is used. The
    measured server does not, because that costs time.

    Parameters
    ----------
    variant
        The variant that will be served.
    container
        Where tritonserver comes from, and where the scratch folder is.
    log_path
        The file to which Triton's output is appended.
    options
        How the measured server will be started.
    tensorrt
        Version of TensorRT in the image; None if it is not known.

    Returns
    -------
    Engines
        The folder to give to the measured server, and the columns.

    Raises
    ------
    UnusableNode
        If the folder of this user's engines may be another user's.
    ServerFailed
        If the model does not load; as not applicable if the accelerator is not used.
    """
    config = model_config.configure(variant, options.requests.get(variant.model.name, ()))
    names = accelerators.compiling_accelerators(config)
    if not names:
        return Engines(None, {})
    key = accelerators.cache_key(
        config,
        digest=variant.model.digest,
        software=runtime_of(container).find_software(container).server_digest,
        tensorrt=tensorrt,
        architecture=device.gpu_architecture(),
    )
    # An engine runs only with the software and on the GPU architecture that it was built with, so
    # these are part of the folder's name. The user's id is, because others use the same scratch.
    mine = private_folder(scratch_folder(container) / f"hpcbench-engines-{os.getuid()}")
    folder = mine / key
    folder.mkdir(exist_ok=True)
    with _engine_lock(folder):
        summary = folder / _BUILT
        cached = summary.is_file()
        if not cached:
            position = log_path.stat().st_size if log_path.exists() else 0
            own = replace(options, engines={variant.model.name: folder}, verbose=True)
            with triton.serve([variant], container, log_path, own) as server:
                ready_s = server.ready_s
            with log_path.open("rb") as stream:
                stream.seek(position)
                log = stream.read().decode(errors="replace")
            found = server_log.accelerator_use(log, names[0])
            if found.fell_back:
                raise ServerFailed(
                    f"{names[0]} was asked for and not used: {found.fell_back}",
                    server_log.tail(log_path),
                    True,
                )
            text = json.dumps({"build_s": ready_s, "nodes": dict(found.nodes)})
            # Renamed, so that a build that is killed leaves no summary and is done again.
            part = folder / f"{_BUILT}.part"
            part.write_text(text)
            part.rename(summary)
        content = json.loads(summary.read_text())
    columns = {
        "engine_build_s": content["build_s"],
        "engine_cached": cached,
        "accelerator_nodes": json.dumps(content["nodes"], sort_keys=True) or None,
    }
    return Engines(folder, columns)


@contextmanager
def _engine_lock(folder: Path) -> Iterator[None]:
    """Others on this node that want the same engines wait until they are built."""
    with open_no_link(folder / "lock", "a") as lock:
        lock_until_closed(lock)
        yield
