# shellcheck shell=bash
# For the scripts that run as root inside the box.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8

# until_ready WHAT LOG COMMAND...: waits until COMMAND succeeds; ends with the log's tail if never.
until_ready() {
    local what=$1 log=$2
    shift 2
    for _ in $(seq 1800); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "$what did not get ready in 3 min; its last words:" >&2
    tail -n 15 "$log" >&2 || true
    exit 1
}

configure() {
    local here=$1
    install -m 644 -t /etc/slurm "$here/../etc/slurm.conf" "$here/../etc/gres.conf" \
        "$here/../etc/cgroup.conf"
    install -m 600 -o slurm "$here/../etc/slurmdbd.conf" /etc/slurm/slurmdbd.conf
    install -m 644 "$here/../etc/mariadb.cnf" /etc/box-mariadb.cnf
    install -m 644 "$here/../etc/condor.config" /etc/condor/config.d/99-box
    install -d -m 755 -o slurm /run/slurm /run/slurm/state /var/log/slurm
    install -d -m 755 -o munge /run/munge
    install -d -m 700 -o munge /var/log/munge
    install -d -m 755 -o mysql /run/mysqld /var/log/mysql
    install -d -m 755 /run/box
}

start_munge() {
    runuser -u munge -- munged
    until_ready munged /var/log/munge/munged.log munge -n
}

start_database() { # start_database DATA
    setsid mariadbd --defaults-file=/etc/box-mariadb.cnf --datadir="$1" \
        </dev/null >>/var/log/mysql/mariadbd.log 2>&1 &
    until_ready mariadbd /var/log/mysql/mariadbd.log \
        mariadb --defaults-file=/etc/box-mariadb.cnf -e 'SELECT 1'
}

start_accounting() {
    runuser -u slurm -- slurmdbd
    until_ready slurmdbd /var/log/slurm/slurmdbd.log sacctmgr -n show cluster
}
