"""The pack's nodes, under the ids that saved workflows use."""

from __future__ import annotations

from . import routes
from .camera_control import KlingCameraControl
from .multi_shot import KlingMultiShot
from .shot import KlingShot
from .text2video import KlingText2Video
from .video import KlingVideo

NODE_CLASS_MAPPINGS: dict[str, type] = {
    node.__name__: node for node in (KlingShot, KlingMultiShot, KlingCameraControl, KlingText2Video, KlingVideo)
}

# "Gateway" sets these apart from ComfyUI's partner nodes, which are called "Kling ..." and bill another account.
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "KlingShot": "Kling Gateway Shot",
    "KlingMultiShot": "Kling Gateway Multi-Shot",
    "KlingCameraControl": "Kling Gateway Camera Control",
    "KlingText2Video": "Kling Gateway Text to Video",
    "KlingVideo": "Kling Gateway Video",
}

routes.register(NODE_CLASS_MAPPINGS)
