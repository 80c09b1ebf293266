from pathlib import Path

import pytest

from tagmask.runs.mounts import mounted_types, network_type

MOUNTS = r"""
/dev/sda1 / ext4 rw,relatime 0 0
server:/data /mnt/nas nfs4 rw,vers=4.2 0 0
//pc/share /mnt/my\040photos cifs rw 0 0
host /mnt/host 9p rw 0 0
bucket /mnt/bucket fuse.s3fs rw 0 0
/dev/sdb1 /mnt/usb fuseblk rw 0 0
overlay /mnt/nas/scratch overlay rw 0 0
tmpfs /run tmpfs rw 0 0
automount /mnt/auto autofs rw 0 0
server:/home /mnt/auto nfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/run", None),
        ("/mnt/nas", "nfs4"),
        ("/mnt/nas/a/b", "nfs4"),
        ("/mnt/nas2", None),
        ("/mnt/my photos/run", "cifs"),
        ("/mnt/host/x", "9p"),
        ("/mnt/bucket/x", "fuse.s3fs"),
        ("/mnt/usb/x", "fuseblk"),
        ("/mnt/nas/scratch/x", None),
        ("/run/x", None),
        ("/mnt/auto/x", "nfs"),
    ],
)
def test_the_deepest_mount_decides(path, kind):
    assert network_type(Path(path), mounted_types(MOUNTS)) == kind
