"""Make the kernels of other GPUs compress to nothing: NVIDIA's fat binaries inside a shared library.

A fat binary holds each kernel as machine code for several compute capabilities, and as PTX, which the driver compiles
for newer ones. The driver takes the entry that fits its GPU. Here the contents of all other entries become zeros; no
header changes, so that every offset stays. The layout is that of fatbinary_section.h in the CUDA toolkit, and of
`cuobjdump --list-elf`.
"""

import struct

_MAGIC = struct.pack("<I", 0xBA55ED50)
_HEADER = struct.Struct("<4sHHQ")
"""Magic, version, bytes of the header, bytes of the entries behind it."""

_ENTRY = struct.Struct("<HHIQ")
"""Kind, version, bytes of the entry's header, bytes of its contents."""

_ARCHITECTURE_OFFSET = 28
"""Compute capability in an entry's header: 90 for 9.0."""

PTX, MACHINE_CODE = 1, 2
"""Kinds of entries."""

_Entry = tuple[int, int, int, int]
"""Kind, architecture, start and end of the contents."""


def keep_architecture(library: bytes, architecture: int) -> bytes:
    """The library with zeros for all device code that a GPU of this compute capability does not use.

    Where a fat binary has machine code for it, that stays alone; elsewhere all PTX stays.

    Args:
        library: A shared library.
        architecture: 90 for compute capability 9.0.
    """
    result = bytearray(library)
    position = library.find(_MAGIC)
    while position >= 0:
        _, version, header_bytes, size = _HEADER.unpack_from(library, position)
        if version != 1 or header_bytes != _HEADER.size or position + header_bytes + size > len(library):
            position = library.find(_MAGIC, position + 1)  # these four bytes mean something else
            continue
        end = position + header_bytes + size
        entries = _entries(library, position + header_bytes, end)
        exact = any(kind == MACHINE_CODE and arch == architecture for kind, arch, _, _ in entries)
        for kind, arch, start, stop in entries:
            if (kind, arch) != (MACHINE_CODE, architecture) and (exact or kind != PTX):
                result[start:stop] = bytes(stop - start)
        position = library.find(_MAGIC, end)
    return bytes(result)


def _entries(library: bytes, position: int, end: int) -> list[_Entry]:
    found = []
    while position < end:
        kind, _, header_bytes, size = _ENTRY.unpack_from(library, position)
        (architecture,) = struct.unpack_from("<I", library, position + _ARCHITECTURE_OFFSET)
        start = position + header_bytes
        found.append((kind, architecture, start, start + size))
        position = start + size
    return found
