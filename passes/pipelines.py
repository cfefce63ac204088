"""The named pipelines, as text: what the driver runs, and what `thalweg opt --pipeline` takes by name."""

from types import MappingProxyType

PIPELINES = MappingProxyType(
    {
        # tw -> tw-optimized
        "optimize": "inline,hoist-state,differentiate,simplify,fuse-lookups",
        # the same program without the work that only makes it faster
        "expand": "inline,hoist-state,differentiate,dce",
        # tw-optimized -> what backends/stablehlo can take row by row
        "to-stablehlo": "lower-checkpoint,lower-scan,functionalize,simplify",
    }
)


def to_parts(devices: str, compress: bool = False, costs: str = "") -> str:
    """tw-optimized -> one program for each device, of host ops and clusters.

    Args:
        devices: as the pass `place` takes them.
        compress: send 32-bit floats between tasks as 16 bits.
        costs: a file of what was measured of the ops.
    """
    measured = f"costs={costs}" if costs else ""
    place = f"place{{{','.join(filter(None, (f'devices={devices}', measured)))}}}"
    cluster = f"cluster{{{measured}}}" if measured else "cluster"
    return f"{place},lower-control,partition{{compress={str(compress).lower()}}},{cluster}"
