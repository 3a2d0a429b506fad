"""Swap the variants that a running Triton serves, without a restart.

Triton looks into its repository every second: it unloads a model whose folder is gone and loads one
whose folder is new. Its own commands for that would come over the network, where every user of the
node could send them.
"""

import contextlib
import http.client
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hpcbench.config.triton_protobuf import ModelConfig
from hpcbench.errors import ServerFailed
from hpcbench.measure import loaded_config, model_repository, server_log
from hpcbench.measure import server as triton
from hpcbench.measure.server import RunningServer
from hpcbench.plan import model_config
from hpcbench.plan.point import ServerVariant

UNLOAD_TIMEOUT_S = 60.0


def swap_variants(server: RunningServer, variants: Sequence[ServerVariant]) -> RunningServer:
    """Unload what a Triton serves and load other variants.

    Parameters
    ----------
    server
        A server that polls its repository.
    variants
        What to serve next. Each must be of a model that was among the server's variants when it
        started, because its container sees the folders of no other.

    Returns
    -------
    RunningServer
        The same Triton with the new variants, each loaded and its configuration checked.

    Raises
    ------
    ServerFailed
        If Triton does not answer, if a variant is not unloaded, does not load, or loads with
        another configuration than requested. The server must not be used any more.
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
        configs=loaded_config.loaded_configs(server.http_port, variants),
        fresh=False,
        ready_s=time.monotonic() - started,
    )
    loaded_config.check_loaded_configs(after.variants, after.asked, after.configs)
    return after


def _unload(server: RunningServer, leaving: Sequence[ServerVariant]) -> None:
    # If only its configuration changed, Triton would load the new model before it unloads the old
    # one. Both would be in the GPU's memory, which may not have room for two.
    position = server.log_path.stat().st_size
    waiting = {
        (variant.model.name, version)
        for variant in leaving
        for version in loaded_config.loaded_versions(server.http_port, variant.model.name)
    }
    for variant in leaving:
        model_repository.remove_overlay(variant, server.repository)

    def gone() -> bool:
        # Over HTTP the model is gone long before its memory is free. Only the log shows that.
        text = server_log.read_from(server.log_path, position)
        return waiting <= unloaded_versions(text)

    what = f"Triton did not unload {len(waiting)} model versions"
    _wait(server, gone, UNLOAD_TIMEOUT_S, what, position)


def _load(server: RunningServer, coming: Mapping[ServerVariant, ModelConfig]) -> None:
    position = server.log_path.stat().st_size
    for variant, config in coming.items():
        model_repository.write_overlay(variant, config, server.repository)

    def ready() -> bool:
        if load_refused(server_log.read_from(server.log_path, position)):
            # Read anew: the line may have been half written.
            raise server_log.load_failure(server_log.read_from(server.log_path, position))
        return all(
            loaded_config.get(server.http_port, path)[0] == 200
            for path in (
                *(f"/v2/models/{variant.model.name}/ready" for variant in coming),
                "/v2/health/ready",
            )
        )

    what = "Triton was not ready with the new variants"
    _wait(server, ready, triton.READY_TIMEOUT_S, what, position)


def unloaded_versions(text: str) -> set[tuple[str, str]]:
    """Return what Triton has unloaded completely.

    Parameters
    ----------
    text
        What it logged since the unloading began.

    Returns
    -------
    set of tuple of str
        (model, version) of each.
    """
    return set(re.findall(r"successfully unloaded '([^']*)' version (\d+)", text))


def load_refused(text: str) -> bool:
    """Return whether Triton could not load a model.

    Parameters
    ----------
    text
        What it logged since the loading began.

    Returns
    -------
    bool
        True if the log says so; then `server_log.load_failure` says why.
    """
    return re.search(r"failed to load '|Poll failed for model directory", text) is not None


def _wait(
    server: RunningServer, condition: Callable[[], bool], timeout_s: float, what: str, position: int
) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not server.alive:
            raise ServerFailed("Triton ended while its variants were swapped", server.log_tail)
        # While Triton loads a model it may answer late or not at all. That is no failure.
        with contextlib.suppress(OSError, http.client.HTTPException):
            if condition():
                return
        time.sleep(0.05)
    why = server_log.still_loading(server_log.read_from(server.log_path, position))
    message = f"{what} within {timeout_s:.0f} s"
    raise ServerFailed(f"{message}: {why}" if why else message, server.log_tail)
