"""lit: every .mlir file under tests/ir is a test; its RUN lines use the `thalweg` of the environment that runs lit."""

import os
import sys

import lit.formats

config.name = "thalweg"  # noqa: F821  (lit hands it in)
config.test_format = lit.formats.ShTest(execute_external=False)  # noqa: F821
config.suffixes = [".mlir"]  # noqa: F821
config.excludes = ["Inputs"]  # noqa: F821
config.test_source_root = os.path.dirname(__file__)  # noqa: F821
config.environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # noqa: F821
