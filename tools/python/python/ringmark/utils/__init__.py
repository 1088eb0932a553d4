"""`from ringmark.utils import get_logger`, as in evalscope."""

from ringmark.utils.logger import get_logger

__all__ = ["get_logger"]
