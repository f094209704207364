"""``onebit push``: a model for others, on the Hugging Face Hub."""

from __future__ import annotations

import click

from .arguments import json_option, model_argument, weights_option
from .loading import import_tensorflow, load
from .output import print_json


@click.command("push", short_help="Share a model on the Hugging Face Hub.")
@model_argument
@click.argument("repo_id", metavar="USER/REPO")
@weights_option
@click.option("--private", is_flag=True, default=None, help="Make a new repository a private one.")
@click.option("--revision", metavar="BRANCH", help="The branch, made if there is none. Default: the main one.")
@click.option("--commit-message", metavar="TEXT", help="For the history.")
@click.option("--create-pr", is_flag=True, help="Propose the commit as a pull request.")
@click.option("--license", metavar="ID", help="Licence of weights that are not registered, such as mit.")
@click.option("--dataset", metavar="NAME", help="What --top1 of weights that are not registered was measured on.")
@click.option("--top1", type=click.FloatRange(0, 100), help="Their accuracy on test images, in percent.")
@click.option("--source", metavar="TEXT", help="Where weights that are not registered come from.")
@json_option
def command(
    model: str,
    repo_id: str,
    weights: str | None,
    private: bool | None,
    revision: str | None,
    commit_message: str | None,
    create_pr: bool,
    license: str | None,
    dataset: str | None,
    top1: float | None,
    source: str | None,
    as_json: bool,
) -> None:
    """Upload MODEL, as a packed file, to the repository USER/REPO of the Hugging Face Hub, with a page about it.

    The page is made of what is registered. zoo.load("hf://USER/REPO"), and hf://USER/REPO in place of MODEL, are then
    the same model. `hf auth login` or the environment variable HF_TOKEN says who uploads.
    """
    import_tensorflow()
    from .. import zoo

    url = zoo.push_to_hub(
        load(model, weights).model,
        repo_id,
        private=private,
        revision=revision,
        commit_message=commit_message,
        create_pr=create_pr,
        license=license,
        dataset=dataset,
        metrics=None if top1 is None else {"top1": top1},
        source=source,
    )
    if as_json:
        print_json({"model": model, "repo_id": repo_id, "url": url})
        return
    click.echo(url)
