"""Finds files of a model that was published on the Hugging Face hub, or of its copy in a folder."""

import os

from ssagan_jax.errors import DamagedFileError


def find_published_file(folder_or_name: str, *names: str) -> str:
    """Path of the first of the files `names` that a folder or a model of the hub has.

    Args:
      folder_or_name: a folder, or a name on the Hugging Face hub, of which the local cache is
        used if it has the file.
      *names: file names, in order of preference.

    Raises:
      FileNotFoundError: the folder, or the cache and the hub, have none of them.
      DamagedFileError: the first one of the folder is a pipe, a device, a socket or a folder.
    """
    if os.path.isdir(folder_or_name):
        for path in (os.path.join(folder_or_name, name) for name in names):
            if os.path.isfile(path):
                return path
            if os.path.exists(path):
                raise DamagedFileError(f"{path}: not a plain file; remove it")
        raise FileNotFoundError(f"{folder_or_name} holds none of {', '.join(names)}")
    # Slow to import, and not needed if the model is a folder.
    from transformers.utils import cached_file

    cause = None
    for name in names:
        try:
            if path := cached_file(folder_or_name, name):
                return path
        except OSError as error:
            cause = error
    raise FileNotFoundError(
        f"there is no folder {folder_or_name!r}, and no model of that name with "
        f"{' or '.join(names)} in the local Hugging Face cache or on the hub. On a machine with "
        f"network access, run `hf download {folder_or_name} --local-dir FOLDER`, copy FOLDER here "
        f"and give its path instead of the name. Cause: {cause}"
    ) from cause
