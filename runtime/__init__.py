"""What is there when a compiled program runs: variables, caches, configuration."""
