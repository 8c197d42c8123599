"""Pipelines that a person has uploaded and not saved yet: in memory until they are saved, or others need the room."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.components.pipelines.types.ir import PipelineSpec
    from headrace.machinery.pages import Upload

MAX_DRAFTS = 8
"""Of all people together; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A package that was read and found right."""

    id: str
    user: str
    file: Upload
    spec: PipelineSpec
    url: str = ""
    """Where it was read; empty for a file of one's own."""


class Drafts:
    """Each is its uploader's alone."""

    def __init__(self) -> None:
        self._kept: dict[str, Draft] = {}

    def keep(self, user: str, file: Upload, spec: PipelineSpec, url: str = "") -> Draft:
        """Keep one."""
        draft = Draft(str(uuid.uuid4()), user, file, spec, url)
        self._kept[draft.id] = draft
        while len(self._kept) > MAX_DRAFTS:
            self._kept.pop(next(iter(self._kept)))
        return draft

    def get(self, user: str, ident: str) -> Draft | None:
        """One's own."""
        draft = self._kept.get(ident)
        return draft if draft is not None and draft.user == user else None

    def drop(self, ident: str) -> None:
        """It was saved."""
        self._kept.pop(ident, None)
