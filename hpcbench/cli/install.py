"""The commands that bring what a campaign needs beside this package: programs, images, examples."""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import click

from hpcbench.cli import completions
from hpcbench.cli.inputs import SDK_IMAGE, SERVER_IMAGE
from hpcbench.errors import BadInput

PACKAGE = Path(__file__).resolve().parents[1]
CONTAINERS = PACKAGE / "containers"
EXAMPLES = PACKAGE / "jobs"
SITE_TEMPLATE = PACKAGE / "site_configs" / "template.yaml"


def _replace_this_process(script: str, *arguments: str) -> NoReturn:
    """Go on as a script of containers/, which needs none of this package's dependencies.

    It is run and not imported, so that a checkout without hpcbench's environment can run it, too:
    there is one way to install, and its signals and exit codes reach the user unchanged.
    """
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, str(CONTAINERS / script), *arguments])


@click.command(short_help="Install Triton and perf_analyzer, without a container.")
@click.argument("prefix", required=False, type=click.Path(path_type=Path))
@click.option(
    "--with",
    "extras",
    multiple=True,
    type=click.Choice(["pytorch", "tensorflow"]),
    help="Serve TorchScript or TensorFlow models as well; may be given several times.",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Install nothing; say which files differ from those that were installed.",
)
def native(prefix: Path | None, extras: tuple[str, ...], verify: bool) -> None:
    """Install Triton and perf_analyzer into PREFIX, without a container and without root.

    The programs come from wheels of the package index that pip uses: about 110 MB, a minute.
    The same command again finishes or updates what is there.

    Without PREFIX they go where a site file that names no prefix looks for them, as the site
    `local` does. With one, name it in your site file (container.prefix) or in HPCBENCH_NATIVE.

    Exit codes: 0 complete, 2 wrong usage, 3 this machine or its network does not allow it, or
    files differ.
    """
    from hpcbench.config.container import default_prefix  # pydantic is slow to import

    where = prefix or default_prefix()
    where.parent.mkdir(parents=True, exist_ok=True)
    options = [word for extra in extras for word in ("--with", extra)]
    options += ["--verify"] if verify else []
    _replace_this_process("native.py", str(where), *options)


@click.command(short_help="Build images of Triton, or pull those of a site.")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.argument("names", nargs=-1, metavar="[IMAGE]...")
@click.option("--server-tag", help="Tag of NVIDIA's Triton image, for the image `server`.")
@click.option("--sdk-tag", help="Tag of NVIDIA's SDK image, for the image `sdk`.")
@click.option(
    "--site",
    shell_complete=completions.sites,
    help="Build nothing; pull the images of this site into its cache: a name or a file.",
)
@click.option(
    "--campaign",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --site: also the server_images that the models of this campaign ask for.",
)
@SERVER_IMAGE
@SDK_IMAGE
def images(
    folder: Path | None,
    names: tuple[str, ...],
    server_tag: str | None,
    sdk_tag: str | None,
    site: str | None,
    campaign: Path | None,
    server_image: str | None,
    sdk_image: str | None,
) -> None:
    """Build Apptainer images of Triton and perf_analyzer in FOLDER, or pull those of a site.

    IMAGE is server-cpu or sdk-cpu, which need no container registry (both are the default), or
    server or sdk, which are made from NVIDIA's images for GPUs. Needs Apptainer and, for the first
    two, mmdebstrap. The same command again builds only what has changed.

    With --site instead of FOLDER, the images that the site names are pulled before a run needs
    them. `run` would do it, too; but not every host where it runs has a way to the registry.

    Exit codes: 0 complete, 2 wrong usage, 3 this machine or its network does not allow it.
    """
    if site is not None:
        if folder is not None or server_tag or sdk_tag:
            raise BadInput(
                "--site: images are either pulled for a site or built in a FOLDER",
                "leave out FOLDER and the tags; --server-image and --sdk-image name other images",
            )
        from hpcbench.cli.site_images import pull_for

        pull_for(site, campaign, (server_image, sdk_image))
        return
    if folder is None:
        raise BadInput("give a FOLDER to build images in, or --site to pull those of a site")
    if campaign or server_image or sdk_image:
        raise BadInput("--campaign, --server-image and --sdk-image need --site")
    tags = {"--server-tag": server_tag, "--sdk-tag": sdk_tag}
    options = [word for option, tag in tags.items() if tag for word in (option, tag)]
    _replace_this_process("images.py", str(folder), *names, *options)


def _examples() -> dict[str, Path]:
    """Return the files and folders that can be copied, by their names."""
    found = {path.name: path for path in sorted(EXAMPLES.iterdir()) if path.name[0] not in "._"}
    return {**found, "site_template.yaml": SITE_TEMPLATE}


@click.command()
@click.argument("name", required=False)
@click.argument("destination", required=False, type=click.Path(path_type=Path))
def example(name: str | None, destination: Path | None) -> None:
    """Copy the example NAME into this folder, or to DESTINATION. Without NAME, list them.

    The examples are campaigns, submission scripts in Python, batch scripts that run the driver
    inside a job, the demo with its model, and a site file that explains every key.
    """
    known = _examples()
    if name is None:
        click.echo("\n".join(known))
        return
    if name not in known:
        raise BadInput(f"there is no example {name}", f"examples: {', '.join(known)}")
    source, target = known[name], destination or Path(name)
    if target.is_dir() and source.is_file():
        target /= name
    if target.exists():
        raise BadInput(f"{target} exists already", "name another destination, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        # The demo's model is made on the spot; a checkout may hold one.
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("models", "__pycache__"))
    else:
        shutil.copy(source, target)
    click.echo(target)


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell, for its start-up file.

    \b
    hpcbench completion bash >> ~/.bashrc
    hpcbench completion zsh >> ~/.zshrc
    hpcbench completion fish > ~/.config/fish/completions/hpcbench.fish
    """  # noqa: D301 - click wants the character \b itself: it keeps the lines apart
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    root = click.get_current_context().find_root().command
    click.echo(made(root, {}, "hpcbench", "_HPCBENCH_COMPLETE").source())


COMMANDS = (native, images, example, completion)
