"""What hpcbench takes from below Dask's public names is still there, and does what it did.

Where one of these fails with a new release, `hpcbench.cluster.dask_internals` has to change before
the cap in pyproject.toml may.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import itertools
import re
import ssl
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import dask
import pytest
from dask_jobqueue import HTCondorCluster, SLURMCluster
from dask_jobqueue.core import Job as DaskJob
from dask_jobqueue.core import JobQueueCluster
from distributed import (
    Client,
    LocalCluster,
    Scheduler,
    SpecCluster,
    Worker,
    get_worker,
    utils,
)
from distributed.deploy.spec import ProcessInterface
from distributed.security import Security
from packaging.requirements import Requirement

from hpcbench.cluster import batch, dask_config, dask_internals
from hpcbench.cluster import fork_server as fork_server_module
from hpcbench.cluster.dask_config import dask_settings
from hpcbench.cluster.dask_internals import (
    ConnectedWorkers,
    forked_workers,
    jobqueue_settings,
    reporting_cluster,
    submit_task,
    survive_closed_connections,
)
from hpcbench.cluster.fork_server import fork_server
from hpcbench.cluster.submission import SUBMISSIONS, SubmissionGate
from tests.helpers.paths import CHECKOUT
from tests.helpers.stranger import as_stranger, needs_root
from tests.helpers.waiting import wait_until

BELOW = {"job_cls", "new_spec", "worker_spec"}
"""Names without an underscore that no manual of Dask's has."""

PUBLIC_OF_SCHEDULERS = {"add_plugin"}


def private_names(tree: ast.Module) -> Iterator[str]:
    """What a module takes from below the public names of dask, distributed and dask_jobqueue.

    Nothing says of which type an object is: so any private name of an object that is not the
    module's own counts, and any attribute of what is called a scheduler.
    """
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if is_dask(module):
                yield from filter(is_private, [*module.split("."), *(each.name for each in names)])
            case ast.Import(names=names):
                modules = [each.name for each in names if is_dask(each.name)]
                yield from (x for name in modules for x in name.split(".") if is_private(x))
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                yield from {name} & BELOW
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=name):
                scheduler = owner.strip("_") == "scheduler" and name not in PUBLIC_OF_SCHEDULERS
                if scheduler or is_private(name) or name in BELOW:
                    yield f"{owner}.{name}"
            case ast.Attribute(attr=name) if is_private(name) or name in BELOW:
                yield name
            case ast.Call(func=ast.Attribute(attr="submit" | "map"), keywords=given):
                yield from (str(each.arg) for each in given if is_private(str(each.arg)))


def is_dask(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in ("dask", "distributed", "dask_jobqueue")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from distributed.deploy import _helpers", ["_helpers"]),
        ("import dask._internal", ["_internal"]),
        ("def f(client):\n    client._send_to_scheduler({})", ["client._send_to_scheduler"]),
        ("self.cluster.scheduler.workers", ["scheduler.workers"]),
        ("len(scheduler.tasks)", ["scheduler.tasks"]),
        ("get_worker()._stimulus", ["_stimulus"]),
        ("client.submit(f, _data_producer=True)", ["_data_producer"]),
        ("self.worker_spec", ["worker_spec"]),
        ("cluster.scheduler.add_plugin(self._plugin)", []),
        ("from distributed import get_worker\nget_worker().name", []),
    ],
)
def test_what_is_private_is_found(text: str, found: list[str]) -> None:
    assert list(private_names(ast.parse(text))) == found


def test_private_names_of_dask_stand_in_one_module() -> None:
    package = CHECKOUT / "hpcbench"
    paths = [*(package / "cluster").glob("*.py"), *(package / "doctor").glob("*.py")]
    found = {path.name: set(private_names(ast.parse(path.read_text()))) for path in paths}
    here = {name.rpartition(".")[2] for name in found.pop("dask_internals.py")}
    assert here > BELOW, "a name that is not used any more"
    assert {name: names for name, names in found.items() if names} == {}
    others = [path for path in package.rglob("*.py") if path not in paths]
    imports = re.compile(r"^\s*(from|import) (dask|distributed|dask_jobqueue)\b", re.MULTILINE)
    assert [path for path in others if imports.search(path.read_text())] == []


@pytest.mark.parametrize("name", ["dask", "distributed", "dask-jobqueue"])
def test_the_installed_version_is_one_that_is_allowed_and_newer_ones_are_not(name: str) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    (wanted,) = [each for each in map(Requirement, project["dependencies"]) if each.name == name]
    assert version(name) in wanted.specifier
    assert "<" in {each.operator for each in wanted.specifier}


# Settings


def test_dask_knows_each_setting() -> None:
    for key in dask_config.SETTINGS:
        assert dask.config.get(key, default=None) is not None, key


def test_the_settings_hold_in_the_block_only() -> None:
    key = "distributed.scheduler.work-stealing"
    before = dask.config.get(key)
    with dask_settings():
        assert dask.config.get(key) is False
    assert dask.config.get(key) == before


def test_workers_are_forked_and_dask_adds_nothing_to_what_the_server_imports() -> None:
    assert hasattr(utils, "_forkserver_preload_set")
    with forked_workers(), fork_server():
        before = list(forkserver._forkserver._preload_modules)
        assert utils.get_mp_context().get_start_method() == "forkserver"
        assert forkserver._forkserver._preload_modules == before == fork_server_module._PRELOADED
    assert dask.config.get("distributed.worker.multiprocessing-method") == "spawn"


def test_the_package_has_its_defaults_in_a_file_with_a_section_for_each_system() -> None:
    with jobqueue_settings():
        for cls in (SLURMCluster, HTCondorCluster):
            section = dask.config.get(f"jobqueue.{cls.job_cls.config_name}")
            assert section["name"] == "dask-worker"
            assert section.get("walltime") is None


# TLS


def test_every_tls_context_ignores_a_peer_that_goes_without_a_word() -> None:
    survive_closed_connections()
    survive_closed_connections()
    security = Security.temporary()
    for role in ("client", "scheduler", "worker"):
        for args in (
            security.get_connection_args(role)["ssl_context"],
            security.get_listen_args("scheduler")["ssl_context"],
        ):
            assert args.options & ssl.OP_IGNORE_UNEXPECTED_EOF


# Who is connected, asked from another thread than the scheduler's


GO = threading.Event()
"""Of this process, in which workers are threads."""


def _wait_for_go() -> bool:
    return GO.wait(200)


def test_workers_are_known_by_name_while_they_are_there_and_remembered() -> None:
    workers = ConnectedWorkers()
    with (
        LocalCluster(
            n_workers=2, processes=False, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scheduler.add_plugin(workers)
        assert workers.names == frozenset(), "those of before are not seen"
        cluster.scale(4)
        assert wait_until(lambda: workers.names == {"2", "3"} and len(cluster.workers) == 4)
        GO.clear()
        busy = client.submit(_wait_for_go, workers=[cluster.workers[2].worker_address])
        try:
            assert wait_until(lambda: workers.idle == ["3"])
        finally:
            GO.set()
        assert busy.result()
        cluster.scale(2)
        assert wait_until(lambda: workers.names == frozenset())
    assert workers.ever == {"2", "3"}


def test_it_can_be_asked_while_workers_come_and_go() -> None:
    class State:
        def __init__(self, name: str) -> None:
            self.name = name
            self.processing: dict[str, Any] = {}

    class Scheduler:
        def __init__(self) -> None:
            self.workers = {f"tls://{number}": State(str(number)) for number in range(200)}

    scheduler = Scheduler()
    workers, stop = ConnectedWorkers(), threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for address in scheduler.workers:
                workers.add_worker(scheduler, address)
            for address in scheduler.workers:
                workers.remove_worker(scheduler, address, stimulus_id="left")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        seen = [len(workers.names) + len(workers.idle) for _ in range(2000)]
    finally:
        stop.set()
        thread.join()
    assert max(seen) > 0


# Tasks


GO = threading.Event()
"""Of this process, in which workers are threads."""


def _wait_for_go() -> bool:
    return GO.wait(200)


def test_a_task_waits_on_the_scheduler_until_a_worker_is_free() -> None:
    with (
        dask_settings(),
        LocalCluster(
            n_workers=1, processes=False, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        GO.clear()
        futures = [submit_task(client, _wait_for_go, key=f"task-{n}") for n in range(3)]
        scheduler = cluster.scheduler
        try:
            assert wait_until(lambda: len(scheduler.queued) == 2)
            (worker,) = scheduler.workers.values()
            assert len(worker.processing) == 1, "another is on the busy worker, and dies with it"
        finally:
            GO.set()
        assert client.gather(futures) == [True] * 3


def test_a_task_goes_to_the_worker_that_it_is_given_to_or_to_any_where_that_is_gone() -> None:
    names = ("run-0", "run-1", "run-2")
    spec = {
        name: {"cls": Worker, "options": {"nthreads": 1, "host": "127.0.0.1"}} for name in names
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard": False, "port": 0}}
    with (
        dask_settings(),
        SpecCluster(workers=spec, scheduler=scheduler) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(3)

        def where() -> str:
            return str(get_worker().name)

        for name in (*names, *reversed(names)):
            done = submit_task(client, where, key=f"{name}-{time.monotonic_ns()}", worker=name)
            assert done.result(timeout=120) == name
        done = submit_task(client, where, key="gone", worker="run-3")
        assert done.result(timeout=120) in names


def test_a_task_whose_worker_went_before_others_came_waits_until_it_is_cancelled() -> None:
    workers = {"run-1": {"cls": Worker, "options": {"nthreads": 1, "host": "127.0.0.1"}}}
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard": False, "port": 0}}
    ended: list[Any] = []
    with (
        dask_settings(),
        SpecCluster(workers={}, scheduler=scheduler) as cluster,
        Client(cluster) as client,
    ):
        waiting = submit_task(client, max, 1, 2, key="waiting", worker="run-0")
        assert wait_until(lambda: bool(cluster.scheduler.unrunnable))
        cluster.worker_spec.update(workers)
        cluster.sync(cluster._correct_state)
        client.wait_for_workers(1)
        assert submit_task(client, max, 1, 2, key="done").result(timeout=120) == 2
        # Where this fails, Dask has mended it, and nobody need cancel any more.
        assert waiting.status == "pending"
        waiting.add_done_callback(ended.append)
        waiting.cancel()
        assert wait_until(lambda: ended == [waiting])
        assert waiting.cancelled()


def test_the_worker_of_a_job_is_started_by_the_function_behind_dask_worker() -> None:
    from distributed.cli.dask_worker import main

    options = {name for each in main.params for name in each.opts}
    wanted = {"--name", "--nthreads", "--memory-limit", "--death-timeout", "--dashboard-address"}
    wanted |= {"--worker-port", "--nanny-port", "--interface", "--protocol"}
    assert options >= wanted | {"--tls-ca-file", "--tls-cert", "--tls-key"}


# Clusters


def test_the_classes_have_the_methods_that_are_replaced() -> None:
    """A mixin whose method nobody calls any more would be of no use, and silent."""
    assert issubclass(DaskJob, ProcessInterface)
    assert "self._call(" in inspect.getsource(DaskJob._submit_job)
    assert "_get_worker_security(" in inspect.getsource(JobQueueCluster.__init__)
    assert "self._new_worker_name(" in inspect.getsource(SpecCluster.new_worker_spec)
    assert "self.new_worker_spec(" in inspect.getsource(SpecCluster.scale)
    assert {"n", "jobs"} <= set(inspect.signature(JobQueueCluster.scale).parameters)
    for cls in (SLURMCluster, HTCondorCluster):
        assert issubclass(cls.job_cls, DaskJob)
        assert "_call" not in vars(cls.job_cls)
    assert HTCondorCluster.job_cls.executable == "/bin/sh", "what is replaced by bash"


@pytest.fixture
def cluster() -> Any:
    """A cluster of dask-jobqueue's whose jobs are not processes."""
    cls = reporting_cluster(SLURMCluster, gate_of({}), batch.system("slurm"))
    with dask_settings(), jobqueue_settings(), closed(cls) as made:
        yield made


def closed(cls: Any) -> Any:
    """Such a cluster without TLS."""
    return cls(
        worker_security=None,
        name="pool",
        cores=1,
        memory="1 GB",
        interface="lo",
        scheduler_options={"dashboard_address": None},
    )


def gate_of(accepted: dict[str, str], *, is_open: bool = False) -> SubmissionGate:
    """A gate, closed as long as nobody is to be asked."""
    gate = SubmissionGate(accepted.__setitem__)
    if not is_open:
        gate.close()
    return gate


def test_jobs_are_planned_forgotten_and_never_named_twice(cluster: Any) -> None:
    cluster.add_jobs(2)
    assert wait_until(lambda: len(cluster.workers) == 2)
    first = cluster.planned_jobs()
    assert all(name.startswith("pool-") for name in first)
    cluster.forget_jobs([first[0], "unknown"])
    assert cluster.planned_jobs() == first[1:]
    assert list(cluster.workers) == first[1:]
    cluster.add_jobs(1)
    assert wait_until(lambda: len(cluster.workers) == 2)
    assert first[0] not in cluster.planned_jobs()


def test_changed_settings_are_those_of_further_jobs(cluster: Any) -> None:
    cluster.change_job_settings({"job_extra_directives": ["--exclude=n1"]})
    cluster.add_jobs(1)
    assert wait_until(lambda: cluster.workers)
    (job,) = cluster.workers.values()
    assert "#SBATCH --exclude=n1" in job.job_script()


def test_a_worker_that_is_retired_is_closed() -> None:
    with LocalCluster(
        n_workers=1, processes=False, threads_per_worker=1, dashboard_address=None
    ) as local:
        retire = dask_internals._ReportingCluster.retire_worker
        assert wait_until(lambda: local.scheduler.workers)
        retire(local, 0)
        assert wait_until(lambda: not local.scheduler.workers)


def test_a_cluster_that_cannot_start_leaves_no_thread() -> None:
    before = threading.active_count()
    cls = reporting_cluster(SLURMCluster, gate_of({}), batch.system("slurm"))
    with dask_settings(), jobqueue_settings(), pytest.raises(RuntimeError):
        cls(worker_security=None, cores=1, memory="1 GB", interface="no such interface")
    assert wait_until(lambda: threading.active_count() <= before)


# Submissions


class System:
    """In the place of a batch system: takes so many jobs, and then refuses."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit = limit
        self.asked = 0
        self.together = 0
        self.under_way = 0


def submit(names: list[str], gate: SubmissionGate, system: System) -> None:
    class Job(ProcessInterface):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        async def start(self) -> None:
            system.asked += 1
            refused = system.asked > system.limit
            system.under_way += 1
            system.together = max(system.together, system.under_way)
            await asyncio.sleep(0.001)
            system.under_way -= 1
            if refused:
                raise RuntimeError("QOSMaxSubmitJobPerUserLimit")
            self.job_id = str(next(numbers))
            await super().start()

    numbers = itertools.count(1)
    jobs = reporting_cluster(
        type("Cluster", (), {"job_cls": Job}), gate, batch.system("slurm")
    ).job_cls

    async def all_of_them() -> None:
        await asyncio.gather(*(jobs(name=name) for name in names))

    asyncio.run(all_of_them())


@pytest.fixture
def taken() -> dict[str, str]:
    return {}


@pytest.fixture
def gate(taken: dict[str, str]) -> SubmissionGate:
    return gate_of(taken, is_open=True)


NAMES = [f"w{number}" for number in range(100)]


def test_jobs_are_submitted_a_few_at_a_time(gate: SubmissionGate, taken: dict[str, Any]) -> None:
    system = System()
    submit(NAMES, gate, system)
    assert taken.keys() == set(NAMES)
    assert (system.asked, system.together) == (100, SUBMISSIONS)
    assert gate.refusals() == {}


def test_after_a_refusal_the_batch_system_is_not_asked_for_the_rest(
    gate: SubmissionGate, taken: dict[str, Any]
) -> None:
    system = System(limit=10)
    submit(NAMES, gate, system)
    assert len(taken) == 10
    assert system.asked < 10 + 2 * SUBMISSIONS
    refused = gate.refusals()
    assert refused.keys() == set(NAMES) - taken.keys()
    assert set(refused.values()) == {"QOSMaxSubmitJobPerUserLimit"}
    submit(["later"], gate, System())
    assert "later" in taken, "what was heard is forgotten"


def test_jobs_that_are_not_wanted_any_more_are_not_submitted(
    gate: SubmissionGate, taken: dict[str, Any]
) -> None:
    gate.withdraw(NAMES[5:])
    submit(NAMES, gate, System())
    assert taken.keys() == set(NAMES[:5])
    assert gate.refusals() == {}


def test_a_run_that_ends_submits_nothing(gate: SubmissionGate, taken: dict[str, Any]) -> None:
    gate.close()
    submit(NAMES, gate, System())
    assert not taken


# Job scripts


@needs_root
def test_another_user_neither_reads_nor_replaces_a_job_script(cluster: Any, tmp_path: Path) -> None:
    """Between being written and being read by the command that submits, it is in a shared /tmp."""
    cluster.add_jobs(1)
    assert wait_until(lambda: cluster.workers)
    (job,) = cluster.workers.values()
    before = tempfile.tempdir
    tempfile.tempdir = str(tmp_path)
    try:
        with job.job_file() as path:
            attack = 'mv "$1" "$1.old" 2>/dev/null || true; cat "$1"/* 2>/dev/null || echo kept'
            assert as_stranger(attack, Path(path).parent, folder=tmp_path) == "kept\n"
            assert "#SBATCH" in Path(path).read_text()
    finally:
        tempfile.tempdir = before
    assert not Path(path).parent.exists()
