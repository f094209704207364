"""Models for others, on the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import tensorflow as tf

from ... import __version__
from ...util.hub import CLIENT, FILE, plain_errors, require_client
from .card import ModelCard, pack


def push_to_hub(
    model: tf.keras.Model,
    repo_id: str,
    *,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    license: str | None = None,
    dataset: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    source: str | None = None,
) -> str:
    """Upload a model to the Hugging Face Hub: its packed file and its page, in one commit.

    The page (``README.md``) is that of `model_card`, with the Hub's metadata. ``zoo.load("hf://USER/REPO")`` is then
    the same model.

    Args:
        model: Any Keras model; one that the zoo did not build is shared as weights, see `save_packed`.
        repo_id: ``"USER/REPO"``, which is made if there is none.
        commit_message: For the history.
        private: Whether a new repository is private. Default: what the account has as its default.
        token: A token of the Hub. Default: what ``hf auth login`` or ``HF_TOKEN`` set.
        revision: The branch, which is made if there is none. Default: the main one.
        create_pr: Propose the commit as a pull request instead of making it.
        license: Of weights that are not registered: their licence, an identifier of the Hub's such as ``"mit"``.
        dataset: Of such weights: what ``metrics`` were measured on, a name of TensorFlow Datasets or any other.
        metrics: Of such weights: their accuracy on test images in percent, ``{"top1": 81.2, "top5": 98.9}``.
        source: Of such weights: where they come from.

    Returns:
        The URL of the commit, or of the pull request.

    Raises:
        ValueError: An argument is not as described, or the model was changed in place, so that its packed file would
            make another one.
        PermissionError: The token is none, or does not allow it.
        ConnectionError, FileNotFoundError: The Hub cannot be reached, or has no such repository for that token.
        ModuleNotFoundError: The client is not installed.
    """
    client = require_client()
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(repo_id)
    if metrics is not None and (odd := [name for name, value in metrics.items() if not _is_share(name, value)]):
        raise ValueError(f"metrics must be top1 and top5 in percent, not {odd[0]}={metrics[odd[0]]!r}.")
    if metrics and dataset is None:
        raise ValueError("dataset must say what metrics were measured on.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, FILE)
        branch = "" if revision is None or create_pr else "@" + quote(revision, safe="")
        card = pack(
            model,
            file,
            address=f"hf://{repo_id}{branch}",
            license=license,
            dataset=dataset,
            metrics=metrics,
            source=source,
        )
        page = _page(card)
        with plain_errors(repo_id):
            api = client.HfApi(token=token, **CLIENT)
            full_name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision is not None and not create_pr:
                api.create_branch(full_name, branch=revision, exist_ok=True)
            done = api.create_commit(
                full_name,
                [client.CommitOperationAdd(FILE, file), client.CommitOperationAdd("README.md", page.encode())],
                commit_message=commit_message or f"{card.title}, by onebit {__version__}",
                revision=revision,
                create_pr=create_pr,
            )
    return done.pr_url or done.commit_url


def _page(card: ModelCard) -> str:
    """Return a page with the Hub's metadata before it."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    results = [EvalResult(**fields) for fields in card.metadata["eval_results"]]
    data = ModelCardData(**{**card.metadata, "eval_results": results or None})
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{card.text}"))


def _is_share(name: str, value: object) -> bool:
    return name in ("top1", "top5") and isinstance(value, int | float) and 0 <= value <= 100
