"""Import paths of evalscope."""
