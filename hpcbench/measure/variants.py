"""Other variants in the place of those that a running Triton serves, without starting it anew.

Triton looks into its repository every second. A folder that is gone is unloaded, a folder that
has come is loaded; so it takes no orders over the network, where anybody on the node could give
them.
"""

import contextlib
import http.client
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hpcbench.config.triton_messages import ModelConfig
from hpcbench.errors import ServerFailed
from hpcbench.measure import model_repository, server_log
from hpcbench.measure import server as triton
from hpcbench.measure.server import Server
from hpcbench.plan import model_config
from hpcbench.plan.point import ServerVariant

UNLOAD_TIMEOUT_S = 60.0


def swap_variants(server: Server, variants: Sequence[ServerVariant]) -> Server:
    """The same Triton with ``variants`` loaded and checked, as after a start.

    Each must be of a model that the server has, or has had: a container shows no other folder.
    What leaves is wholly unloaded before anything comes in. Raises ServerFailed where that does
    not happen, or where something else was loaded than was asked for: such a server is spent.
    """
    started = time.monotonic()
    leaving = [variant for variant in server.variants if variant not in variants]
    asked = {
        variant: model_config.configure(variant, server.requests.get(variant.model.name, ()))
        for variant in variants
    }
    coming = {v: config for v, config in asked.items() if v not in server.variants}
    _unload(server, leaving)
    _load(server, coming)
    after = replace(
        server,
        variants=tuple(variants),
        asked=tuple(asked.values()),
        configs=triton.loaded_configs(server.http_port, variants),
        fresh=False,
        ready_s=time.monotonic() - started,
    )
    triton.check_loaded_configs(after)
    return after


def _unload(server: Server, leaving: Sequence[ServerVariant]) -> None:
    # Loaded again under a new configuration only, Triton would hold both for a while.
    position = server.log_path.stat().st_size
    waiting = {
        (variant.model.name, version)
        for variant in leaving
        for version in _versions(server.http_port, variant.model.name)
    }
    for variant in leaving:
        model_repository.remove_overlay(variant, server.repository)

    def gone() -> bool:
        # The model is not to be seen any more long before its memory is free: the log tells.
        text = server_log.read_from(server.log_path, position)
        return waiting <= unloaded_versions(text)

    _wait(server, gone, UNLOAD_TIMEOUT_S, f"{len(waiting)} model versions were not unloaded")


def _load(server: Server, coming: Mapping[ServerVariant, ModelConfig]) -> None:
    position = server.log_path.stat().st_size
    for variant, config in coming.items():
        model_repository.write_overlay(variant, config, server.repository)

    def ready() -> bool:
        if load_refused(server_log.read_from(server.log_path, position)):
            raise server_log.load_failure(server_log.read_from(server.log_path, position))
        return all(
            triton.http_status(server.http_port, path) == 200
            for path in (
                *(f"/v2/models/{variant.model.name}/ready" for variant in coming),
                "/v2/health/ready",
            )
        )

    _wait(server, ready, triton.READY_TIMEOUT_S, "the server was not ready again")


def _versions(port: int, model: str) -> list[str]:
    """The versions of a model that the server has loaded."""
    versions: list[str] = triton.get_json(port, f"/v2/models/{model}")["versions"]
    return versions


def unloaded_versions(text: str) -> set[tuple[str, str]]:
    """(model, version) of all that Triton's log says is unloaded."""
    return set(re.findall(r"successfully unloaded '([^']*)' version (\d+)", text))


def load_refused(text: str) -> bool:
    """Whether Triton's log says that a model cannot be loaded."""
    return re.search(r"failed to load '|Poll failed for model directory", text) is not None


def _wait(server: Server, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not server.alive:
            raise ServerFailed("the server ended while variants were swapped", server.log_tail)
        with contextlib.suppress(OSError, http.client.HTTPException):
            if condition():
                return
        time.sleep(0.05)
    raise ServerFailed(f"{what} within {timeout_s:.0f} s", server.log_tail)
