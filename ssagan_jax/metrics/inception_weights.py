"""The Inception v3 weight file that defines FID: the user's, or a verified download."""

import hashlib
import os
import shutil
import urllib.request
from pathlib import Path

from ssagan_jax.atomic_files import atomic_path
from ssagan_jax.errors import InputError

# The network of 2015-12-05, ported to PyTorch; both packages publish the same file.
URLS = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
)
# torch.hub's convention: the name ends in the first digits of the file's SHA-256.
SHA256_PREFIX = "6726825d"
DOWNLOAD = "download"
_TIMEOUT_SECONDS = 30


def cache_folder() -> Path:
    """Folder of data that can be recomputed: $SSAGAN_CACHE, or ~/.cache/ssagan_jax."""
    return Path(os.environ.get("SSAGAN_CACHE") or "~/.cache/ssagan_jax").expanduser()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def how_to_fetch() -> str:
    """How to get the weights, for messages."""
    paths = " or ".join(str(_cache_path(url)) for url in URLS)
    return (
        f"fetch {' or '.join(URLS)} (95 MB) and save it as {paths}, or pass the file with "
        f"--inception_weights=FILE or config.eval.inception_weights; with internet access, "
        f"--inception_weights={DOWNLOAD} downloads it"
    )


def _cache_path(url: str) -> Path:
    return cache_folder() / url.rpartition("/")[2]


def find_weights(wanted: str) -> Path | None:
    """Finds or downloads the weight file.

    Args:
      wanted: a file; "download" for the published weights, downloaded unless cached; or "" for
        the cached ones if there are any.

    Returns:
      Its path, or None if `wanted` is "" and there is none in the cache.

    Raises:
      InputError: the file does not exist, the download fails, or the hash does not match.
    """
    if wanted and wanted != DOWNLOAD:
        path = Path(wanted).expanduser()
        if not path.is_file():
            raise InputError(
                f"Inception weights {wanted!r}: there is no such file; {how_to_fetch()}"
            )
        return path
    for path in map(_cache_path, URLS):
        if path.is_file():
            _check(path)
            return path
    return _download() if wanted else None


def _check(path: Path) -> None:
    digest = file_sha256(path)
    if not digest.startswith(SHA256_PREFIX):
        raise InputError(
            f"{path}: SHA-256 {digest} does not begin with {SHA256_PREFIX}, so this is not the "
            "published file; remove it"
        )


def _download() -> Path:
    errors = []
    for url in URLS:
        path = _cache_path(url)
        try:
            with atomic_path(path) as temporary:
                with (
                    urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as source,
                    open(temporary, "wb") as file,
                ):
                    shutil.copyfileobj(source, file)
                _check(temporary)
            return path
        except (OSError, InputError) as error:
            errors.append(f"{url}: {error}")
    raise InputError(f"Inception weights: {'; '.join(errors)}. To do it by hand, {how_to_fetch()}")
