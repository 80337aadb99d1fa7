"""What the benchmarks and the demonstration run, one file a scenario."""
