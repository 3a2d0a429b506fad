"""What the build takes from the machine outside, when it runs: nothing of it is written down."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from paths import BoxError, logged, say

# What pip and its like read to find their way out.
PASSED_ON = re.compile(
    r"PIP_|SSL_CERT_|REQUESTS_CA_BUNDLE$|CURL_CA_BUNDLE$|(https?|no|all)_proxy$", re.IGNORECASE
)


def check_machine() -> None:
    """Ends with a reason where no box can be."""
    if os.geteuid() != 0:
        raise BoxError("only root can do this, since it mounts: sudo tests/box/box ...")
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise BoxError(
            "the box is made of Debian packages with Debian's tools, and this machine has no "
            "apt-get; use Debian or Ubuntu (a virtual machine will do)"
        )
    lacking = [name for name in ("unshare", "nsenter", "mount", "ps") if not shutil.which(name)]
    if lacking:
        raise BoxError(f"not found: {', '.join(lacking)}; apt-get install util-linux mount procps")


def _apt(*words: str) -> str:
    done = subprocess.run([*words], capture_output=True, text=True, check=False)
    return done.stdout


def install_mmdebstrap(log: Path) -> None:
    """Installs mmdebstrap and Debian's keys where they are missing."""
    keys = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if shutil.which("mmdebstrap") and keys.exists():
        return
    say("installing mmdebstrap on this machine (apt-get)")
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
    install += ["mmdebstrap", "debian-archive-keyring"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        logged(install, log, "apt-get install mmdebstrap", env)
    except BoxError:
        # A fresh machine knows no packages yet.
        logged(["apt-get", "update", "-q"], log, "apt-get update (is there a network?)", env)
        logged(install, log, "apt-get install mmdebstrap", env)


def debian_mirror() -> str | None:
    """The mirror that this machine's apt takes Debian from; None leaves it to mmdebstrap."""
    if os.environ.get("HPCBENCH_BOX_MIRROR"):
        return os.environ["HPCBENCH_BOX_MIRROR"]
    listing = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)")
    targets = _apt(*listing, "Created-By: Packages").splitlines()
    for known in (
        [words[0] for words in map(str.split, targets) if words[1:] == ["Debian", "Debian"]],
        # Before the first apt-get update, apt does not know yet whose packages they are.
        [words[0] for words in map(str.split, targets) if re.search(r"/debian/?$", words[0])],
    ):
        if known:
            return known[0]
    return None


def apt_proxies() -> list[str]:
    """How this machine's apt reaches the mirror."""
    lines = _apt("apt-config", "dump").splitlines()
    return [line.rstrip(";") for line in lines if re.match(r"Acquire::https?::", line)]


def pip_environment() -> dict[str, str]:
    """The environment of a pip in the box: this machine's settings of pip."""
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
    command = [sys.executable, "-m", "pip", "--isolated", "--version"]
    if subprocess.run(command, capture_output=True, check=False).returncode == 0:
        for line in _apt(sys.executable, "-m", "pip", "config", "list").splitlines():
            key, _, value = line.partition("=")
            section, _, name = key.partition(".")
            if section in {"global", "install"} and value:
                words = " ".join(str(ast.literal_eval(value)).split())
                env[f"PIP_{name.upper().replace('-', '_')}"] = words
    env |= {key: value for key, value in os.environ.items() if PASSED_ON.match(key)}
    env.pop("PIP_REQUIRE_VIRTUALENV", None)
    return env | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1"}


def pip_paths() -> list[Path]:
    """Files and folders that those settings name, and what finds other machines."""
    found = {Path("/etc/resolv.conf"), Path("/etc/hosts")}
    for value in pip_environment().values():
        for word in shlex.split(value):
            path = Path(word.removeprefix("file://"))
            if path.is_absolute():
                # An index's pages point to files beside it.
                found.add(path.parent if path.name == "simple" else path)
    system = {Path(name) for name in ("/", "/root", "/usr", "/etc", "/var", "/opt", "/tmp")}
    found = {path for path in found - system if path.exists()}
    return sorted(path for path in found if not found & set(path.parents))
