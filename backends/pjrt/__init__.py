"""Programs for TPUs: StableHLO with what PJRT wants to know beside it, as a portable artefact."""
