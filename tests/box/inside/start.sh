#!/bin/bash
# Starts every daemon of the box, each when what it needs answers. Nothing is kept from last time:
# queues, accounting and spools are made anew, in memory.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/box/inside/common.sh
. "$here/common.sh"

hostname login
printf '%s\n' '127.0.0.1 localhost login n1 n2 c1' > /etc/hosts
: > /etc/resolv.conf
ip link set lo up
# A second address, which leads nowhere: what listens on it would be open to other machines. Without
# one, slurmdbd does not even start.
if ip link add eth0 type veth peer name eth0-far; then
    ip link set eth0-far up
    ip address add 192.0.2.1/24 dev eth0
    ip link set eth0 up
else
    ip address add 192.0.2.1/24 dev lo
fi

# Another ordinary user of all nodes, who has nothing to do with the first one's campaigns.
id stranger >/dev/null 2>&1 || useradd --uid 20666 --create-home --shell /bin/bash stranger

configure "$here"
"$here/node.sh" start login
start_munge
mkdir /run/accounts
cp -a /var/lib/slurm-accounts /run/accounts/data
start_database /run/accounts/data
start_accounting
slurmctld
for node in n1 n2 c1; do "$here/node.sh" start "$node"; done
