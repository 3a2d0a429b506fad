"""The lock of a session: made of its plan and records, written into its folder, and compared.

See `hpcbench.plan.lock` for what it holds.
"""

import json
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yaml

from hpcbench._version import __version__
from hpcbench.config import yaml_model
from hpcbench.config.container import DOCKER, Container, ResolvedContainer
from hpcbench.config.site import Site
from hpcbench.measure import node
from hpcbench.plan.digest import hash_id
from hpcbench.plan.lock import HEADER, Lock, LockedNode, LockedPoints, LockedSession, as_data
from hpcbench.plan.lock_differences import Difference, differences
from hpcbench.plan.model import TritonModel
from hpcbench.plan.plan import Plan
from hpcbench.plan.point import Point
from hpcbench.plan.secrets import without_secrets
from hpcbench.records import store
from hpcbench.records.distinct import distinct_rows
from hpcbench.records.folder import Results, write_atomically
from hpcbench.records.session import Session
from hpcbench.runtime.command import runtime_of

PACKAGES = (
    *("dask", "distributed", "dask-jobqueue", "numpy", "scipy", "pandas", "pyarrow", "pydantic"),
    *("psutil", "nvidia-ml-py", "tritonclient"),
)
"""Those that measure, or that a metric goes through."""

_PROGRAMS = {
    "triton": "triton_version",
    "perf_analyzer": "perf_analyzer_version",
    "cuda": "cuda_version",
    "tensorrt": "tensorrt_version",
}
_NODE = {
    "name": "node",
    "pool": "pool",
    "gpu": "gpu_name",
    "gpu_count": "gpu_count",
    "gpu_driver": "gpu_driver",
    "cpu": "cpu_name",
    "cpu_count": "cpu_count",
}

COLUMNS = (*_PROGRAMS.values(), *_NODE.values(), "backend_versions")
"""The columns that a lock is made of."""

Row = Mapping[str, Any]


def make_lock(
    todo: Plan, session: Session, rows: Sequence[Row], *, only: Collection[str], complete: bool
) -> Lock:
    """Return the lock of a session.

    Parameters
    ----------
    todo
        What it measures.
    session
        The session.
    rows
        What its records say of programs and nodes: values of `COLUMNS` by name.
    only
        The point_ids that it measures; empty for all.
    complete
        Whether a run of it has come to its end.

    Returns
    -------
    Lock
        Without what looks like a secret in the site.
    """
    return Lock(
        session=LockedSession(
            run_id=session.run_id,
            seed=session.seed,
            started_at=session.started_at,
            complete=complete,
            **_given({"repeats": session.repeats}),
        ),
        pools=tuple(todo.placements),
        **_given({"only": tuple(sorted(only))}),
        points=LockedPoints(
            count=len(todo.grid.points),
            digest=hash_id(*sorted(point.id for point in todo.grid.points)),
        ),
        models=dict(sorted((model.name, model.digest) for model in _models(todo.grid.points))),
        inputs=dict(sorted(set(_inputs(todo.grid.points)))),
        images=dict(_images(todo)),
        versions={
            "hpcbench": __version__,
            "python": platform.python_version(),
            **_programs(rows),
        },
        backends=_backends(rows),
        packages=dict(_packages()),
        nodes=tuple(
            LockedNode(**dict(node))
            for node in sorted({_node(row) for row in rows if row.get("node")}, key=repr)
        ),
        campaign=todo.campaign,
        site=_site_to_pass_on(todo.site),
    )


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Only what there is: the file says nothing of the rest."""
    return {key: value for key, value in values.items() if value not in (None, ())}


def _models(points: Sequence[Point]) -> Iterator[TritonModel]:
    for variant in {variant for point in points for variant in point.served}:
        yield variant.model
        yield from variant.model.composing
        if variant.compared:
            yield variant.compared.reference


def _inputs(points: Sequence[Point]) -> Iterator[tuple[str, str]]:
    for point in points:
        if point.load.input_data_digest:
            yield point.load.input_data, point.load.input_data_digest
        if point.load.request_intervals and point.load.request_intervals_digest:
            yield point.load.request_intervals, point.load.request_intervals_digest
        if point.variant.compared:
            yield point.variant.compared.inputs, point.variant.compared.digest


def _images(todo: Plan) -> Iterator[tuple[str, str]]:
    container = todo.site.container
    software = runtime_of(container).find_software(container)
    if not container.has_images:
        yield "prefix", software.server_digest
        return
    yield "server_image", software.server_digest
    yield "sdk_image", software.sdk_digest
    if isinstance(container, ResolvedContainer):
        yield from container.digests


def _packages() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue  # one of an extra


def _joined(rows: Sequence[Row], column: str) -> str:
    return ", ".join(sorted({row[column] for row in rows if row.get(column)}))


def _programs(rows: Sequence[Row]) -> dict[str, str]:
    found = {name: _joined(rows, column) for name, column in _PROGRAMS.items()}
    return {name: text for name, text in found.items() if text}


def _backends(rows: Sequence[Row]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for text in {row["backend_versions"] for row in rows if row.get("backend_versions")}:
        for name, number in json.loads(text).items():
            if number:
                found.setdefault(name, set()).add(number)
    return {name: ", ".join(sorted(numbers)) for name, numbers in sorted(found.items())}


def _node(row: Row) -> tuple[tuple[str, Any], ...]:
    values = ((name, row.get(column)) for name, column in _NODE.items())
    return tuple((name, value) for name, value in values if value is not None)


def _site_to_pass_on(site: Site) -> Site:
    """Return the site as its file would say it, but by digests and without secrets."""
    data = yaml_model.plain(site)
    data["container"] = _by_digest(data["container"], site.container)
    return Site.model_validate(without_secrets(data))


def _by_digest(data: dict[str, Any], container: Container) -> dict[str, Any]:
    """Name images of registries so that a tag that moves changes nothing."""
    if not isinstance(container, ResolvedContainer):
        return data
    digests = dict(container.digests)
    named = {n: _pinned(image, digests[n]) for n, image in container.server_images}
    return {
        **data,
        "server_image": _pinned(container.images[0], container.server_digest),
        "sdk_image": _pinned(container.images[1], container.sdk_digest),
        **({"server_images": named} if named else {}),
    }


def _pinned(image: str, digest: str) -> str:
    return f"{image}@{digest}" if image.startswith(DOCKER) and "@" not in image else image


def write_lock(
    todo: Plan, session: Session, results: Results, *, only: Collection[str], complete: bool
) -> Lock:
    """Write the lock of a session into its folder.

    Parameters
    ----------
    todo
        What it measures.
    session
        The session.
    results
        The results folder. What its records say of programs and nodes goes into the lock.
    only
        The point_ids that it measures; empty for all.
    complete
        Whether the run has come to its end.

    Returns
    -------
    Lock
        What the file holds from now on.
    """
    lock = make_lock(todo, session, _rows(results, session), only=only, complete=complete)
    path = results.campaign_lock
    text = yaml.safe_dump(as_data(lock), sort_keys=False, allow_unicode=True)
    header = HEADER.format(run_id=session.run_id, name=path.name)
    write_atomically(path, f"{header}{text}".encode())
    return lock


def _rows(results: Results, session: Session) -> list[Row]:
    """What the records of a session say of programs and nodes, each combination once."""
    # What is damaged was reported where the run began.
    names = ("run_id", *COLUMNS)
    table = store.read_table(results.folder, names, on_damage=lambda _: None)
    rows = [dict(zip(names, row, strict=True)) for row in distinct_rows(table)]
    return [row for row in rows if row["run_id"] == session.run_id]


def differences_before(before: Lock, todo: Plan) -> list[Difference]:
    """Return what is different from a lock, as far as it is known before anything is measured.

    Parameters
    ----------
    before
        The lock.
    todo
        The plan of the session that repeats it.

    Returns
    -------
    list of Difference
        Of nodes and drivers only where workers run on this host.
    """
    its = before.session
    session = Session(its.run_id, its.seed, its.started_at, adopts=False)
    rows = _this_node(todo.site, list(todo.placements))
    now = make_lock(todo, session, rows, only=before.only, complete=False)
    return differences(before, now)


def _this_node(site: Site, pools: Sequence[str]) -> list[Mapping[str, Any]]:
    if site.scheduler != "local":
        return []
    return [node.node_columns() | {"pool": pool} for pool in pools]
