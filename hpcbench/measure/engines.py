"""Sees to it that engines are built, and really used, before anything is measured with them."""

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
from hpcbench.runtime.process import lock_until_closed

BUILT = "built.json"
"""In a folder of engines: what the server told while it built them."""


@dataclass(frozen=True)
class Engines:
    """``folder`` holds engines and is None where a variant has no accelerator; ``columns`` are
    those of its records.
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
    """The engines of a variant, built by a server of their own unless they are there.

    That server logs everything, which would cost others time: it tells whether the accelerator is
    used at all. Raises ServerFailed, as not applicable, where it is not.
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
    folder = scratch_folder(container) / f"hpcbench-engines-{os.getuid()}" / key
    folder.mkdir(parents=True, exist_ok=True)
    with _engine_lock(folder):
        told = folder / BUILT
        cached = told.is_file()
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
            part = folder / f"{BUILT}.part"
            part.write_text(text)
            part.rename(told)
        content = json.loads(told.read_text())
    columns = {
        "engine_build_s": content["build_s"],
        "engine_cached": cached,
        "accelerator_nodes": json.dumps(content["nodes"], sort_keys=True) or None,
    }
    return Engines(folder, columns)


@contextmanager
def _engine_lock(folder: Path) -> Iterator[None]:
    """Others on this node that want the same engines wait until they are built."""
    with (folder / "lock").open("w") as lock:
        lock_until_closed(lock)
        yield
