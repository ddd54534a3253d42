"""What a shell needs to complete ``hustings``: made by shtab out of the command line itself."""

from __future__ import annotations

import argparse

from .errors import ConfigError


def build_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for ``shell``. Raises ``ConfigError`` where shtab is missing."""
    try:
        import shtab  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise ConfigError("completion needs shtab: pip install 'hustings[cli]'") from None
    return str(shtab.complete(parser, shell=shell))
