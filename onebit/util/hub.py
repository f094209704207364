"""Files of the Hugging Face Hub, by its own client: its revisions, cache, tokens and offline mode are as everywhere."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .. import __version__
from .formatting import printable
from .optional import require

FILE = "model.onebit"
"""What a packed file is called in a repository of its own."""
CLIENT = {"library_name": "onebit", "library_version": __version__}

_PREFIX, _ENDING = "hf://", ".onebit"
_ADDRESS = re.compile(
    r"hf://(?:models/)?(?!(?:buckets|datasets|kernels|models|spaces)/)"
    r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/pr/\d+|[^/]+))?(?:/(?P<file>.+))?"
)
_LOG_IN = "`hf auth login` or the environment variable HF_TOKEN"


def is_address(value: object) -> bool:
    """Return whether a value is the address of something on the Hub, not of a file here."""
    return isinstance(value, str) and value.startswith(_PREFIX)


def local(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return a path as it is, and for an address on the Hub that of the file, see `download`."""
    return download(path) if isinstance(path, str) and is_address(path) else path


def download(address: str) -> Path:
    """Return the file at an address on the Hub, in the client's cache, fetching it unless it is there already.

    Args:
        address: ``"hf://USER/REPO"``, with ``@REVISION`` (a branch, a tag or a commit) and ``/FILE`` behind it if
            wanted. Without a file it is ``model.onebit``, else the only packed file of the repository.

    Raises:
        ValueError: It is no such address, or the repository has several packed files; the message names them.
        FileNotFoundError: There is no such repository, revision or file.
        PermissionError: The repository is for those only who are logged in, or were granted access.
        ConnectionError: The Hub cannot be reached, and the file is not in the cache.
        ModuleNotFoundError: The client is not installed.
    """
    found = _ADDRESS.fullmatch(address)
    if not found:
        raise ValueError(
            f"{printable(address)} is not the address of a model on the Hugging Face Hub: hf://USER/REPO, "
            "hf://USER/REPO@REVISION or hf://USER/REPO@REVISION/FILE."
        )
    client, (repo, revision, file) = require_client(), found.group("repo", "revision", "file")
    with plain_errors(repo):
        folder = client.snapshot_download(
            repo,
            revision=revision and unquote(revision),
            allow_patterns=glob.escape(file) if file else f"*{_ENDING}",
            **CLIENT,
        )
    there = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
    packed = [name for name in there if name.endswith(_ENDING)]
    wanted = file or (packed[0] if len(packed) == 1 else FILE)
    if wanted in there:
        return Path(folder, wanted)
    if file or not packed:
        what = f"file {printable(file)}" if file else f"packed file (*{_ENDING})"
        raise FileNotFoundError(f"{printable(address)} has no {what}.")
    raise ValueError(
        f"{printable(address)} has several packed files: add one of {printable(', '.join(packed))} to the address, as "
        f"in hf://{repo}{'@' + revision if revision else ''}/{printable(packed[0])}."
    )


def require_client() -> Any:
    """Return the module `huggingface_hub`."""
    return require(
        "huggingface_hub", 'The Hugging Face Hub needs huggingface_hub, which is not installed: pip install ".[hub]"'
    )


@contextlib.contextmanager
def plain_errors(repo: str) -> Iterator[None]:
    """Let whatever the client raises about a repository be one of Python's own errors, of one line."""
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    try:
        yield
    except errors.GatedRepoError as error:
        raise PermissionError(f"{repo} is gated: ask for access at {hub}/{repo}, and log in by {_LOG_IN}.") from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"There is no repository {repo} at {hub}, or it is private: then log in by {_LOG_IN}."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"The repository {repo} at {hub} has no such revision.") from error
    except errors.EntryNotFoundError as error:  # of the cache: what the Hub lacks is seen before
        cause = printable(error.__cause__ or error, 200)
        why = "offline mode is on (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else f"{hub} is out of reach ({cause})"
        raise ConnectionError(
            f"{repo} is not in the cache {constants.HF_HUB_CACHE}, or not at that revision, and {why}."
        ) from error
    except errors.HfHubHTTPError as error:
        refused = error.response is not None and error.response.status_code in (401, 403)
        kind, remedy = (PermissionError, f" Log in by {_LOG_IN}.") if refused else (ConnectionError, "")
        raise kind(f"{hub} refuses {repo}: {printable(error, 300)}{remedy}") from error
    except (ValueError, OSError):
        raise
    except Exception as error:  # the transport's errors differ between the client's versions
        raise ConnectionError(f"{hub} cannot be reached for {repo}: {printable(error, 300)}") from error
