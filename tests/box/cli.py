"""The commands of `tests/box/box`."""

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import build
import hostside
import world
from paths import HERE, NATIVE, RESULTS, STRANGER, USER, USER_ID, BoxError, Places, logged, say

SLURM_NODES = ("n1", "n2")
NODES = (*SLURM_NODES, "c1")
EXIT_CANNOT = 3
READY_S = 240.0
"""Daemons of three boxes may start at the same time, beside other tests."""
INSIDE = HERE / "inside"


@contextlib.contextmanager
def locked(places: Places) -> Iterator[None]:
    """One at a time builds, starts and stops."""
    places.home.mkdir(parents=True, exist_ok=True)
    with places.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command works on this box; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def wait_for(what: str, ready: Callable[[], bool], timeout_s: float, logs: str) -> None:
    """Returns when ``ready()``; a wait that is too long is an error that names the logs."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise BoxError(f"{what}: not so after {timeout_s:.0f} s; see {logs}")
        time.sleep(0.25)


def slurm_takes_jobs(pid: int, nodes: tuple[str, ...], since: float) -> bool:
    """Whether all these nodes serve since then: a crashed one is taken for alive for a while."""
    done = world.inside(pid, ["scontrol", "--oneliner", "show", "node", ",".join(nodes)])
    # The box has no time zone.
    after = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since))
    ready = 0
    for line in done.stdout.splitlines():
        facts = dict(word.partition("=")[::2] for word in line.split())
        usable = facts.get("State") in {"IDLE", "MIXED", "ALLOCATED"}
        ready += usable and after <= facts.get("SlurmdStartTime", "") < "N"
    return ready == len(nodes)


def condor_takes_jobs(pid: int, since: float) -> bool:
    """Whether HTCondor's slot is in the pool since then, and its queue answers."""
    slots = world.inside(pid, ["condor_status", "-autoformat", "TotalGPUs", "DaemonStartTime"])
    facts = slots.stdout.split()[:2]
    ready = facts[:1] == ["2"] and facts[1].isdigit() and int(facts[1]) >= int(since)
    return ready and not world.inside(pid, ["condor_q"]).returncode


def node_script(pid: int, action: str, node: str) -> str:
    """Starts or kills a node; gives what the script printed."""
    done = world.inside(pid, ["bash", str(INSIDE / "node.sh"), action, node])
    if done.returncode:
        raise BoxError(f"cannot {action} {node}: {done.stderr.strip()}")
    return done.stdout


def prepare_results() -> None:
    """Lets the box's user write into results/, and nowhere else in the checkout."""
    for folder in (RESULTS, NATIVE):
        folder.mkdir(exist_ok=True)
    if RESULTS.stat().st_gid != USER_ID:
        os.chown(RESULTS, -1, USER_ID)
    RESULTS.chmod(RESULTS.stat().st_mode | 0o070)


def build_all(places: Places) -> None:
    """Builds what is missing of this box and of its copies, and starts none."""
    hostside.check_machine()
    with locked(places):
        if build.missing(places):
            world.end(places)
            build.build(places)
        for other in places.copies:
            build.copy(places, other)


def up(places: Places) -> None:
    """Builds what is missing, starts everything, returns when both batch systems answer."""
    hostside.check_machine()
    with locked(places):
        if world.first_process(places) is not None and not build.missing(places):
            pid = world.require(places)
            if slurm_takes_jobs(pid, SLURM_NODES, 0) and condor_takes_jobs(pid, 0):
                say("already up")
                return
        world.end(places)
        started = time.monotonic()
        build.build(places)
        prepare_results()
        built = time.monotonic()
        shutil.rmtree(places.logs, ignore_errors=True)
        places.logs.mkdir()
        places.logs.chmod(0o755)
        world.begin(places)
        try:
            start(places)
        except BaseException:
            world.end(places)
            raise
        say(f"up: built in {built - started:.0f} s, started in {time.monotonic() - built:.0f} s")


def start(places: Places) -> None:
    """Starts the daemons in the box that has begun."""
    pid = world.require(places)
    log = places.logs / "box-start.log"
    logged(
        world.inside_command(pid, ["bash", str(INSIDE / "start.sh")]),
        log,
        "starting the daemons",
        world.INSIDE,
    )
    slurm, condor = f"{places.logs}/slurm", f"{places.logs}/box-*.log"
    wait_for("Slurm's nodes idle", lambda: slurm_takes_jobs(pid, SLURM_NODES, 0), READY_S, slurm)
    wait_for("HTCondor's slot in its pool", lambda: condor_takes_jobs(pid, 0), READY_S, condor)


def down(places: Places) -> None:
    """Ends every process of the box; its mounts go with the last of them."""
    hostside.check_machine()
    if not places.home.is_dir():
        say("already down")
        return
    with locked(places):
        say("down" if world.end(places) else "already down")


def images(places: Places) -> None:
    """Builds the images of Triton and perf_analyzer in the box, unless they are there."""
    hostside.check_machine()
    with locked(places):
        program = str(HERE / "box")
        run_inside = [sys.executable, program, "exec"]
        build.build_images(
            places, lambda words: subprocess.run([*run_inside, *words], check=False).returncode
        )


def fail(places: Places, node: str) -> None:
    """Kills a node and all that runs on it."""
    hostside.check_machine()
    with locked(places):
        node_script(world.require(places), "kill", node)
        say(f"{node} is dead; its batch system finds out by itself (within a minute)")


def restore(places: Places, node: str) -> None:
    """Starts a node again, returns when it is idle."""
    hostside.check_machine()
    with locked(places):
        pid = world.require(places)
        since = float(node_script(pid, "start", node))
        if node in SLURM_NODES:
            ready = lambda: slurm_takes_jobs(pid, (node,), since)  # noqa: E731
        else:
            ready = lambda: condor_takes_jobs(pid, since)  # noqa: E731
        wait_for(f"{node} idle", ready, READY_S, str(places.logs))


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Runs one command; gives its exit code."""
    parser = argparse.ArgumentParser(
        prog="box", description="Slurm, HTCondor and Apptainer for real, on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="build it if need be, start it")
    commands.add_parser("build", help="build it and its copies, without starting them")
    commands.add_parser("images", help="build the images for Apptainer in its /opt/images")
    commands.add_parser("down", help="stop everything that runs in it")
    inside = commands.add_parser(
        "exec", help="run a command in it, as its user, in the project's folder"
    )
    inside.set_defaults(user=USER)
    for name in ("root", STRANGER):
        inside.add_argument(
            f"--{name}", dest="user", action="store_const", const=name, help=f"as {name}"
        )
    inside.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND...")
    for name, text in (("fail", "a node crashes"), ("restore", "it comes back")):
        one = commands.add_parser(name, help=text)
        one.add_argument("node", choices=NODES)
    options = parser.parse_args(arguments)
    places = Places.here()
    try:
        if options.command == "exec":
            words: list[str] = options.words
            if words[:1] == ["--"]:
                words = words[1:]
            if not words:
                parser.error("exec: which command?")
            hostside.check_machine()
            return world.run(world.require(places), words, options.user)
        signal.signal(signal.SIGTERM, _interrupted)
        plain = {"build": build_all, "up": up, "down": down, "images": images}
        if options.command in plain:
            plain[options.command](places)
        else:
            {"fail": fail, "restore": restore}[options.command](places, options.node)
    except BoxError as error:
        say(f"error: {error}")
        return EXIT_CANNOT
    except (OSError, subprocess.SubprocessError) as error:
        say(f"error: {error}")
        return EXIT_CANNOT
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where this one stopped")
        return 130
    return 0
