"""StableHLO to native code: linalg, kernel forming, vector code, LLVM."""
