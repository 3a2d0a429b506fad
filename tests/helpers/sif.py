"""Files that begin as SIF images do."""

import struct
from pathlib import Path


def write_sif(path: Path, content: bytes = b"squashfs") -> Path:
    """A file with the global header of a SIF image, as Apptainer writes it, and some content."""
    header = bytearray(4096)
    header[:31] = b"#!/usr/bin/env run-singularity\n"
    header[32:48] = b"SIF_MAGIC\x0001\x0002\x00"
    struct.pack_into("<qq", header, 112, len(header), len(content))
    path.write_bytes(bytes(header) + content)
    return path
