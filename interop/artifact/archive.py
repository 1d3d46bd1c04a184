"""The zip form: STORED entries only, written as a stream and read by rules stricter than any unzip tool's.

What enters: a file descriptor. What leaves: a zip whose entries can be mapped in place; or, reading, where
each entry's bytes lie.

Invariants of a zip written here: entries in the order given, fixed timestamps, no comments, big entries'
data aligned to 4096 by an extra field of the local header, zip64 records only where sizes need them.
A zip that is read must be laid end to end (no byte between entries belongs to nobody), with unique flat
names, no compression, no encryption, no data descriptors, and local headers that repeat the central ones.

Spec: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (6.3.10)
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from interop.errors import ArtifactError, UnsafeFileError

ALIGNMENT = 4096
"""Data of tensor files starts at a multiple of this in the zip, as it does in the files themselves."""

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_EXTRA = struct.Struct("<2H")

_LOCAL_MAGIC = b"PK\x03\x04"
_CENTRAL_MAGIC = b"PK\x01\x02"
_END_MAGIC = b"PK\x05\x06"
_END64_MAGIC = b"PK\x06\x06"
_LOCATOR64_MAGIC = b"PK\x06\x07"

_ZIP64_ID = 1
_ALIGN_ID = 0xD935  # registered for Android's zipalign: padding that readers skip
_U16 = 0xFFFF
_U32 = 0xFFFFFFFF
_ZIP64_FROM = 0x7FFFFFFF  # some readers take 32-bit sizes as signed
_DOS_EPOCH = (0, 0x21)  # 1980-01-01 00:00, the earliest a zip can say
_UTF8_FLAG = 0x800
_REGULAR_0644 = 0o100644 << 16
_MADE_BY_UNIX = 3 << 8

_MAX_ENTRIES = 1024
_MAX_CENTRAL_BYTES = 1 << 20


class ArchiveEntry(NamedTuple):
    """One entry: where its header and its data begin in the zip, how long it is, its CRC-32."""

    name: str
    header_start: int
    start: int
    size: int
    crc32: int


def local_header(name: str, size: int, crc32: int, position: int, *, align: bool) -> bytes:
    """The local header of an entry whose header starts at `position`, padded so that its data is aligned."""
    encoded = name.encode()
    big = size > _ZIP64_FROM
    extra = _EXTRA.pack(_ZIP64_ID, 16) + struct.pack("<2Q", size, size) if big else b""
    if align:
        end = position + _LOCAL.size + len(encoded) + len(extra) + _EXTRA.size + 2
        padding = -end % ALIGNMENT
        extra += _EXTRA.pack(_ALIGN_ID, 2 + padding) + struct.pack("<H", ALIGNMENT) + bytes(padding)
    shown = _U32 if big else size
    version = 45 if big else 20
    head = _LOCAL.pack(
        _LOCAL_MAGIC, version, _UTF8_FLAG, 0, *_DOS_EPOCH, crc32, shown, shown, len(encoded), len(extra)
    )
    return head + encoded + extra


def central_directory(entries: list[ArchiveEntry], position: int) -> bytes:
    """The central directory and end records for a zip whose entries end at `position`."""
    out = bytearray()
    for entry in entries:
        encoded = entry.name.encode()
        wide = b""
        size, offset = entry.size, entry.header_start
        if size > _ZIP64_FROM:
            wide += struct.pack("<2Q", size, size)
            size = _U32
        if offset > _ZIP64_FROM:
            wide += struct.pack("<Q", offset)
            offset = _U32
        extra = _EXTRA.pack(_ZIP64_ID, len(wide)) + wide if wide else b""
        version = 45 if wide else 20
        out += _CENTRAL.pack(
            _CENTRAL_MAGIC, _MADE_BY_UNIX | version, version, _UTF8_FLAG, 0, *_DOS_EPOCH, entry.crc32,
            size, size, len(encoded), len(extra), 0, 0, 0, _REGULAR_0644, offset,
        )  # fmt: skip
        out += encoded + extra
    length, count = len(out), len(entries)
    if position > _ZIP64_FROM:
        out += _END64.pack(_END64_MAGIC, _END64.size - 12, 45, 45, 0, 0, count, count, length, position)
        out += _LOCATOR64.pack(_LOCATOR64_MAGIC, 0, position + length, 1)
        position = _U32
    out += _END.pack(_END_MAGIC, 0, 0, count, count, length, position, 0)
    return bytes(out)


def read_directory(descriptor: int) -> dict[str, ArchiveEntry]:
    """Read and check a zip's directory; no entry's data is read.

    Raises:
        UnsafeFileError: a rule is broken that only a damaged or hostile zip breaks.
        ArtifactError: it is no zip at all.
    """
    size = os.fstat(descriptor).st_size
    count, length, position = _end_record(descriptor, size)
    if count > _MAX_ENTRIES or length > _MAX_CENTRAL_BYTES:
        raise UnsafeFileError(
            f"the zip lists {count} entries in {length} bytes; an artifact has four at most"
        )
    central = _read(descriptor, position, length)
    entries: dict[str, ArchiveEntry] = {}
    at = 0
    for _ in range(count):
        entry, at = _central_entry(descriptor, central, at)
        if entry.name in entries:
            raise UnsafeFileError(f"the zip has two entries called {entry.name!r}")
        entries[entry.name] = entry
    if at != length:
        raise UnsafeFileError(f"the zip's directory has {length - at} bytes after its last entry")
    expected = 0
    for entry in sorted(entries.values(), key=lambda entry: (entry.header_start, entry.start)):
        if entry.header_start != expected:
            what = "overlaps the one before it" if entry.header_start < expected else "leaves a gap before it"
            raise UnsafeFileError(f"the zip entry {entry.name!r} {what}")
        expected = entry.start + entry.size
        if expected > position:
            raise UnsafeFileError(f"the zip entry {entry.name!r} runs out of bounds")
    if expected != position:
        raise UnsafeFileError(
            f"the zip has {position - expected} bytes between its entries and its directory"
        )
    return entries


def _end_record(descriptor: int, size: int) -> tuple[int, int, int]:
    """Count, length and position of the central directory, from the record(s) at the very end of the file."""
    if size < _END.size:
        raise ArtifactError(f"the file is {size} bytes, too short for a zip")
    tail = size - _END.size
    magic, disk, first, here, count, length, position, comment = _END.unpack(
        _read(descriptor, tail, _END.size)
    )
    if magic != _END_MAGIC or comment:
        raise ArtifactError("the file does not end with a zip directory: it is truncated, or no artifact")
    wide = size >= _END.size + _LOCATOR64.size and _read(
        descriptor, tail - _LOCATOR64.size, _LOCATOR64.size
    ).startswith(_LOCATOR64_MAGIC)
    if wide:
        tail -= _LOCATOR64.size
        _, disk64, at, disks = _LOCATOR64.unpack(_read(descriptor, tail, _LOCATOR64.size))
        if at != tail - _END64.size:
            raise UnsafeFileError("the zip's 64-bit end record is not where its locator says")
        tail = at
        magic64, _, _, _, d0, d1, here64, count64, length64, position64 = _END64.unpack(
            _read(descriptor, at, _END64.size)
        )
        if magic64 != _END64_MAGIC or disk64 or d0 or d1 or disks != 1:
            raise UnsafeFileError("the zip's 64-bit end record is malformed")
        narrow = (
            (here, _U16, here64),
            (count, _U16, count64),
            (length, _U32, length64),
            (position, _U32, position64),
        )
        if any(short not in (full, none) for short, none, full in narrow):
            raise UnsafeFileError("the zip's two end records disagree")
        here, count, length, position = here64, count64, length64, position64
    if disk or first or here != count or position + length != tail:
        raise UnsafeFileError("the zip's end record does not describe the directory before it")
    return count, length, position


def _central_entry(descriptor: int, central: bytes, at: int) -> tuple[ArchiveEntry, int]:
    """Check the central header at `at` and its local header; return the entry and where the next begins."""
    if at + _CENTRAL.size > len(central):
        raise UnsafeFileError("the zip's directory ends in the middle of an entry")
    (magic, _, _, flags, method, _, _, crc32, packed, size, name_length, extra_length, comment_length, disk,
     _, _, header_start) = _CENTRAL.unpack_from(central, at)  # fmt: skip
    end = at + _CENTRAL.size + name_length + extra_length + comment_length
    if magic != _CENTRAL_MAGIC or end > len(central):
        raise UnsafeFileError("the zip's directory is malformed")
    raw_name = central[at + _CENTRAL.size : at + _CENTRAL.size + name_length]
    name = _flat_name(raw_name)
    extra = central[end - comment_length - extra_length : end - comment_length]
    size, packed, header_start = _widen(extra, name, [size, packed, header_start])
    if method != 0 or packed != size:
        raise UnsafeFileError(f"the zip entry {name!r} is compressed; an artifact's entries are STORED")
    if flags & ~_UTF8_FLAG or disk:
        raise UnsafeFileError(
            f"the zip entry {name!r} has flags {flags:#x}: encrypted, or its sizes come later"
        )

    local = _read(descriptor, header_start, _LOCAL.size)
    magic, _, lflags, lmethod, _, _, lcrc32, lpacked, lsize, lname_length, lextra_length = _LOCAL.unpack(
        local
    )
    rest = _read(descriptor, header_start + _LOCAL.size, lname_length + lextra_length)
    if magic != _LOCAL_MAGIC:
        raise UnsafeFileError(f"the zip entry {name!r} has no local header where the directory says")
    lsize, lpacked = _widen(rest[lname_length:], name, [lsize, lpacked])
    if (rest[:lname_length], lflags, lmethod, lcrc32, lsize, lpacked) != (
        raw_name,
        flags,
        0,
        crc32,
        size,
        size,
    ):
        raise UnsafeFileError(f"the zip entry {name!r} has a local header that disagrees with the directory")
    start = header_start + _LOCAL.size + lname_length + lextra_length
    return ArchiveEntry(name, header_start, start, size, crc32), end


def _widen(extra: bytes, name: str, values: list[int]) -> list[int]:
    """Replace 32-bit values that say "see zip64" by those of the zip64 extra field, in order."""
    at, wide = 0, b""
    while at + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size
        if at + length > len(extra):
            raise UnsafeFileError(f"the zip entry {name!r} has a malformed extra field")
        if kind == _ZIP64_ID:
            wide = extra[at : at + length]
        at += length
    needed = [index for index, value in enumerate(values) if value == _U32]
    if len(wide) < 8 * len(needed):
        raise UnsafeFileError(f"the zip entry {name!r} lacks its 64-bit sizes")
    for index, value in zip(needed, struct.unpack_from(f"<{len(needed)}Q", wide), strict=True):
        values[index] = value
    return values


def _flat_name(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError as e:
        raise UnsafeFileError(f"the zip has an entry whose name is not UTF-8: {raw!r}") from e
    if not name or name in (".", "..") or any(mark in name for mark in "/\\:\0"):
        raise UnsafeFileError(f"the zip entry {name!r} has a path in its name; an artifact's names are flat")
    return name


def _read(descriptor: int, position: int, length: int) -> bytes:
    data = os.pread(descriptor, length, position) if 0 <= position < 1 << 62 else b""
    if len(data) != length:
        raise UnsafeFileError(f"the zip points to bytes {position} to {position + length}, outside the file")
    return data
