"""Another ordinary user of the box: what he tries while a campaign runs, and what he plants before.

All of it is tried on the login node and on the nodes of Slurm, each of which has a /tmp and a
/dev/shm of its own.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.box.fixture import Box
from tests.box.paths import USER, USER_ID
from tests.helpers.stranger import TRY_SERVERS

NODES = ("login", "n1", "n2")

# A crashed node leaves its number there under another name.
ON_NODE = """
node=$1 script=$2; shift 2
enter=
[ "$node" = login ] || enter="nsenter --target $(pgrep -P "$(cat "/run/box/$node.pid")") --mount \
    --uts --pid --"
exec $enter setpriv --reuid stranger --regid stranger --init-groups -- bash -c "$script" bash "$@"
"""

PLANT = r"""
set -e; umask 0; mark=$1 precious=$2 uid=$3
folder=/tmp/hpcbench-tmp-$(hostname)-$mark
mkdir "$folder"
echo mine >"$folder/file"
ln -s "$precious" "$folder/link"
for name in "/tmp/hpcbench-$mark" "/tmp/python_env_$mark" "/dev/shm/hpcbench-$mark" \
        "/dev/shm/sem.hpcbench-$mark"; do
    ln -s "$precious" "$name"
done
# What the user's run would believe, if it did not look at whose it is.
mkdir "/tmp/hpcbench-engines-$uid"
ln -s "$precious" "/tmp/hpcbench-engines-$uid/lock"
"""

TAKE_AWAY = r"""
set -e; mark=$1 uid=$3; folder=/tmp/hpcbench-tmp-$(hostname)-$mark
[ "$(cat "$folder/file")" = mine ]
[ -h "$folder/link" ] && [ -h "/dev/shm/hpcbench-$mark" ] && [ -h "/tmp/hpcbench-$mark" ]
rm -r "$folder" "/tmp/hpcbench-engines-$uid"
rm -f /tmp/*"$mark" /dev/shm/*"$mark"
"""

TRY_FILES = r"""
exec 2>/dev/null
if cd "$1"; then
    for key in .keys .keys/certificate.pem .keys/key.pem; do
        ls "$key/" >/dev/null && echo "listed $key"
        cat "$key" >/dev/null && echo "read $key"
    done
    for file in .lock run.json jobs.jsonl plan.parquet logs/driver.log records/*.parquet; do
        ( echo evil >>"$file" ) && echo "wrote $file"
        rm "$file" </dev/null && echo "deleted $file"
    done
    for folder in . records logs; do
        ( >"$folder/planted" ) && echo "planted in $folder"
        ln -s /etc "$folder/link" && echo "linked in $folder"
    done
    flock --nonblock .lock true && echo "held the lock"
fi
for path in /tmp/* /dev/shm/*; do
    [ "$(stat -c %U "$path")" = "$2" ] || continue
    ls "$path/" >/dev/null && echo "listed $path"
    head -c 1 "$path" >/dev/null && echo "read $path"
    # By a descriptor: flock(1) itself would make a file where the folder has just gone.
    ( exec 3<"$path" && flock --nonblock 3 ) && echo "locked $path"
    ( >"$path/planted" ) && echo "planted in $path"
    rm -r "$path" </dev/null && echo "deleted $path"
done
for pid in $(pgrep -u "$2"); do
    # One that has just ended has no memory any more, and anybody may open what is empty.
    for name in environ maps; do
        [ -n "$(head -c 1 "/proc/$pid/$name" | tr '\0' x)" ] && echo "read $name of $pid"
    done
    ( exec 3<"/proc/$pid/mem" ) && grep -q VmSize "/proc/$pid/status" && echo "opened mem of $pid"
    for name in fd root cwd; do
        ls "/proc/$pid/$name/" >/dev/null && echo "listed $name of $pid"
    done
    kill -0 "$pid" && echo "may signal $pid"
    echo "words $(tr '\0\n' '  ' <"/proc/$pid/cmdline")"
done
"""

TRY_PORTS = r"""
exec 2>/dev/null
for port in $(ss -Hltn | sed 's/.*:\([0-9]*\) .*:.*/\1/' | sort -u); do
    answer=$(timeout 2 bash -c '
        exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "GET /v2/health/ready HTTP/1.0\r\n\r\n" >&3 &&
        head -c 12 <&3' "$port" | tr -d '\0')
    # A page that is not there is no page.
    case $answer in HTTP/*\ 404 | [!H]* | '') ;; *) echo "port $port says $answer" ;; esac
done
# These need no permission of a file.
ss -Hxl | grep -o '@[^ ]*hpcbench[^ ]*\|@listener[^ ]*' | sed 's/^/socket /'
true
"""


@contextmanager
def planted(box: Box, precious: Path) -> Iterator[None]:
    """What the stranger has planted on each node before a campaign.

    In the end all of it must still be there, and the user's file, to which its links lead, too.
    """
    mark = f"planted-{uuid.uuid4().hex[:8]}"
    words = (mark, str(precious), str(USER_ID))
    box.said("sh", "-c", f"echo precious >{precious}")
    for node in NODES:
        _on_node(box, node, PLANT, *words)
    try:
        yield
    finally:
        for node in NODES:
            _on_node(box, node, TAKE_AWAY, *words)
    assert box.said("cat", str(precious)) == "precious"


def reached(box: Box, results: Path) -> set[str]:
    """What the stranger reaches while a campaign writes to ``results``; empty where all is well.

    Raises AssertionError where no process of the user's runs.
    """
    script = "\n".join(f"( {each}\n)" for each in (TRY_FILES, TRY_SERVERS, TRY_PORTS))
    said = [_on_node(box, node, script, str(results), USER) for node in NODES]
    tried = [line for text in said for line in text.splitlines()]
    words = [line for line in tried if line.startswith("words ")]
    secrets = box.exec("cat", f"{results}/.keys/key.pem", root=True).stdout.splitlines()[1:-1]
    assert words, "no process of the user's was seen"
    shown = {f"a key stands in {line}" for line in words for secret in secrets if secret in line}
    return {line for line in tried if line != "tried" and line not in words} | shown


def _on_node(box: Box, node: str, script: str, *words: str) -> str:
    return box.said("bash", "-c", ON_NODE, "bash", node, script, *words, root=True)
