"""Which folders lie on another machine's disk, where shared memory and file locks cannot be relied on."""

import os
import re
from pathlib import Path

__all__ = ["is_network_folder", "mounted_types", "network_type"]

_NETWORK = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "cvmfs",
        "drvfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "prl_fs",
        "pvfs2",
        "smb2",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
        "wekafs",
    ]
)


def is_network_folder(folder: Path) -> bool:
    """Whether a folder, or the nearest one above it that exists, is on a network or FUSE file system.

    Only Linux tells; elsewhere the answer is False.
    """
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    return network_type(Path(os.path.realpath(folder)), mounted_types(mounts)) is not None


def mounted_types(mounts: str) -> dict[str, str]:
    r"""File system type by mount point, from the text of `/proc/mounts`; of several on one point, the last.

    Example:
        >>> mounted_types("srv:/x /mnt/my\\040photos nfs4 rw 0 0")
        {'/mnt/my photos': 'nfs4'}
    """
    types = {}
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) >= 3:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
            types[point] = fields[2]
    return types


def network_type(path: Path, types: dict[str, str]) -> str | None:
    """The type of the network or FUSE file system that holds an absolute path; None on a local disk.

    Example:
        >>> network_type(Path("/mnt/nas/run"), {"/": "ext4", "/mnt/nas": "cifs"})
        'cifs'
    """
    for folder in (path, *path.parents):
        kind = types.get(str(folder))
        if kind is not None:
            return kind if kind in _NETWORK or kind.startswith("fuse") else None
    return None
