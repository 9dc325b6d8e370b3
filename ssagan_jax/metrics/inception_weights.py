"""The file of the Inception v3 weights that FID is defined by: given, or a checked download."""

import hashlib
import os
import urllib.request
from pathlib import Path

from ssagan_jax.errors import InputError

# The network of 2015-12-05 carried over to PyTorch, as both packages publish it.
URLS = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
)
# torch.hub's convention: the name ends in the first digits of the file's SHA-256.
SHA256_PREFIX = "6726825d"
DOWNLOAD = "download"
_SECONDS = 30


def cache_folder() -> Path:
    """The project's folder for what can be had again: SSAGAN_CACHE, or ~/.cache/ssagan_jax."""
    return Path(os.environ.get("SSAGAN_CACHE") or "~/.cache/ssagan_jax").expanduser()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def how_to_fetch() -> str:
    """Says what to fetch, and where to put it."""
    places = " or ".join(str(_place(url)) for url in URLS)
    return (
        f"fetch {' or '.join(URLS)} (95 MB), put it at {places}, or name the file by "
        f"--inception_weights=FILE or config.eval.inception_weights; where there is a network, "
        f"--inception_weights={DOWNLOAD} does that"
    )


def _place(url: str) -> Path:
    return cache_folder() / url.rpartition("/")[2]


def find_weights(wanted: str) -> Path | None:
    """The file to read weights from.

    Args:
      wanted: a file; "download" for the published weights, fetched unless they are in the cache;
        "" for those in the cache, if they are there.

    Returns:
      Its path, or None where `wanted` is "" and the cache has none.

    Raises:
      InputError: there is no such file, a download fails or is not what was published.
    """
    if wanted and wanted != DOWNLOAD:
        path = Path(wanted).expanduser()
        if not path.is_file():
            raise InputError(
                f"Inception weights {wanted!r}: there is no such file; {how_to_fetch()}"
            )
        return path
    for path in map(_place, URLS):
        if path.is_file():
            _check(path)
            return path
    return _download() if wanted else None


def _check(path: Path) -> None:
    found = file_sha256(path)
    if not found.startswith(SHA256_PREFIX):
        raise InputError(
            f"{path}: SHA-256 {found} does not begin with {SHA256_PREFIX}, so this is not the "
            "published file; remove it"
        )


def _download() -> Path:
    faults = []
    for url in URLS:
        place = _place(url)
        partial = place.with_suffix(".part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(url, timeout=_SECONDS) as source:
                with open(partial, "wb") as file:
                    while block := source.read(2**20):
                        file.write(block)
            _check(partial)
        except (OSError, InputError) as error:
            partial.unlink(missing_ok=True)
            faults.append(f"{url}: {error}")
            continue
        return partial.replace(place)
    raise InputError(f"Inception weights: {'; '.join(faults)}. To do it by hand, {how_to_fetch()}")
