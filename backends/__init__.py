"""From the `tw` dialect to something that runs: StableHLO (the waist), and from there to machines."""
