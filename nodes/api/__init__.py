"""Kling's text-to-video over HTTP. Knows nothing of ComfyUI."""
