"""What turns a real tensor into 1 bit, and the layers around the sign.

Every quantizer works with any Larq layer that its formula has a meaning for, by object or by registered name
(``"rsign"``, ``"RSign"``), and counts as 1 bit in ``larq.models.summary``. ``ApproxSign`` and ``EDE`` are for
activations and kernels, ``RSign`` for activations, the others for kernels. ``MagnitudeAwareSign`` is Larq's own class.

Where a quantizer has variables (``RSign``, ``EDE``, ``LibraPB``), give each layer an object of its own: the ``.keras``
format cannot restore one object that two layers hold.

The sign of zero is +1 everywhere, as in Larq: a 1-bit value has no zero. The papers' PyTorch code uses
``torch.sign``, which yields 0 there.

What is here is whatever the modules of this folder have in their ``__all__``.
"""

# ruff: noqa: F403, F405

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from .. import util  # noqa: F401  (before Larq: Keras 2 is selected)

# isort: split
from larq.quantizers import MagnitudeAwareSign

if TYPE_CHECKING:
    from .activations import *
    from .approx_sign import *
    from .base import *
    from .binary_set import *
    from .ede import *
    from .kernel import *
    from .libra_pb import *
    from .mcdonnell import *
    from .rsign import *
    from .scaled_sign import *

    def __getattr__(name: str) -> Any: ...  # what further modules have


__all__ = ["MagnitudeAwareSign"]

for _module in pkgutil.iter_modules(__path__):
    _imported = importlib.import_module(f"{__name__}.{_module.name}")
    for _name in getattr(_imported, "__all__", ()):
        globals()[_name] = getattr(_imported, _name)
        __all__ += [_name]
