"""A run: its lock, fence, journal, log, phases, and the execution of its steps."""
