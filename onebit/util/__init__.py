"""What every part of the package uses and nobody imports for its own sake."""

import importlib.util
import sys
from pathlib import Path

_package = sys.modules[__name__.rpartition(".")[0]]
if getattr(_package, "__file__", None) is None:
    # Python was started beside a folder of the package's name, such as a clone. That comes before an editable
    # installation, as a package without code: the code has not run that selects Keras 2.
    _spec = importlib.util.spec_from_file_location(_package.__name__, Path(__file__).parents[1] / "__init__.py")
    assert _spec and _spec.loader and _spec.submodule_search_locations
    _package.__spec__, _package.__path__, _package.__file__ = _spec, _spec.submodule_search_locations, _spec.origin
    _spec.loader.exec_module(_package)
