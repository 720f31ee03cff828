"""Images, what their containers do, and the registry that has them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from standin.pipe import Answer

__all__ = ["Behaviour", "Image", "Registry"]

OK: Answer = (0, "", "")


@dataclass
class Behaviour:
    """What a container of an image does: `crash` is the status it ends with, `status` what it answers."""

    crash: int | None = None
    status: int = 200
    health: str = ""
    log: str = ""
    migration: Answer = OK


@dataclass(frozen=True)
class Image:
    """One image as a registry holds it."""

    repository: str
    tag: str
    behaviour: Behaviour

    @property
    def digest(self) -> str:
        """The digest that a registry gives it."""
        return "sha256:" + hashlib.sha256(f"{self.repository}:{self.tag}".encode()).hexdigest()

    @property
    def id(self) -> str:
        """Its id on a server."""
        return "sha256:" + hashlib.sha256(f"id {self.digest}".encode()).hexdigest()


class Registry:
    """The images that servers can pull."""

    def __init__(self) -> None:
        self.images: dict[str, Image] = {}
        self.down = False

    def publish(self, reference: str, **behaviour: Any) -> Image:
        """Add an image `repository:tag`; the keywords are those of Behaviour."""
        repository, _, tag = reference.rpartition(":")
        self.images[reference] = Image(repository, tag, Behaviour(**behaviour))
        return self.images[reference]

    def find(self, reference: str) -> Image | None:
        """Return the image that a tag or a digest names."""
        for image in self.images.values():
            if reference in (f"{image.repository}:{image.tag}", f"{image.repository}@{image.digest}"):
                return image
        return None
