"""Builds the box's root folder, in stages that are redone only when what they are made of changed.

root: Debian, from packages.txt. accounts: Slurm's accounting database. python: hpcbench's
dependencies. native: Triton and perf_analyzer. podman: podman-hpc. A stage's stamp is written when
it is complete, so an interrupted build goes on where it stopped.
"""

import concurrent.futures
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import hostside
from paths import CHECKOUT, HERE, USER, USER_ID, BoxError, Places, logged, say
from world import BUILDING, built_in, environment

NEEDED_BYTES = 3_000_000_000

# Only the named packages come from sid, and nothing that trixie has is taken from there.
PIN = """Package: *
Pin: release n=sid
Pin-Priority: -1

Package: {names}
Pin: release n=sid
Pin-Priority: 600
"""

# Run by mmdebstrap, with the root folder as $1.
BEFORE = r"""
sed -n '1s/ trixie / sid /p' "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/sid.list"
cp "$HPCBENCH_BOX_PIN" "$1/etc/apt/preferences.d/sid"
"""
AFTER = rf"""
# The whole mariadb-server, which would make this user, brings 200 MB that nothing here uses.
chroot "$1" useradd --system --no-create-home --home-dir /nonexistent mysql
chroot "$1" useradd --uid {USER_ID} --create-home --shell /bin/bash {USER}
sed -i 's/^root default capabilities =.*/root default capabilities = no/' \
    "$1/etc/apptainer/apptainer.conf"
cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/ca-certificates.crt" || true
mkdir -p "$1/opt"
"""
LEAVE_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")


def packages() -> dict[str, list[str]]:
    """The packages of each suite."""
    found: dict[str, list[str]] = {}
    for line in (HERE / "packages.txt").read_text().splitlines():
        suite, _, names = line.partition(":")
        if names and not line.startswith("#"):
            found.setdefault(suite, []).extend(names.split())
    return found


def _digest(files: Iterable[Path], *texts: str) -> str:
    digest = hashlib.sha256("\0".join(texts).encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def definitions() -> dict[str, str]:
    """What each stage is made of, as a hash."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    # From another checkout, hpcbench lies elsewhere: the box's Python then needs another link.
    python = [str(CHECKOUT), *project["dependencies"], json.dumps(project["scripts"])]
    inside = [HERE / "inside" / "accounts.sh", HERE / "inside" / "common.sh"]
    containers = CHECKOUT / "containers"
    native = [*containers.glob("native*.py"), *containers.glob("backends/**/*.py")]
    native += [containers / "pins.py", containers / "versions.toml"]
    return {
        "root": _digest([HERE / "packages.txt"], BEFORE, AFTER, PIN),
        "accounts": _digest([*inside, HERE / "etc/slurmdbd.conf", HERE / "etc/mariadb.cnf"]),
        "python": _digest([], *python),
        "native": _digest(sorted(native)),
        "podman": _digest([HERE / "inside" / "podman.sh"]),
    }


def missing(places: Places) -> list[str]:
    """The stages that are not there, or are made of something else than now."""
    stamps = places.root / ".stages"
    wanted = definitions()
    todo = []
    for stage, digest in wanted.items():
        stamp = stamps / stage
        if "root" in todo or not stamp.is_file() or stamp.read_text() != digest:
            todo.append(stage)
    return todo


def build(places: Places) -> None:
    """Makes what is missing."""
    todo = missing(places)
    if not todo:
        return
    digests = definitions()
    free = shutil.disk_usage(places.home).free
    if "root" in todo and free < NEEDED_BYTES:
        raise BoxError(
            f"the disk of {places.home} has {free / 1e9:.1f} GB free, and the box needs "
            f"{NEEDED_BYTES / 1e9:.0f}. Free some, or name a folder elsewhere in HPCBENCH_BOX."
        )
    say(f"building {', '.join(todo)} in {places.home} (logs in {places.logs})")
    places.logs.mkdir(parents=True, exist_ok=True)
    if "root" in todo:
        _make("root", _make_root, places, digests["root"])
        todo.remove("root")
    binds = hostside.pip_paths()
    with (
        built_in(places, binds) as enter,
        concurrent.futures.ThreadPoolExecutor(len(todo) or 1) as pool,
    ):
        makers: dict[str, Callable[[Places], None]] = {
            "accounts": lambda places: _make_accounts(places, enter),
            "python": lambda places: _make_python(places, enter),
            "native": lambda places: _make_native(places, enter),
            "podman": lambda places: _make_podman(places, enter),
        }
        done = [pool.submit(_make, stage, makers[stage], places, digests[stage]) for stage in todo]
        for result in done:
            result.result()


def copy(places: Places, other: Places) -> None:
    """Makes another box from one, unless it has the same stages already."""
    if not missing(other):
        return
    started = time.monotonic()
    other.home.mkdir(exist_ok=True)
    remove_root(other)
    # Under another name until it is complete: the stamps of its stages come with it.
    part = Places(other.home / "part")
    remove_root(part)
    part.root.parent.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(places.root), str(part.root)], check=True)
    part.root.rename(other.root)
    say(f"  {other.home.name}: {time.monotonic() - started:.0f} s")


def _make(stage: str, make: Callable[[Places], None], places: Places, digest: str) -> None:
    started = time.monotonic()
    (places.root / ".stages" / stage).unlink(missing_ok=True)
    make(places)
    (places.root / ".stages").mkdir(exist_ok=True)
    (places.root / ".stages" / stage).write_text(digest)
    say(f"  {stage}: {time.monotonic() - started:.0f} s")


def remove_root(places: Places) -> None:
    """Deletes the root folder; never anything that is mounted in it."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mounted = line.split()[4]
        if mounted.startswith(f"{places.root}/") or mounted == str(places.root):
            raise BoxError(f"{mounted} is mounted; unmount it first: umount -l {mounted}")
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(places.root)], check=True)


def _make_root(places: Places) -> None:
    hostside.install_mmdebstrap(places.logs / "build-root.log")
    remove_root(places)
    suites = packages()
    pin = places.home / "sid.pin"
    pin.write_text(PIN.format(names=" ".join(suites["sid"])))
    command = [
        *BUILDING,
        *("mmdebstrap", "--mode=root", "--variant=minbase"),
        f"--include={' '.join(suites['trixie'] + suites['sid'])}",
        # sid's index is sometimes past its date on a mirror that lags behind.
        *('--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=APT::Install-Recommends "0"'),
        *(f"--aptopt={line}" for line in hostside.apt_proxies()),
        *("--dpkgopt=force-unsafe-io", *(f"--dpkgopt=path-exclude={path}" for path in LEAVE_OUT)),
        *(f"--setup-hook={BEFORE}", f"--customize-hook={AFTER}"),
        *("trixie", str(places.root)),
    ]
    mirror = hostside.debian_mirror()
    if mirror:
        command.append(f"deb {mirror} trixie main")
    env = {**os.environ, "HPCBENCH_BOX_PIN": str(pin), "DEBIAN_FRONTEND": "noninteractive"}
    logged(command, places.logs / "build-root.log", "making a Debian root folder", env)


def _make_accounts(places: Places, enter: list[str]) -> None:
    script = str(HERE / "inside" / "accounts.sh")
    log = places.logs / "build-accounts.log"
    logged([*enter, "bash", script], log, "making Slurm's accounting database", None)


def _make_python(places: Places, enter: list[str]) -> None:
    script = (
        "rm -rf /opt/venv && python3 -m venv /opt/venv && "
        "/opt/venv/bin/python -m pip install --no-input --no-compile --progress-bar off "
        '--editable "$0"'
    )
    log = places.logs / "build-python.log"
    command = [*enter, "sh", "-c", script, str(CHECKOUT)]
    logged(command, log, "installing hpcbench's dependencies", hostside.pip_environment())
    # What its user would compile in this box, and again in each copy.
    become = ["setpriv", "--reuid", str(USER_ID), "--regid", str(USER_ID), "--clear-groups", "--"]
    code = "import hpcbench.cli.main, hpcbench.cluster.driver, hpcbench.cluster.start_worker"
    command = [*enter, *become, "/opt/venv/bin/python", "-c", code]
    logged(command, log, "compiling hpcbench's dependencies", environment())


def _make_native(places: Places, enter: list[str]) -> None:
    program = str(CHECKOUT / "containers" / "native.py")
    log = places.logs / "build-native.log"
    command = [*enter, "python3", program, "/opt/native"]
    logged(command, log, "installing Triton and perf_analyzer", hostside.pip_environment())


def _make_podman(places: Places, enter: list[str]) -> None:
    script = str(HERE / "inside" / "podman.sh")
    log = places.logs / "build-podman.log"
    logged([*enter, "sh", script], log, "installing podman-hpc", hostside.pip_environment())


def build_images(places: Places, inside: Callable[[list[str]], int]) -> None:
    """Images for Apptainer in /opt/images of the box, by containers/images.py.

    What comes from outside is fetched by this machine, which has the network and apt's
    configuration; the rest is done by the box's user, with the box's Apptainer.
    """
    program = str(CHECKOUT / "containers" / "images.py")
    folder = places.root / "opt" / "images"
    log = places.logs / "build-images.log"
    hostside.install_mmdebstrap(log)
    fetch = [sys.executable, program, "--stage", str(folder)]
    logged(fetch, log, "fetching what images are made of", None)
    os.chown(folder, USER_ID, USER_ID)
    if inside(["python3", "-B", program, "/opt/images"]):
        raise BoxError("building the images failed; why stands above")
