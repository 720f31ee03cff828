"""Backups brought back: beside what is live, counted, then swapped with it."""
