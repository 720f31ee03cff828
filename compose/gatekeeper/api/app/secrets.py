"""Secrets, as files of the container."""

from pathlib import Path

FOLDER = Path("/run/secrets")


def secret(name: str) -> str:
    """Return the secret of a name."""
    return (FOLDER / name).read_text().strip()
