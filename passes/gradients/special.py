"""Rules of special functions."""

from __future__ import annotations

import math

from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops import special
from thalweg.passes.gradients.elementwise import derivative, scaled, squared
from thalweg.passes.gradients.rules import no_vjp

derivative(special.lgamma, lambda x, y: special.digamma(x))
derivative(special.erf_inv, lambda x, y: scaled(ew.exp(squared(y)), math.sqrt(math.pi) / 2))
no_vjp("its derivative, the trigamma function, is not an op", special.digamma, error=True)
