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
