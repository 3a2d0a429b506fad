"""How each component of the native prefix is made and checked.

Standard library only. Each step can be repeated: it builds beside the old one, or removes it first.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from native_libraries import STUB, WHEEL_TRITON, link_analyzer_libraries, link_stub_libraries
from native_tools import (
    CHECK_TIMEOUT_S,
    Result,
    Workplace,
    die_with_parent,
    fetch_wheel,
    lock_file,
    running_python,
    say,
    unzip,
)
from pins import CannotServeError, Wheel, digest, module_name, python_packages

BACKENDS = Path(__file__).resolve().parent / "backends"

TRITON_WRAPPER = """\
#!/bin/sh
# The stub of the python backend takes its packages from the environment that is first in PATH.
prefix=$(dirname "$(dirname "$(readlink -f "$0")")") || exit 1
unset PYTHONHOME
PATH="$prefix/python/bin:$PATH"
# A measurement must not send anything anywhere.
ORT_DISABLE_TELEMETRY=1
export PATH ORT_DISABLE_TELEMETRY
exec "$prefix/triton/pytriton/tritonserver/bin/tritonserver" \\
    --backend-directory="$prefix/backends" \\
    --cache-directory="$prefix/triton/pytriton/tritonserver/caches" "$@"
"""
ANALYZER_WRAPPER = """\
#!/bin/sh
prefix=$(dirname "$(dirname "$(readlink -f "$0")")") || exit 1
LD_LIBRARY_PATH="$prefix/perf_analyzer/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec "$prefix/perf_analyzer/perf_analyzer" "$@"
"""
EXTRAS_SIZE = {
    "pytorch": "200 MB as CPU build, several GB where only the CUDA build is offered",
    "tensorflow": "about 300 MB, 1.6 GB unpacked",
}
PROBE_CONFIG = """\
backend: "python"
max_batch_size: 0
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
PROBE_MODEL = """\
import os
import {imports}
class TritonPythonModel:
    def initialize(self, args):
        with open(os.path.join(os.environ["HPCBENCH_PROBE"], "ok"), "w") as mark:
            mark.write("ok")
    def execute(self, requests):
        return []
"""

# Appended to the module that Triton gives to every Python model: models of the python backend
# itself exchange tensors through numpy, which numpy 2 makes silently wrong.
PLAIN_MODEL_GUARD = """

def _refuse_numpy_2():
    import os
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().decode(errors="replace").split("\\0")
    plain = len(words) > 1 and words[1].endswith(".py")
    if plain and int(np.__version__.split(".")[0]) > 1 and "HPCBENCH_PROBE" not in os.environ:
        raise RuntimeError(
            "hpcbench: not applicable: models of Triton's python backend need numpy 1, which this "
            "Python has not; install the native prefix with Python 3.11 or 3.12"
        )


_refuse_numpy_2()
"""


def make_environment(place: Workplace) -> None:
    """The virtual environment that the backends' code runs in."""
    folder = place.prefix / "python"
    shutil.rmtree(folder, ignore_errors=True)
    say("making the Python environment of the backends")
    if importlib.util.find_spec("ensurepip") is None:
        _install_ensurepip(place)
    # venv's own child outlives a killed installation; it must not write where the next one builds.
    new = place.scratch / "python"
    result = place.run(sys.executable, "-I", "-m", "venv", new, timeout_s=600)
    if result.code != 0:
        raise CannotServeError(
            f"'{sys.executable} -m venv {new}' failed. {_venv_hint()} It said:\n{result.tail()}"
        )
    for script in (*new.glob("bin/pip*"), *new.glob("bin/[aA]ctivate*")):
        script.unlink()
    new.rename(folder)
    packages = python_packages(place.pins, running_python())
    what = ", ".join(f"{name} {version}" for name, version in packages.items())
    say(f"fetching {what} (about 50 MB)")
    place.pip_install_locked("base", what)


def _venv_hint() -> str:
    return (
        f"On Debian or Ubuntu: apt-get install python{running_python()}-venv (as root). Elsewhere: "
        "use a Python whose venv and ensurepip modules are complete."
    )


def _install_ensurepip(place: Workplace) -> None:
    package = f"python{running_python()}-venv"
    debian = shutil.which("apt-get") is not None and sys.base_prefix == "/usr"
    if not debian or os.geteuid() != 0:
        raise CannotServeError(f"{sys.executable} has no ensurepip module. {_venv_hint()}")
    say(f"installing {package} with apt-get")
    install = ("apt-get", "install", "-y", "-q", "--no-install-recommends", package)
    if place.run(*install, timeout_s=600).code != 0:
        place.run("apt-get", "update", "-q", timeout_s=600)
        result = place.run(*install, timeout_s=600)
        if result.code != 0:
            raise CannotServeError(f"'{shlex.join(install)}' failed. It said:\n{result.tail()}")


def make_extra(place: Workplace, name: str) -> None:
    """Add an extra's packages to the environment."""
    packages = place.pins.extras[name]
    what = ", ".join(f"{package} {version}" for package, version in packages.items())
    say(f"fetching {what} ({EXTRAS_SIZE[name]})")
    if lock_file(name).exists():
        place.pip_install_locked(name, what)
        return
    # Which wheel of it a registry has, for CPUs or for GPUs, is not known here: no hash can be.
    # The environment's own pins again, so that pip changes none of them for the extra's sake.
    place.pip_install({**python_packages(place.pins, running_python()), **packages}, what)


def make_triton(place: Workplace) -> None:
    """Triton from its wheel, with the stub of the environment's Python."""
    new = place.scratch / "triton"
    wheel = fetch_wheel(place, place.pins.triton)
    say("unpacking Triton (150 MB)")
    unzip(wheel, new, _keep_of_triton)
    wheel.unlink()
    target = place.prefix / "triton"
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)
    tree = place.prefix / WHEEL_TRITON
    shutil.copy2(
        tree / f"python_backend_stubs/{running_python()}/triton_python_backend_stub",
        place.prefix / STUB,
    )
    guard = tree / "backends/python/triton_python_backend_utils.py"
    guard.write_text(guard.read_text(encoding="utf-8") + PLAIN_MODEL_GUARD, encoding="utf-8")
    link_stub_libraries(place)


def _keep_of_triton(name: str) -> str | None:
    kept = ("nvidia_pytriton.libs/", "pytriton/tritonserver/")
    return name if name.startswith(kept) or "/licenses/" in name else None


def make_perf_analyzer(place: Workplace, wheel: Wheel) -> None:
    """perf_analyzer from its wheel, with the libraries that the machine lacks from Triton's."""
    archive = fetch_wheel(place, wheel)
    folder = place.prefix / "perf_analyzer"
    shutil.rmtree(folder, ignore_errors=True)
    unzip(archive, folder, lambda n: Path(n).name if n.endswith("/bin/perf_analyzer") else None)
    archive.unlink()
    (folder / "lib").mkdir()
    program = place.prefix / "bin/perf_analyzer"
    write_program(program, ANALYZER_WRAPPER)
    link_analyzer_libraries(place)


def make_backends(place: Workplace) -> None:
    """The backend folder: Triton's own python backend, and ours beside it."""
    new = place.scratch / "backends"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    # A copy would lose its libraries, which it finds relative to its own place.
    (new / "python").symlink_to(Path("..") / WHEEL_TRITON / "backends/python")
    for name in backend_names():
        (new / name).mkdir()
        for source in backend_files(name):
            shutil.copyfile(source, new / name / source.name)
    # Written with the backends, it is renewed where an older prefix is brought up to date.
    write_program(place.prefix / "bin/tritonserver", TRITON_WRAPPER)
    target = place.prefix / "backends"
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)


def backend_names() -> list[str]:
    return sorted(path.parent.name for path in BACKENDS.glob("*/model.py"))


def backend_files(name: str) -> list[Path]:
    """The files that make up one backend, model.py first."""
    return [BACKENDS / name / "model.py", *sorted((BACKENDS / "shared").glob("*.py"))]


def write_program(path: Path, text: str) -> None:
    """Write an executable file in one step."""
    path.parent.mkdir(exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o755)
    new.rename(path)


def check(place: Workplace, extras: list[str]) -> dict[str, str]:
    """Run what was installed and return the versions that it reports. Raises CannotServeError."""
    say("checking what was installed by running it")
    analyzer = place.run(place.prefix / "bin/perf_analyzer", "--version")
    seen = re.search(r"Perf Analyzer Version (\S+)", analyzer.text)
    if analyzer.code != 0 or seen is None:
        raise CannotServeError(f"perf_analyzer does not run here. It said:\n{analyzer.tail()}")
    packages = python_packages(place.pins, running_python())
    for extra in extras:
        packages.update(place.pins.extras[extra])
    modules = [module_name(package) for package in packages]
    lines = [f"import {name}; print('{name}', {name}.__version__)" for name in modules]
    lines.append("import platform; print('python', platform.python_version())")
    result = place.run(place.python, "-I", "-c", "\n".join(lines))
    if result.code != 0:
        raise CannotServeError(
            f"The backends' packages do not import. Python said:\n{result.tail()}"
        )
    versions = dict(line.split(" ", 1) for line in result.text.splitlines() if line.count(" ") == 1)
    _check_server(place, modules)
    return {
        "tritonserver": place.pins.triton.version,
        "perf_analyzer": seen.group(1),
        "python": versions["python"],
        **{name: versions[name] for name in modules},
    }


def _check_server(place: Workplace, packages: list[str]) -> None:
    """Start Triton without ports on a model that imports what the backends import."""
    folder = place.scratch / "probe"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models/probe/1").mkdir(parents=True)
    (folder / "models/probe/config.pbtxt").write_text(PROBE_CONFIG, encoding="utf-8")
    (folder / "models/probe/1/model.py").write_text(
        PROBE_MODEL.replace("{imports}", ", ".join(packages)), encoding="utf-8"
    )
    # A name of its own, so that what a killed check leaves in shared memory can be removed.
    region = f"hpcbench_probe_{digest({'prefix': str(place.prefix)})}_"
    _remove_regions(region)
    flags = [
        f"--backend-config=python,shm-region-prefix-name={region}",
        # Half a minute, the default, is too short to read TensorFlow for the first time from a disk
        # that others use.
        f"--backend-config=python,stub-timeout-seconds={CHECK_TIMEOUT_S:.0f}",
        "--allow-http=false",
        "--allow-grpc=false",
        "--allow-metrics=false",
    ]
    program = place.prefix / "bin/tritonserver"
    log = folder / "log"
    with log.open("wb") as sink:
        server = subprocess.Popen(
            [program, f"--model-repository={folder / 'models'}", "--exit-timeout-secs=5", *flags],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HPCBENCH_PROBE": str(folder)},
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - no threads here
        )
    try:
        end = time.monotonic() + CHECK_TIMEOUT_S
        while server.poll() is None and time.monotonic() < end:
            if b"| READY" in log.read_bytes():
                break
            time.sleep(0.05)
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        # Before it has loaded its models Triton dies of SIGTERM at once and leaves its stubs.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        _remove_regions(region)
    if not (folder / "ok").exists():
        text = log.read_text(encoding="utf-8", errors="replace")
        failures = [
            line for line in text.splitlines() if line[:1] == "E" and "failed to load" in line
        ]
        said = "\n".join(failures).replace("\\n", "\n") or Result(server.returncode, text).tail(20)
        raise CannotServeError(f"tritonserver does not serve a model here. It said:\n{said}")


def _remove_regions(name: str) -> None:
    for path in Path("/dev/shm").glob(f"{name}*"):
        path.unlink(missing_ok=True)
