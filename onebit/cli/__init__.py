"""The ``onebit`` command line.

Each of `COMMANDS` is a module of this package, which defines ``command``; the other modules are what they share. All
import TensorFlow, and what needs it, inside the functions that use it, so that help is shown at once.
"""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any

import click

from .. import __version__
from ..util.formatting import did_you_mean, printable
from ..util.stderr import own_process

COMMANDS = (
    *("list", "info", "summary", "evaluate", "predict", "pack", "convert", "export", "benchmark", "push", "train"),
    "demo",
)


class _Commands(click.Group):
    """Imports a command when it is asked for, and prints the library's errors as one message."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]  # not list(): here that is a command

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        # What a context holds are plug-ins' commands, added by `main.add_command`.
        if name in COMMANDS:
            return importlib.import_module(f".{name}", __name__).command
        return super().get_command(ctx, name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None:
            ctx.fail(f"There is no command {printable(args[0])!r}.{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except KeyboardInterrupt as error:
            click.echo(f"\nStopped. {error}".rstrip(), err=True)
            ctx.exit(130)
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"{error}. It is among the optional packages: see the README, 'Installing'."
            ) from error
        except (ValueError, OSError, ArithmeticError, ImportError, MemoryError) as error:
            raise click.ClickException(printable(error, 4000)) from error
        except Exception as error:
            if _is_tensorflows(error):  # a full disk, too little memory, a damaged dataset
                raise click.ClickException(printable(error, 4000)) from error
            raise

    def main(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        if args is None:  # this process is the command line's alone
            own_process()
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):  # a terminal may lack a class name's letters
                    stream.reconfigure(errors="replace")
        return super().main(args, *rest, **options)


def _is_tensorflows(error: Exception) -> bool:
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(error, tensorflow.errors.OpError)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="onebit")
def main() -> None:
    """1-bit convolutional networks: what the zoo has, how good and how large its models are.

    Exit codes: 0 for success, 1 for a failure, 2 for a usage error, 130 where Ctrl-C stopped it.
    """
