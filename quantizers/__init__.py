"""What turns a real tensor into 1 bit, and the layers around the sign.

Every quantizer works with any Larq layer that its formula has a meaning for, by object or by registered name
(``"rsign"``, ``"RSign"``), and counts as 1 bit in ``larq.models.summary``. ``ApproxSign`` and ``EDE`` are for
activations and kernels, ``RSign`` for activations, the others for kernels. ``MagnitudeAwareSign`` is Larq's own class,
and ``ApproxSign`` derives from Larq's.

Where a quantizer has variables (``RSign``, ``EDE``, ``LibraPB``), give each layer an object of its own: the ``.keras``
format cannot restore one object that two layers hold.

The sign of zero is +1 everywhere, as in Larq: a 1-bit value has no zero. The papers' PyTorch code uses
``torch.sign``, which yields 0 there.
"""

from larq.quantizers import MagnitudeAwareSign

from .activations import FPReLU, LeakyClip, RPReLU, ShiftedReLU
from .approx_sign import ApproxSign
from .binary_set import BinaryActivation, BinarySet, binary_activation, latent_weights
from .ede import EDE, EDESchedule, ede_schedule
from .kernel import KernelQuantizer
from .libra_pb import LibraPB
from .mcdonnell import McDonnellSign
from .rsign import RSign
from .scaled_sign import ScaledSign

__all__ = [
    "EDE",
    "ApproxSign",
    "BinaryActivation",
    "BinarySet",
    "EDESchedule",
    "FPReLU",
    "KernelQuantizer",
    "LeakyClip",
    "LibraPB",
    "MagnitudeAwareSign",
    "McDonnellSign",
    "RPReLU",
    "RSign",
    "ScaledSign",
    "ShiftedReLU",
    "binary_activation",
    "ede_schedule",
    "latent_weights",
]
