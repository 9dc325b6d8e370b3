"""Zip archives, whose parts are checked against the file's size before they are unpacked; .npz."""

import io
import math
import os
import zipfile
from typing import Any, BinaryIO

import numpy as np

from ssagan_jax.errors import DamagedFileError
from ssagan_jax.untrusted import limits
from ssagan_jax.untrusted.files import open_regular

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Others unpack without a bound.


class BoundedZip:
    """The parts of a zip archive.

    Attributes:
      names: of its parts.
    """

    def __init__(self, file: BinaryIO, max_bytes: int | None = None) -> None:
        """Reads the list of parts.

        Args:
          file: the archive.
          max_bytes: to which its parts may unpack together; None: ARCHIVE_RATIO times the file.

        Raises:
          ValueError, zipfile.BadZipFile: it is damaged, or exceeds a limit.
        """
        size = os.fstat(file.fileno()).st_size
        reads = _BoundedReads(file)
        self._zip = zipfile.ZipFile(reads)
        reads.is_bounded = False
        parts = self._zip.infolist()
        most = limits.ARCHIVE_RATIO * size + limits.ARCHIVE_SPARE_BYTES
        most = most if max_bytes is None else max_bytes
        if sum(part.compress_size for part in parts) > size:
            raise ValueError("is damaged: its parts overlap")
        if (unpacked := sum(part.file_size for part in parts)) > most:
            raise ValueError(f"unpacks to {unpacked} bytes; at most {most} are read")
        self.names = [part.filename for part in parts]

    def size(self, name: str) -> int:
        """The unpacked bytes of a part; raises KeyError if there is none."""
        return self._zip.getinfo(name).file_size

    def read(self, name: str) -> bytes:
        """The bytes of a part, as many as the list says, or it raises zipfile.BadZipFile."""
        part = self._zip.getinfo(name)
        if part.compress_type not in _METHODS:
            raise ValueError(f"{name} is compressed by another method than deflate")
        return self._zip.read(part)


class _BoundedReads(io.BufferedIOBase):
    """A file that refuses to read much at once, as zipfile does the list of parts.

    Attributes:
      is_bounded: whether it still does.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.is_bounded = True
        self._file = file

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.is_bounded:
            return self._file.read(size)
        most = limits.ARCHIVE_INDEX_BYTES
        content = self._file.read(most + 1 if size is None or size < 0 else min(size, most + 1))
        if len(content) > most:
            raise ValueError(f"its list of parts has more than {most} bytes")
        return content

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence == io.SEEK_SET and offset < 0:
            raise ValueError("its list of parts leads out of the file")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file of numbers and text; its pickles are not read.

    Raises:
      OSError: it is missing or cannot be read.
      DamagedFileError: it is damaged, or exceeds a limit.
    """
    with open_regular(path) as file:
        try:
            archive = BoundedZip(file, limits.NPZ_BYTES)
            return {n.removesuffix(".npy"): _read_npy(archive.read(n)) for n in archive.names}
        # zipfile, zlib and numpy raise many types.
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise DamagedFileError(f"{path}: not a readable .npz file ({what})") from None


def _read_npy(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header: Any = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(file)
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"an array of shape {shape} does not fit its bytes")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)
