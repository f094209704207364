"""Running the command line in the tests' process."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from onebit.cli import main


def run(*arguments: object, code: int = 0) -> Result:
    """Run a command; its exit code must be ``code``, and no exception may escape."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def run_json(*arguments: object):
    """Run a command with ``--json``, and return what it printed."""
    return json.loads(run(*arguments, "--json").stdout, parse_constant=pytest.fail)  # NaN is not JSON
