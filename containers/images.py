"""Build the images of Triton and perf_analyzer.

    python3 containers/images.py FOLDER [IMAGE...] [--server-tag TAG] [--sdk-tag TAG]

IMAGE is server-cpu or sdk-cpu, which need no container registry (both are built by default), or
server or sdk, which are made from NVIDIA's. Afterwards FOLDER holds IMAGE.sif and, in images.lock,
what each consists of. What is there already in the same versions is not built again.

It takes mmdebstrap and Apptainer, and no root where users may make namespaces (as they must where
Apptainer runs for them, too).

Exit codes: 0 complete; 2 wrong usage; 3 this machine or its network does not allow it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from pins import (
    VERSIONS_FILE,
    CannotServeError,
    Version,
    choose_perf_analyzer,
    digest,
    load_pins,
    parse_version,
)

HERE = Path(__file__).resolve().parent
LOCK = HERE / "images.lock"
FOR_CPUS = ("server-cpu", "sdk-cpu")
FOR_GPUS = ("server", "sdk")
SOURCES = (
    *("native.py", "native_files.py", "native_libraries.py", "native_steps.py", "native_tools.py"),
    *("pins.py", "wheels-base.txt"),
)
NEEDED_BYTES = 2_000_000_000
NOT_IN_IMAGES = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")


def say(text: str) -> None:
    """One line of progress on stderr."""
    print(f"images: {text}", file=sys.stderr, flush=True)


def run(*words: str | Path, hint: str = "", env: dict[str, str] | None = None) -> None:
    """Run a program; CannotServeError with the end of what it printed if it fails."""
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=env
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise CannotServeError(f"'{words[0]}' failed. {hint}\nIt said:\n{said}")


def settings() -> dict[str, Any]:
    """The section of the images in versions.toml."""
    found: dict[str, Any] = tomllib.loads(VERSIONS_FILE.read_text(encoding="utf-8"))["images"]
    return found


def sources() -> list[Path]:
    """The files that an image of ours is made from, besides Debian and wheels."""
    backends = sorted((HERE / "backends").rglob("*.py"))
    return [*(HERE / name for name in SOURCES), VERSIONS_FILE, *backends]


def hashes(files: list[Path]) -> dict[str, str]:
    """The sha256 of each of our files."""
    return {str(f.relative_to(HERE)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def definition(image: str, tag: str) -> str:
    """A hash of all that determines an image and is in our hands."""
    files = [HERE / f"{image}.def", *(sources() if image in FOR_CPUS else [])]
    return digest({"files": hashes(files), "tag": tag})


def read_lock(path: Path) -> dict[str, Any]:
    """What a lock file says about each image; nothing where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_lock(path: Path, content: dict[str, Any]) -> None:
    """Write a lock file so that it is there whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    new.rename(path)


def make_base(folder: Path) -> None:
    """A Debian root folder with what the programs need of it, for any user to read."""
    wanted = settings()
    say(f"making a Debian {wanted['debian']} root folder")
    archive = folder.with_name("base.tar")
    archive.unlink(missing_ok=True)
    run(
        *("mmdebstrap", "--variant=minbase", f"--include={','.join(wanted['packages'])}"),
        *('--aptopt=APT::Install-Recommends "0"', "--dpkgopt=force-unsafe-io"),
        *(f"--dpkgopt=path-exclude={path}" for path in NOT_IN_IMAGES),
        *(wanted["debian"], archive),
        hint="Is there a network, and are Debian's keys there (debian-archive-keyring)?",
    )
    folder.mkdir()
    # Device nodes are root's to make; a container gets those of its node.
    run("tar", "-xf", archive, "-C", folder, "--no-same-owner", "--exclude=./dev/*")
    run("chmod", "-R", "a+rX", folder)
    archive.unlink()


def lock_for(python: str, text: str) -> list[str]:
    """The lines of a lock file that are for one Python, without saying so."""
    lines = text.replace("\\\n", "").splitlines()
    found = []
    for line in lines:
        requirement, _, hashes = line.partition("--hash")
        package, _, marker = requirement.partition(" ; ")
        if hashes and (not marker or f'"{python}"' in marker):
            found.append(f"{package.strip()} --hash{hashes}")
    return found


def platforms(glibc: Version) -> list[str]:
    """The tags of the wheels that a Debian with this glibc can load."""
    names = ["manylinux1", "manylinux2010", "manylinux2014"]
    names += [f"manylinux_2_{minor}" for minor in range(5, glibc[1] + 1)]
    return [f"{name}_x86_64" for name in names]


def make_wheels(folder: Path) -> None:
    """Every wheel that the native prefix of the image's Python is made of."""
    pins = load_pins()
    python, glibc = settings()["python"], parse_version(settings()["glibc"])
    analyzer = choose_perf_analyzer(pins, glibc)
    folder.mkdir(parents=True, exist_ok=True)
    say("fetching wheels")
    fetch = [sys.executable, "-I", "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    fetch += ["--only-binary", ":all:", "--dest", str(folder), "--implementation", "cp"]
    fetch += ["--python-version", python]
    fetch += [word for name in platforms(glibc) for word in ("--platform", name)]
    hint = "Is there a network, and a pip in this Python?"
    for wheel in (pins.triton, analyzer):
        run(*fetch, "--no-deps", f"{wheel.package}=={wheel.package_version}", hint=hint)
    # pip takes the running Python for the image's where a line is for one of them only.
    lines = lock_for(python, (HERE / "wheels-base.txt").read_text(encoding="utf-8"))
    lock = folder.parent / "wheels.txt"
    lock.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    run(*fetch, "--require-hashes", "-r", str(lock), hint=hint)


def stage(folder: Path) -> Path:
    """Everything from outside that our images are made of, in one folder."""
    place = folder / ".staging"
    wanted = digest(hashes(sources()))
    stamp = place / "complete"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return place
    if not shutil.which("mmdebstrap"):
        raise CannotServeError("mmdebstrap is not installed; apt-get install mmdebstrap (as root)")
    place.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    free = shutil.disk_usage(place).free
    if free < NEEDED_BYTES:
        raise CannotServeError(
            f"The disk of {folder} has {free / 1e6:.0f} MB free; building needs "
            f"{NEEDED_BYTES / 1e6:.0f} MB. Free some space or choose another folder."
        )
    for name in ("base", "wheels", "sources"):
        run("rm", "-rf", "--one-file-system", "--", place / name)
    make_base(place / "base")
    make_wheels(place / "wheels")
    for file in sources():
        target = place / "sources" / file.relative_to(HERE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    stamp.write_text(wanted, encoding="utf-8")
    return place


def contents(place: Path) -> dict[str, Any]:
    """The versions of what was staged: Debian's packages, and wheels with their sha256."""
    packages: dict[str, str] = {}
    for entry in (place / "base/var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line)
        if fields.get("Status") == "install ok installed":
            packages[fields["Package"]] = fields["Version"]
    wheels = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((place / "wheels").glob("*.whl"))
    }
    return {"debian": packages, "wheels": wheels}


def build(image: str, folder: Path, arguments: dict[str, str]) -> str:
    """Build one image under a temporary name and rename it; gives the sha256 of the file."""
    tool = shutil.which("apptainer") or shutil.which("singularity")
    if tool is None:
        raise CannotServeError(
            "Apptainer is not installed here. On Debian: apt-get install apptainer; elsewhere see "
            "its own installation page."
        )
    say(f"building {image}.sif (minutes)")
    new = folder / f".{image}.new.sif"
    new.unlink(missing_ok=True)
    chosen = [w for name, value in arguments.items() for w in ("--build-arg", f"{name}={value}")]
    user = [] if os.geteuid() == 0 else ["--fakeroot"]
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as scratch:
        # What is unpacked on the way does not fit into every /tmp.
        env = {"APPTAINER_TMPDIR": scratch, "SINGULARITY_TMPDIR": scratch, **os.environ}
        # --fakeroot shows the user's home in the place of /root, where a checkout may lie.
        recipe = shutil.copy(HERE / f"{image}.def", scratch)
        run(tool, "build", *user, *chosen, new, recipe, env=env)
    new.chmod(0o644)
    with new.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    new.rename(folder / f"{image}.sif")
    return sha256


def make(folder: Path, images: list[str], tags: dict[str, str]) -> None:
    """Build what is missing or made from something else, and lock it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = read_lock(folder / "images.lock")
    known = read_lock(LOCK)
    for image in images:
        wanted = definition(image, tags.get(image, ""))
        entry = lock.get(image, {})
        if entry.get("definition") == wanted and (folder / f"{image}.sif").is_file():
            say(f"{image}.sif is there")
            continue
        content: dict[str, Any]
        if image in FOR_CPUS:
            place = stage(folder)
            names = {"base": "base", "wheels": "wheels", "sources": "sources"}
            content = contents(place)
            sha256 = build(image, folder, {k: str(place / v) for k, v in names.items()})
            print_differences(image, known.get(image, {}), content)
        else:
            content = {"tag": tags[image]}
            sha256 = build(image, folder, {"tag": tags[image]})
        lock[image] = {"definition": wanted, "sha256": sha256, **content}
        write_lock(folder / "images.lock", lock)
    say(f"ready: {', '.join(f'{folder / image}.sif' for image in images)}")


def print_differences(image: str, known: dict[str, Any], found: dict[str, Any]) -> None:
    """Debian's packages move on; what is measured with others than these should be known."""
    for kind in ("debian", "wheels"):
        before, now = known.get(kind, {}), found[kind]
        changed = [name for name in now if name in before and before[name] != now[name]]
        added = [name for name in now if before and name not in before]
        if changed or added:
            say(f"{image}: not as in {LOCK.name}: {', '.join(changed + added)}")


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit code."""
    tags = settings()["nvidia"]
    parser = argparse.ArgumentParser(prog="images.py", description="Build images for Apptainer.")
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("images", metavar="IMAGE", nargs="*", default=list(FOR_CPUS))
    parser.add_argument("--server-tag", default=tags["server"], help="of NVIDIA's Triton image")
    parser.add_argument("--sdk-tag", default=tags["sdk"], help="of NVIDIA's SDK image")
    parser.add_argument("--stage", action="store_true", help="fetch everything, build nothing")
    options = parser.parse_args(arguments)
    unknown = set(options.images) - {*FOR_CPUS, *FOR_GPUS}
    if unknown:
        parser.error(
            f"no such image: {', '.join(unknown)}; there are {', '.join(FOR_CPUS)}, "
            f"{', '.join(FOR_GPUS)}"
        )
    folder: Path = options.folder.absolute()
    try:
        if options.stage:
            stage(folder)
        else:
            make(folder, options.images, {"server": options.server_tag, "sdk": options.sdk_tag})
    except CannotServeError as error:
        say(f"error: {error}")
        return 3
    except OSError as error:
        say(f"error: {error.filename}: {error.strerror}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
