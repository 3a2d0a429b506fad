#!/bin/bash
# Makes Slurm's accounting database once, as every `up` finds it: one account, three kinds of QOS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/box/inside/common.sh
. "$here/common.sh"

hostname login
configure "$here"
rm -rf /var/lib/slurm-accounts
mariadb-install-db --defaults-file=/etc/box-mariadb.cnf --user=mysql \
    --datadir=/var/lib/slurm-accounts --skip-test-db --auth-root-authentication-method=socket \
    >/var/log/mysql/install.log 2>&1 || { tail /var/log/mysql/install.log >&2; exit 1; }
start_munge
start_database /var/lib/slurm-accounts
mariadb --defaults-file=/etc/box-mariadb.cnf <<'SQL'
CREATE USER slurm@localhost IDENTIFIED VIA unix_socket;
GRANT ALL ON slurm_acct_db.* TO slurm@localhost;
-- Made by slurmdbd itself, it would connect twice, which trixie's libmariadb 11.8.9 does not survive.
CREATE DATABASE slurm_acct_db;
SQL
start_accounting
quietly() { sacctmgr -i "$@" >/dev/null; }
quietly add cluster box
quietly add account physics Description=physics Organization=box
# premium exists, but not for the user; tiny holds two jobs of a user, and refuses a third.
quietly add qos premium
quietly add qos tiny MaxSubmitJobsPerUser=2
quietly add user physicist Account=physics DefaultAccount=physics QOS=normal,tiny DefaultQOS=normal
kill "$(cat /run/slurm/slurmdbd.pid)"
while [ -e /run/slurm/slurmdbd.pid ] && kill -0 "$(cat /run/slurm/slurmdbd.pid)" 2>/dev/null; do
    sleep 0.1
done
mariadb --defaults-file=/etc/box-mariadb.cnf -e SHUTDOWN
# The shutdown goes on after the answer; what is copied later must be whole.
while kill -0 "$(cat /run/mysqld/mysqld.pid 2>/dev/null)" 2>/dev/null; do sleep 0.1; done
