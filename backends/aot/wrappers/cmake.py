"""CMake: `find_package(model)`, then `target_link_libraries(app model::model)`. Also the Android NDK's."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.aot.targets import Target


def config(model: str, targets: Sequence[Target]) -> str:
    """modelConfig.cmake: picks the static library for the system and processor that is built for."""
    lines = [
        f"# {model}: made by Thalweg. set({model}_DIR <this folder>), find_package({model}), link {model}::{model}.",
        'get_filename_component(_root "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)',
        "string(TOLOWER \"${CMAKE_SYSTEM_NAME}\" _system)",
        "string(TOLOWER \"${CMAKE_SYSTEM_PROCESSOR}\" _processor)",
        'if(_system STREQUAL "darwin")', '  set(_system "macos")', "endif()",
        'if(_processor MATCHES "^(aarch64|arm64)")', '  set(_processor "arm64")',
        'elseif(_processor MATCHES "^arm")', '  set(_processor "armv7")',
        'elseif(_processor MATCHES "^(amd64|x86_64)")', '  set(_processor "x86_64")', "endif()",
        'set(_target "${_system}-${_processor}")',
    ]  # fmt: skip
    for target in targets:
        library = f"{model}.lib" if target.format == "coff" else f"lib{model}.a"
        lines += [f'if(_target STREQUAL "{target.name}")',
                  f'  set(_library "${{_root}}/{target.name}/{library}")', "endif()"]  # fmt: skip
    names = ", ".join(t.name for t in targets)
    lines += [
        "if(NOT DEFINED _library)",
        f'  message(FATAL_ERROR "{model} was not exported for ${{_target}}. It has: {names}.")',
        "endif()",
        f"if(NOT TARGET {model}::{model})",
        f"  add_library({model}::{model} STATIC IMPORTED)",
        f'  set_target_properties({model}::{model} PROPERTIES IMPORTED_LOCATION "${{_library}}"',
        '    INTERFACE_INCLUDE_DIRECTORIES "${_root}/include")',
        "endif()",
        "unset(_library)",
    ]
    return "\n".join([*lines, ""])
