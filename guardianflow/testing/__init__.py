"""Contract suites and fakes for those who add a store, backend or executor."""
