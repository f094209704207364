"""``python -m onebit``: the command line, where the ``onebit`` command is not on the path."""

from . import util  # noqa: F401  (first, see there)

# isort: split
from .cli import main

main(prog_name="onebit")
