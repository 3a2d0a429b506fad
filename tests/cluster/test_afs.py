"""AFS, which no test can have: its commands are a script here that prints what the real ones do."""

import getpass
import sys
from pathlib import Path

import pytest

from hpcbench.cluster import afs, tls
from hpcbench.errors import SiteError

MOUNTS = """\
22 27 0:20 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw
27 1 252:1 / / rw,relatime shared:1 - xfs /dev/vda1 rw
95 27 0:44 / /afs rw,relatime shared:52 - afs AFS rw
99 27 0:46 / /eos rw,relatime shared:60 - fuse.eosxd eos rw
"""

LISTED = """\
Access list for {folder} is
Normal rights:
  system:administrators rlidwka
  {others}{user} rlidwka
"""
"""What ``fs listacl`` prints on LXPLUS."""


@pytest.mark.parametrize(
    ("folder", "is_on_it"),
    [
        ("/afs/cern.ch/user/a/ann/results", True),
        ("/afs", True),
        ("/afsother/results", False),
        ("/eos/user/a/ann", False),
        ("/home/ann", False),
    ],
)
def test_a_folder_on_afs_is_known_by_what_is_mounted_above_it(
    tmp_path: Path, folder: str, is_on_it: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert afs.is_on_afs(Path(folder), mounts) == is_on_it


def test_no_folder_here_is_on_afs(tmp_path: Path) -> None:
    assert not afs.is_on_afs(tmp_path)


def provide_fs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, others: str = "", refuses: str = ""
) -> Path:
    """A command ``fs`` whose lists name these others; gives the file with what it was asked."""
    asked = folder / "asked"
    text = LISTED.format(folder=folder, others=others, user=getpass.getuser())
    script = folder / "fs"
    script.write_text(
        f"#!{sys.executable} -IS\n"
        "import sys\n"
        f"open({str(asked)!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))\n"
        f"if {refuses!r}: sys.exit({refuses!r})\n"
        f"if sys.argv[1] == 'listacl': print({text!r}, end='')\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return asked


def test_keys_on_afs_are_for_the_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = provide_fs(tmp_path, monkeypatch)
    monkeypatch.setattr(afs, "is_on_afs", lambda _: True)
    keys = tmp_path / "results" / ".keys"
    with tls.make_keys(keys) as made:
        assert all(path.is_file() for path in made.files)
    user = getpass.getuser()
    assert asked.read_text().splitlines() == [
        f"setacl -dir {keys} -acl {user} all -clear",
        f"listacl -path {keys}",
    ]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"others": "system:anyuser rl\n  ben rl\n  "}, "ben, system:anyuser may read it"),
        ({"refuses": "fs: You don't have the required access rights on 'k'"}, "required access"),
    ],
)
def test_no_key_is_written_on_afs_where_others_could_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, str], message: str
) -> None:
    provide_fs(tmp_path, monkeypatch, **answer)
    monkeypatch.setattr(afs, "is_on_afs", lambda _: True)
    monkeypatch.setattr(tls, "make_certificate", lambda: pytest.fail("keys were made"))
    with pytest.raises(SiteError, match=message), tls.make_keys(tmp_path / "keys"):
        pass
    assert not (tmp_path / "keys").exists()


def test_a_host_without_the_commands_of_afs_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(afs, "is_on_afs", lambda _: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(SiteError, match="is on AFS, and cannot be kept from others: fs: "),
        tls.make_keys(tmp_path / "keys"),
    ):
        pass
