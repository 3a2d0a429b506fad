#!/bin/sh
# Installs podman-hpc beside Debian's Podman, set up as its own files say a site should.
set -eu
prefix=/opt/podman-hpc
rm -rf "$prefix" /etc/podman_hpc
python3 -m venv "$prefix"
"$prefix/bin/python" -m pip install --no-input --no-compile --progress-bar off podman-hpc==1.2.2
cp -r "$prefix/etc/podman_hpc" /etc/podman_hpc
sed -i "s,/usr/bin/fuse-overlayfs-wrap,$prefix/bin/fuse-overlayfs-wrap,
    s,/usr/share/containers,$prefix/share/containers," /etc/podman_hpc/podman_hpc.yaml
"$prefix/bin/python" -m podman_hpc.configure_hooks
ln -sf "$prefix/bin/podman-hpc" "$prefix/bin/fuse-overlayfs-wrap" /usr/local/bin
# A container's network is the host's, as on a node of a cluster.
printf '[containers]\nnetns = "host"\n' >/etc/containers/containers.conf

# It runs mksquashfs in the image, without the libraries of this host; Debian has no static one. So
# this one brings them along, behind a script.
program=/usr/local/bin/mksquashfs.static
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -L /usr/bin/mksquashfs $(ldd /usr/bin/mksquashfs | grep -o '/[^ ]*') "$folder"
cat >"$program" <<'SCRIPT'
#!/bin/sh
folder=$(mktemp -d /tmp/mksquashfs.XXXXXX)
sed '1,/^exit$/d' "$0" | tar -xzC "$folder"
"$folder/ld-linux-x86-64.so.2" --library-path "$folder" "$folder/mksquashfs" "$@" -e "$folder"
exit
SCRIPT
tar -czC "$folder" . >>"$program"
chmod 755 "$program"
