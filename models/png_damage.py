"""Damage within PNGs that decoders pass over: they do not look at the checksums of pixels."""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")
_SUM = struct.Struct(">I")


def damage_in_png(content: bytes) -> str:
    """Which chunk of a PNG is not what its checksum says, or cut off; empty for a whole one."""
    at = len(SIGNATURE)
    while at < len(content):
        end = at + _HEAD.size
        size, kind = _HEAD.unpack_from(content, at) if end <= len(content) else (0, b"")
        end += size
        if end + _SUM.size > len(content):
            return f"the chunk at byte {at} is cut off"
        if zlib.crc32(memoryview(content)[at + 4 : end]) != _SUM.unpack_from(content, end)[0]:
            return f"the chunk at byte {at} is not what its checksum says"
        if kind == b"IEND":
            return ""
        at = end + _SUM.size
    return "it lacks its end"
