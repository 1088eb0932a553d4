"""`from ringmark.utils.logger import get_logger`, as in evalscope."""

import logging


def get_logger(name: str = "ringmark") -> logging.Logger:
    """A logger of the standard library. Without other handlers, its warnings and errors go to standard error."""
    return logging.getLogger(name)


__all__ = ["get_logger"]
