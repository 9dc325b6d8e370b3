"""Lists the files in a tar archive of unknown origin without unpacking it.

Python's `tarfile` keeps every member and reads extended headers of any size into memory. This
reader keeps none and bounds them; it parses headers with `tarfile.TarInfo`.
"""

import dataclasses
import tarfile
from collections.abc import Iterator
from pathlib import Path

from ssagan_jax.errors import DataError

_BLOCK = tarfile.BLOCKSIZE
_MAX_HEADER_BYTES = 2**16
_LONG_NAME = (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE)
_SKIPPED = (tarfile.DIRTYPE, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE)
_UNSAFE = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclasses.dataclass(frozen=True, slots=True)
class FileSlice:
    """A part of a file that is itself an encoded picture or a text.

    Attributes:
      path: the file that holds it.
      name: its own name, such as "000001.jpg".
      offset: in bytes from the beginning of the file.
      size: in bytes.
    """

    path: Path
    name: str
    offset: int
    size: int

    def read(self, max_bytes: int) -> bytes:
        """The content.

        Raises:
          DataError: it is larger than `max_bytes`, or the file cannot be read or is shorter.
        """
        if self.size > max_bytes:
            raise DataError(
                f"{self.path}, {self.name}: {self.size} bytes are more than the {max_bytes} allowed"
            )
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}") from None
        if len(content) < self.size:
            raise DataError(f"{self.path}, {self.name}: the file became shorter")
        return content


def list_members(path: Path) -> Iterator[tuple[FileSlice, str]]:
    """Yields the members of a plain tar in its order, without folders, and why each is unsafe.

    The reason is "" for a regular file. Names are as stored, and not checked.

    Raises:
      DataError: the archive is compressed, damaged or truncated; the members before are yielded.
    """
    try:
        with open(path, "rb") as file:
            end, offset = path.stat().st_size, 0
            extended: dict[str, str] = {}
            while True:
                file.seek(offset)
                try:
                    info = tarfile.TarInfo.frombuf(
                        file.read(_BLOCK), "utf-8", errors="backslashreplace"
                    )
                except tarfile.EOFHeaderError:
                    return
                except (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError):
                    raise DataError(
                        f"{path}: ends after {end} bytes without the mark of a tar's end; it was "
                        "not written or downloaded completely"
                    ) from None
                except tarfile.HeaderError as error:
                    kind = "not a plain tar" if offset == 0 else f"damaged at byte {offset}"
                    raise DataError(
                        f"{path}: {kind} ({error}); unpack it if it is compressed, otherwise "
                        "download or write it again"
                    ) from None
                name, size = extended.get("path", info.name), info.size
                size = _to_size(extended.get("size"), size)
                start, offset = offset + _BLOCK, offset + _BLOCK + -(-size // _BLOCK) * _BLOCK
                if size < 0 or start + size > end:
                    raise DataError(
                        f"{path}: ends after {end} bytes in the middle of {name!r}; it was not "
                        "written or downloaded completely"
                    )
                if info.type in _LONG_NAME:
                    if size > _MAX_HEADER_BYTES:
                        raise DataError(f"{path}: a header of {size} bytes at byte {start}")
                    extended |= _read_extended(info.type, file.read(size))
                    continue
                if info.type not in _SKIPPED:
                    sparse = any(key.startswith("GNU.sparse") for key in extended)
                    reason = "a sparse file" if sparse else _UNSAFE.get(info.type, "")
                    if not (reason or info.isreg()):
                        reason = f"of type {info.type!r}"
                    yield FileSlice(path, name, start, size), reason
                if info.type not in (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
                    extended = {}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def _to_size(text: str | None, default: int) -> int:
    return default if text is None else int(text) if text.isdecimal() else -1


def _read_extended(kind: bytes, content: bytes) -> dict[str, str]:
    """The fields of a GNU long name, or of a pax header: "LENGTH KEY=VALUE" and a line feed."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.rstrip(b"\0").decode(errors="backslashreplace")}
    fields = {}
    while content:
        length, _, _ = content.partition(b" ")
        count = int(length) if length.isdigit() else 0
        key, equals, value = content[len(length) + 1 : count].partition(b"=")
        if not equals:
            break
        fields[key.decode(errors="replace")] = value[:-1].decode(errors="backslashreplace")
        content = content[count:]
    return fields
