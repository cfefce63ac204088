"""Object code to libraries, without a linker to install: static archives, ELF shared libraries, WebAssembly modules."""
