"""WebDataset: shards `00000.tar` with `KEY.jpg` and `KEY.txt` or `KEY.json`, as img2dataset writes.

The text holds one sentence per line; without it, the JSON's caption key is read. `KEY.cls` may name
a class. Folders inside a shard may be splits and classes; folders around it and words of its name
(`train-00000.tar`) may be splits. Pictures are read from the shards, which are not unpacked.
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ssagan_jax.data.caption_columns import guess_caption_columns, texts_of
from ssagan_jax.data.formats.folder_names import (
    PICTURE_EXTENSIONS,
    SplitFolders,
    is_picture,
    split_of_file,
    strip_extension,
)
from ssagan_jax.data.formats.item import Item
from ssagan_jax.data.formats.safe_paths import check_name, decode_text, unsafe_reason, walk_files
from ssagan_jax.errors import DataError
from ssagan_jax.untrusted.tar_members import FileSlice, list_members

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_TEXTS = ("txt", "json", "cls")
_OTHER_TEXTS = {"text": "txt", "caption": "txt"}
_MAX_TEXT_BYTES = 2**20
_MAX_SHARDS = 10**6


@dataclasses.dataclass(slots=True)
class _Sample:
    """The members of one key by their extension, and why they cannot be used."""

    members: dict[str, FileSlice] = dataclasses.field(default_factory=dict)
    error: str = ""


@dataclasses.dataclass(frozen=True)
class WebDataset:
    """A shard, a folder of shards, or a pattern such as `shards/{00000..00099}.tar`.

    Attributes:
      caption_columns: keys of the JSON that hold captions; empty to take the text or, without
        one, the first of the usual keys.
    """

    caption_columns: tuple[str, ...] = ()

    def recognises(self, source: Path) -> bool:
        """Whether there is a shard, or the source is one or a pattern of shards."""
        if source.is_dir():
            files = list(walk_files(source))
            if any(file.endswith(".tar") for file in files):
                return True
            # Beside folders of pictures, an archive is what they were unpacked from.
            unpacked = any(is_picture(file) and "/" in file for file in files)
            return not unpacked and any(file.endswith(_COMPRESSED) for file in files)
        return source.name.endswith(".tar") and (source.is_file() or "{" in str(source))

    def items(self, source: Path) -> Iterator[Item]:
        """Yields the samples shard by shard, and an item for each shard that cannot be read.

        Of each shard, the positions of its members are kept, but no picture.

        Raises:
          DataError: shards of the pattern are missing.
        """
        root, shards = _find_shards(source)
        for shard in shards:
            name = strip_extension(shard)
            if shard.endswith(_COMPRESSED):
                error = f"{root / shard}: compressed; unpack it to a plain .tar (gunzip, unzstd)"
            else:
                error = unsafe_reason(root, root / shard)
            if not error:
                samples, error = _read_shard(root / shard)
                split = split_of_file(shard)
                split_and_label = SplitFolders(samples)
                for key, sample in samples.items():
                    inner_split, label = split_and_label(key)
                    yield self._item(f"{name}/{key}", label, inner_split or split, sample)
            if error:
                yield Item(shard, None, (), error=error)

    def _item(self, name: str, label: str, split: str, sample: _Sample) -> Item:
        if sample.error:
            return Item(name, None, (), label, split, error=sample.error)
        pictures = [
            member for kind, member in sample.members.items() if f".{kind}" in PICTURE_EXTENSIONS
        ]
        try:
            if len(pictures) > 1:
                raise DataError(f"two pictures, {pictures[0].name} and {pictures[1].name}")
            dotted = [member.name for member in sample.members.values() if is_picture(member.name)]
            if dotted and not pictures:
                raise DataError(
                    f"{dotted[0]}: the key ends at the first dot; take other dots out of the name"
                )
            if "cls" in sample.members:
                label = _read_text(sample.members["cls"]).strip()
            captions = self._captions(sample)
        except DataError as error:
            return Item(name, None, (), label, split, error=str(error))
        return Item(name, pictures[0] if pictures else None, captions, label, split)

    def _captions(self, sample: _Sample) -> tuple[str, ...]:
        if "txt" in sample.members and not self.caption_columns:
            lines = _read_text(sample.members["txt"]).splitlines()
            return tuple(line for line in lines if line.strip())
        if "json" not in sample.members:
            return ()
        member = sample.members["json"]
        try:
            content = json.loads(_read_text(member))
        except (ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{member.name}: not JSON ({error})") from None
        if not isinstance(content, dict):
            raise DataError(f"{member.name}: not a JSON object with a caption key")
        columns = self.caption_columns or guess_caption_columns(content)
        if missing := [column for column in columns if column not in content]:
            raise DataError(f"{member.name}: no key {missing[0]!r}; it has {', '.join(content)}")
        captions = texts_of([content[column] for column in columns])
        if captions is None:
            raise DataError(
                f"{member.name}: {', '.join(columns)} holds no sentence or list of them"
            )
        return captions


def expand_braces(pattern: str) -> list[str]:
    """ "a-{00..02}.tar" to three names with the same number of digits, "{a,b}.tar" to two.

    Raises:
      DataError: more than a million names.
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = []
    for index, part in enumerate(parts):
        numbers = re.fullmatch(r"(\d+)\.\.(\d+)", part) if index % 2 else None
        if numbers:
            first, last = numbers.groups()
            if int(last) - int(first) >= _MAX_SHARDS:
                raise DataError(f"--source={pattern}: more than {_MAX_SHARDS} shards")
            count = range(int(first), int(last) + 1)
            choices.append([f"{number:0{len(first)}d}" for number in count])
        else:
            choices.append(part.split(",") if index % 2 else [part])
    names = itertools.islice(itertools.product(*choices), _MAX_SHARDS + 1)
    expanded = ["".join(each) for each in names]
    if len(expanded) > _MAX_SHARDS:
        raise DataError(f"--source={pattern}: more than {_MAX_SHARDS} shards")
    return expanded


def _find_shards(source: Path) -> tuple[Path, list[str]]:
    """The folder that holds all shards, and their paths below it, sorted by folder and name."""
    if source.is_dir():
        files = walk_files(source)
        return source, [file for file in files if file.endswith((".tar", *_COMPRESSED))]
    root = Path(str(source).partition("{")[0] + "x").parent
    shards = [Path(name) for name in expand_braces(str(source))]
    missing = [str(shard) for shard in shards if not shard.exists()]
    if missing:
        raise DataError(
            f"--source={source}: {len(missing)} of {len(shards)} shards are missing, the first is "
            f"{missing[0]}; download them or change the numbers in the braces"
        )
    return root, [shard.relative_to(root).as_posix() for shard in shards]


def _read_shard(shard: Path) -> tuple[dict[str, _Sample], str]:
    """The samples by key in the order of their first members, and why reading stopped, if early.

    Members of one key need not follow each other. A key ends at the first dot of the file's name.
    """
    samples: dict[str, _Sample] = {}
    try:
        for member, reason in list_members(shard):
            path = PurePosixPath(member.name)
            stem, _, kind = path.name.partition(".")
            if not stem:  # Hidden, such as macOS's "._0001.jpg".
                continue
            kind = _OTHER_TEXTS.get(kind.lower(), kind.lower())
            if kind not in _TEXTS and not is_picture(path.name) and not reason:
                continue
            sample = samples.setdefault(str(path.with_name(stem)), _Sample())
            try:
                check_name(member.name, shard)
                if reason:
                    raise DataError(f"{shard}: {member.name!r} is {reason}; pack the file itself")
                if kind in sample.members:
                    raise DataError(f"{shard}: two members are named {member.name!r}")
            except DataError as error:
                sample.error = sample.error or str(error)
            sample.members[kind] = member
    except DataError as error:
        return samples, str(error)
    return samples, ""


def _read_text(member: FileSlice) -> str:
    return decode_text(member.read(_MAX_TEXT_BYTES))
