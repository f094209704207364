"""``python -m onebit``: the command line, where the ``onebit`` command is not on the path."""

from .cli import main

main(prog_name="onebit")
