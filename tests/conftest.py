"""What several test files need: the programs under test, real models, and a clean machine after."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from hpcbench.records import validity
from tests.box.fixture import box  # noqa: F401 - a fixture
from tests.helpers.backend_server import server  # noqa: F401 - a fixture
from tests.helpers.paths import CHECKOUT, SHARED
from tests.helpers.real import BUSY
from tests.helpers.traces import mark_session, programs_running, traces
from tests.helpers.waiting import wait_until

# In CI the same code gets the same examples; new ones are found by whoever runs the tests. How long
# an example takes says nothing about the code on a machine that does other things, too.
settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tests")

mark_session()


@pytest.fixture(scope="session")
def native_prefix() -> Path:
    """The folder with Triton and perf_analyzer, installed by `make native`."""
    prefix = Path(os.environ.get("HPCBENCH_NATIVE", CHECKOUT / ".native"))
    assert (prefix / "manifest.json").is_file(), f"{prefix} is not complete: run make native"
    return prefix


@pytest.fixture(scope="session")
def demo_models() -> Path:
    """The demo's model repository, made by its script."""
    repository = CHECKOUT / "jobs" / "demo" / "models"
    assert (repository / "jet_tagger" / "1" / "model.onnx").is_file(), "run make test, or make demo"
    return repository


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Real models of CMS, where they lie beside the checkout."""
    if not (SHARED / "models").is_dir():
        pytest.skip("real models are not there: no ../shared/models beside the checkout")
    return SHARED / "models"


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """The test ends with the programs, folders and shared memory that it began with."""
    running, files = programs_running(), traces()
    yield
    assert wait_until(lambda: not set(programs_running()) - set(running)), programs_running()
    assert wait_until(lambda: not traces() - files), traces() - files


@pytest.fixture
def as_if_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are valid whatever other tests do meanwhile: it is not what this test asks."""
    kept = tuple(rule for rule in validity.RULES if rule.code not in BUSY)
    monkeypatch.setattr(validity, "RULES", kept)


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report has one figure: to draw ten takes longer than what else a test does with it."""
    from hpcbench.analysis.report import page

    monkeypatch.setattr(page, "MOST_FIGURES", 1)


# Before pytest's own, which chooses by -m.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what looks at the whole machine; leave out soaks, unless -m rules on them itself."""
    for item in items:
        if isinstance(item, pytest.Function) and "leaves_nothing" in item.fixturenames:
            item.add_marker("leaves_nothing")
    if "soak" in config.option.markexpr:
        return
    soaks = [item for item in items if item.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=soaks)
    items[:] = [item for item in items if item not in soaks]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where everything is required, a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and os.environ.get("HPCBENCH_REQUIRE_ALL") and exitstatus == 0:
        reporter.write_line(f"{len(skipped)} tests were skipped where all are required", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
