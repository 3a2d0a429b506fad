#!/bin/bash
# node.sh start|kill NODE: n1 and n2 serve Slurm, c1 runs HTCondor's jobs, login has HTCondor's
# pool and queue and is never killed.
#
# A node is a process namespace, whose first process takes all others with it when it is killed,
# the jobs too: that is how a node crashes here. It has its own host name; a node of Slurm also its
# own /tmp and /dev/shm. (HTCondor's daemons prove who they are by files in one common /tmp.)
# /login-only is empty on c1, as folders of a login node are where no file system is shared.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/box/inside/common.sh
. "$here/common.sh"

action=$1 node=$2
pid_file=/run/box/$node.pid
log=/var/log/box-$node.log

alive() { [ -e "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

condor_folders() {
    export _CONDOR_LOCAL_DIR=/run/condor/$node _CONDOR_NETWORK_HOSTNAME=$node
    rm -rf "$_CONDOR_LOCAL_DIR"
    install -d -m 755 -o condor /run/condor "$_CONDOR_LOCAL_DIR"/{,log,lock,run,spool}
    install -d -m 1777 "$_CONDOR_LOCAL_DIR/execute"
}

own_folders='mount -t tmpfs -o mode=1777 tmpfs /tmp; mount -t tmpfs -o mode=1777 tmpfs /dev/shm;'
hidden='mount -t tmpfs -o ro,mode=755 tmpfs /login-only;'
enter='echo $$ >"$0"; exec unshare --kill-child --fork --pid --mount-proc --uts -- sh -c'

case $action:$node in
start:*)
    # Since when the node must have served, to be taken for one that was started now.
    if alive; then echo 0 && exit; fi
    date +%s
    ;;&
start:login)
    condor_folders
    export _CONDOR_DAEMON_LIST="MASTER COLLECTOR NEGOTIATOR SCHEDD"
    setsid condor_master -f </dev/null >>"$log" 2>&1 &
    ;;
start:c1)
    condor_folders
    export _CONDOR_DAEMON_LIST="MASTER STARTD" _CONDOR_SHARED_PORT_PORT=9619
    setsid sh -c "$enter '$hidden hostname c1; exec tini -g -- condor_master -f'" "$pid_file" \
        </dev/null >>"$log" 2>&1 &
    ;;
start:n1 | start:n2)
    if [ -e "$pid_file.crashed" ]; then
        # A node that is back before Slurm has missed it would still be charged with its dead jobs.
        scontrol update "NodeName=$node" State=DOWN Reason="crashed"
        rm "$pid_file.crashed"
    fi
    setsid sh -c "$enter '$own_folders hostname $node; exec tini -g -- slurmd -D -N $node'" \
        "$pid_file" </dev/null >>"$log" 2>&1 &
    ;;
kill:n1 | kill:n2 | kill:c1)
    alive || exit 0
    read -r pid <"$pid_file"
    # The namespace's first process; its parent waits for it, and so for all others.
    pkill -9 -P "$pid" || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    mv "$pid_file" "$pid_file.crashed"
    ;;
*)
    echo "no such node: $node (n1, n2 and c1 can fail)" >&2
    exit 2
    ;;
esac
