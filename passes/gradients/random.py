"""Rules of random ops."""

from thalweg.dialects.ops import random
from thalweg.passes.gradients.rules import no_vjp

no_vjp("the result is an integer", random.random_bits)
