"""The identity of photo files: whether two states belong to one file, and whether a file is complete.

A part is identified by the name, modification time, size and content of its file. A file that is overwritten or copied
is a new part. A file that is renamed, or that was inspected before it was complete, stays the same part.
"""

import os
import signal
import stat
from hashlib import blake2b
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HEAD_BYTES, PIECE_BYTES = 64, 2**20
"""Bytes at the beginning of a file, which may hold offsets to later data, and bytes that are read at once."""


def file_key(name: str, status: os.stat_result, fingerprint: str) -> str:
    """The key of a file: name, modification time in nanoseconds, size in bytes, and fingerprint."""
    return f"{name}@{status.st_mtime_ns}+{status.st_size}+{fingerprint}"


def stamp_of(status: os.stat_result) -> str:
    """Times, size and inode of a file; unchanged unless the file was written.

    The modification time alone is not enough: some cameras have no clock, and some file systems store times in steps of
    two seconds.
    """
    return f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_size} {status.st_ino}"


def fingerprint_of_file(path: str | os.PathLike[str], max_bytes: int | None = None) -> str:
    """`fingerprint_of` a file; empty for pipes and devices, which may never end.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb", opener=_open_at_once) as stream:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return ""
        return fingerprint_of(stream, max_bytes)


def _open_at_once(path: str, flags: int) -> int:
    # without O_NONBLOCK, opening a pipe waits for a writer
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def fingerprint_of(stream: BinaryIO, max_bytes: int | None = None) -> str:
    """Length, digest of the beginning and digest of the rest of a stream, without zeros at the end.

    A preallocated file ends in zeros until it is complete, and some writers update the beginning last: see
    `is_continuation`.

    Args:
        stream: a stream at its beginning.
        max_bytes: greatest number of bytes to read; None: all.
    """
    head = stream.read(HEAD_BYTES if max_bytes is None else min(HEAD_BYTES, max_bytes))
    length, read, rest = len(head.rstrip(b"\0")), len(head), blake2b(digest_size=16)
    while piece := stream.read(PIECE_BYTES if max_bytes is None else min(PIECE_BYTES, max_bytes - read)):
        used = piece.rstrip(b"\0")
        if used:
            # the offset accounts for skipped pieces of zeros before this one
            rest.update(read.to_bytes(8, "little") + used)
            length = read + len(used)
        read += len(piece)
    return f"{length}:{blake2b(head[:length], digest_size=16).hexdigest()}:{rest.hexdigest()}"


def is_continuation(former: str, now: str, path: str | os.PathLike[str]) -> bool:
    """Whether a file has only grown: its former content, followed by more.

    Args:
        former: `fingerprint_of` the file before.
        now: `fingerprint_of` the file now.
        path: the file.

    Raises:
        OSError: the file cannot be read.
    """
    length, length_now = (int(text.partition(":")[0] or 0) for text in (former, now))
    if not former or length_now <= length:
        return False
    return fingerprint_of_file(path, length).rpartition(":")[2] == former.rpartition(":")[2]


def is_being_written(path: str) -> bool:
    """Whether a program has the file open for writing, if the system can tell; otherwise False.

    Linux grants a read lease only if no program has the file open for writing. Leases are not available on network
    shares, for files of other users, and on other systems.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # a program that opens the file during the lease sends a signal; choose one that is ignored by default
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def same_inode(former: str, stamp: str) -> bool:
    """Whether two stamps belong to one file that was written in place."""
    return former.rpartition(" ")[2] == stamp.rpartition(" ")[2] != "0"
