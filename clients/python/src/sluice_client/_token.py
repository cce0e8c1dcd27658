"""The token of the client."""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger("sluice_client")


class Token:
    """A token that stays, or one of a file that is read anew when it changes."""

    def __init__(self, token: str | None, file: Path | None) -> None:
        self._file = file
        self._read_at: tuple[int, int, int] | None = None
        if file is None:
            self._value = None if token is None else _check("token", token)
            return
        try:
            self._value = self._read(file)
        except OSError as error:
            raise ValueError(f"token_file: {file} cannot be read: {error}") from error

    @property
    def changes(self) -> bool:
        """Whether the token comes from a file, so that a refused one may be replaced."""
        return self._file is not None

    def current(self) -> str | None:
        """Returns the token. While its file cannot be used, the former one is returned."""
        if self._file is not None:
            try:
                if self._read_at != _version(self._file):
                    self._value = self._read(self._file)
            except (OSError, ValueError) as error:
                logger.warning("the former token is used, because its file cannot be: %s", error)
        return self._value

    def _read(self, file: Path) -> str:
        # Taken before the file is read: if it changes in between, it is read once more.
        version = _version(file)
        value = _check("token_file", file.read_text(encoding="utf-8").strip())
        self._read_at = version
        return value


def _version(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _check(option: str, value: str) -> str:
    # The token is a secret: the message does not repeat it.
    if not value or not all("!" <= character <= "~" for character in value):
        raise ValueError(f"{option}: a token is visible ASCII characters without spaces")
    return value
