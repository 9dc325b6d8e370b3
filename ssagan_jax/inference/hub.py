"""Model folders on the Hugging Face hub, or on another server named in HF_ENDPOINT."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ssagan_jax.errors import InputError, is_disk_error
from ssagan_jax.inference.model_folder import FILES

# Of a model. The paper's has 0.5 GiB, and one with BERT large has 1.4.
_MAX_BYTES = 4 * 2**30
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


class HubError(InputError):
    """A model cannot be read from or written to the hub."""


def is_hub_name(name: str | os.PathLike[str]) -> bool:
    """Whether this can be a model's name on the hub, "USER/NAME"."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def is_on_hub(source: str | os.PathLike[str]) -> bool:
    """Whether a source means a model on the hub: its name, and no folder here."""
    return is_hub_name(source) and not os.path.exists(os.path.expanduser(source))


def download_model(name: str) -> Path:
    """Downloads the files of a model folder to huggingface_hub's cache; returns the folder there.

    Files of other names are neither downloaded nor read. Without network, a model that has been
    downloaded before is read from the cache.

    Raises:
      HubError: there is no such model, it is too large, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = list(FILES)
    with _one_sentence(f"{name}: there is no such folder, and"), _over_http():
        try:
            files = HfApi().model_info(name, files_metadata=True, timeout=30).siblings or ()
        except Exception as error:
            with contextlib.suppress(LocalEntryNotFoundError):
                return Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
            raise error
        _check_total(name, sum(file.size or 0 for file in files if file.rfilename in FILES))
        bar = _limited_bar(name)
        return Path(snapshot_download(name, allow_patterns=wanted, tqdm_class=bar))


def _check_total(name: str, size: int) -> None:
    if size > _MAX_BYTES:
        raise HubError(
            f"{name}: this model of the hub has {size / 2**30:.1f} GiB; at most "
            f"{_MAX_BYTES / 2**30:.1f} GiB are downloaded. If you trust it, download it with "
            "`hf download` and give its folder"
        )


def _limited_bar(name: str) -> type:
    """A progress bar that ends the download when it gets more bytes than allowed.

    Declared sizes are a server's word. All files of a download advance one bar.
    """
    from huggingface_hub.utils import tqdm

    class LimitedBar(tqdm):
        received = 0

        def update(self, n: float | None = 1) -> bool | None:
            self.received += n or 0
            _check_total(name, self.received)
            return super().update(n)

    return LimitedBar


@contextlib.contextmanager
def _over_http() -> Iterator[None]:
    """Downloads over HTTP instead of Xet, whose library writes files without asking the bar."""
    from huggingface_hub import constants

    before, constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_XET, True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def check_upload(name: str) -> None:
    """Checks what can be known before anything is exported.

    Raises:
      HubError: `name` is not of the form "USER/NAME", or there is no token to log in with.
    """
    from huggingface_hub import get_token

    if not is_hub_name(name):
        raise HubError(f"--push_to={name}: must be USER/NAME, of letters, digits, '-', '_' and '.'")
    if get_token() is None:
        raise HubError(
            f"--push_to={name}: no token of the hub; run `hf auth login`, or set HF_TOKEN to a "
            "token with write permission"
        )


def upload_model(folder: Path, name: str, files: Sequence[str]) -> str:
    """Uploads files as one commit to a public model on the hub; returns the model's address.

    Args:
      folder: on this machine.
      name: "USER/NAME"; created if it is missing.
      files: names in `folder`. Other files on the hub stay as they are.

    Raises:
      HubError: no permission, or the hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    with _one_sentence(f"--push_to={name}: not uploaded, and left in {folder}:"):
        address = api.create_repo(name, exist_ok=True)
        api.create_commit(
            name,
            [CommitOperationAdd(file, folder / file) for file in files],
            commit_message="Upload a model of ssagan_jax",
        )
    return str(address)


@contextlib.contextmanager
def _one_sentence(start: str) -> Iterator[None]:
    """Turns errors of the hub, its client and the network into HubErrors of one sentence."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise HubError(f"{start} the hub's model needs its owner's consent; ask there") from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"{start} the hub has no such model; check the name, and log in with `hf auth login` "
            "if the model is private"
        ) from error
    except HfHubHTTPError as error:
        code = error.response.status_code
        advice = "check your token's permissions" if code in (401, 403) else "try again later"
        raise HubError(
            f"{start} the hub answered {code} ({_first_line(error)}); {advice}"
        ) from error
    except Exception as error:
        # The client's threads wrap their errors in a RuntimeError.
        cause = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error
        # Its HTTP library has changed its name between versions.
        of_network = any(kind.__module__.startswith("httpx") for kind in type(cause).__mro__)
        if is_disk_error(cause) or not (of_network or isinstance(cause, OSError)):
            raise
        raise HubError(
            f"{start} the hub cannot be reached ({_first_line(cause)}); check the path and the "
            "network"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
