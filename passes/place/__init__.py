"""Placement: a device for every op, by what was asked for, what must be together, and what takes how long."""

from thalweg.passes.place.constraints import request_of
from thalweg.passes.place.costs import Costs
from thalweg.passes.place.devices import parse_devices
from thalweg.passes.place.place import Place, spans

__all__ = ["Costs", "Place", "parse_devices", "request_of", "spans"]
