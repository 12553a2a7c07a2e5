"""Interruptions and faults: signals, resuming, running out of memory, failing machines and processes."""
