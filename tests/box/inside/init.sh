#!/bin/sh
# Makes ROOT the whole world of this process, in the namespaces that it was started in, then runs
# COMMAND there. pivot_root, because apptainer refuses to work under a plain chroot.
#
#     init.sh ROOT CHECKOUT RESULTS NATIVE HIDDEN LOGS BINDS COMMAND...
#
# The checkout is read-only inside, so that no job can spoil it; RESULTS and LOGS are folders of
# this machine that may be written. BINDS is a file with a path per line: what else of this machine
# is shown, read-only, at its own path.
set -eu
root=$1 checkout=$2 results=$3 native=$4 hidden=$5 logs=$6 binds=$7
shift 7

show() { # a path of this machine at its own place inside
    if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root${1%/*}" && touch "$root$1"; fi
    mount --bind "$1" "$root$1"
    mount -o remount,bind,ro "$root$1"
}

mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
# Podman's crun wants to see cgroups, of version 2 alone. The user may use none, as in a job.
mount -t cgroup2 -o ro,nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup" 2>/dev/null || true
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"

cd "$root/dev"
mknod -m 666 null c 1 3
mknod -m 666 zero c 1 5
mknod -m 666 full c 1 7
mknod -m 666 random c 1 8
mknod -m 666 urandom c 1 9
mknod -m 666 tty c 5 0
mknod -m 666 fuse c 10 229
# Two GPUs that hold nothing: Slurm only wants character devices to count.
mknod -m 666 gpu0 c 1 3
mknod -m 666 gpu1 c 1 3
ln -s /proc/self/fd fd
ln -s fd/0 stdin
ln -s fd/1 stdout
ln -s fd/2 stderr
ln -s pts/ptmx ptmx
mkdir pts shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs shm

show "$checkout"
# The box's user must get to it through the box's own /root, which is closed.
case $checkout in /root/*) chmod 711 "$root/root" ;; esac
if [ -e "$root$results" ]; then mount --bind "$results" "$root$results"; fi
# Triton of the box's own, built with its Python, where the project expects it.
if [ -d "$root/opt/native" ] && [ -d "$root$native" ]; then
    mount --bind "$root/opt/native" "$root$native"
fi
if [ -d "$root$hidden" ]; then mount -t tmpfs -o ro,mode=755 tmpfs "$root$hidden"; fi
mkdir -p "$root/var/log" "$root/login-only"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/login-only"
mount --bind "$logs" "$root/var/log"
while read -r path; do show "$path"; done < "$binds"

cd "$root"
pivot_root . .
umount -l .
cd /
exec "$@"
