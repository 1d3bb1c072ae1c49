"""What stands in for the outside world in the demonstration, examples, benchmarks and tests."""
