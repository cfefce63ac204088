"""Apple's platforms: an xcframework of static libraries that Swift imports as a module."""

from __future__ import annotations

import plistlib
from collections.abc import Mapping

# Of each target: the folder's name, the platform, and its variant.
_SLICES = {
    "ios-arm64": ("ios-arm64", "ios", None),
    "ios-simulator": ("ios-arm64-simulator", "ios", "simulator"),
    "macos-arm64": ("macos-arm64", "macos", None),
}


def xcframework(model: str, header: str, libraries: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of `Model.xcframework` by path.

    Args:
        libraries: the static library of each of Apple's targets that is exported.
    """
    name = _module(model)
    modulemap = f'module {name} {{\n  header "{model}.h"\n  export *\n}}\n'
    files: dict[str, bytes] = {}
    rows = []
    for target, data in libraries.items():
        identifier, platform, variant = _SLICES[target]
        files[f"{identifier}/lib{model}.a"] = data
        files[f"{identifier}/Headers/{model}.h"] = header.encode()
        files[f"{identifier}/Headers/module.modulemap"] = modulemap.encode()
        row = {
            "LibraryIdentifier": identifier, "LibraryPath": f"lib{model}.a", "BinaryPath": f"lib{model}.a",
            "HeadersPath": "Headers", "SupportedArchitectures": ["arm64"], "SupportedPlatform": platform,
        }  # fmt: skip
        rows.append({**row, "SupportedPlatformVariant": variant} if variant else row)
    info = {"AvailableLibraries": rows, "CFBundlePackageType": "XFWK", "XCFrameworkFormatVersion": "1.0"}
    files["Info.plist"] = plistlib.dumps(info)
    return {f"{name}.xcframework/{path}": data for path, data in files.items()}


def _module(model: str) -> str:
    return "".join(part.capitalize() for part in model.split("_"))
