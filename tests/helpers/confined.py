"""Commands that run as an ordinary user, or on a node that forbids networks of one's own.

In user namespaces, so that the kernel itself refuses, and nothing of this machine is changed.
"""

AS_A_USER = ("unshare", "--user", "--map-user=61235", "--map-group=61235", "--")
"""Without a capability, as every ordinary user; with the files of the one who runs the tests."""

WITHOUT_NETWORKS = (
    *("unshare", "--user", "--map-root-user", "sh", "-euc"),
    *('echo 0 >/proc/sys/user/max_net_namespaces && exec "$@"', "sh", *AS_A_USER),
)
"""The same, where the node's limit of network namespaces is 0."""
