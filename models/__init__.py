"""Reference models as code: what tests, benchmarks and the demo convert."""
