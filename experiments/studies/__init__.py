"""Studies: one module with `run(...)` each."""
