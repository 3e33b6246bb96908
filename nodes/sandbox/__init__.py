"""A gateway on this computer, for demos, tests and offline work. It judges bodies by itself: none of our models."""

from .gateway import Sandbox
from .serve import serve
from .task import SandboxTask

__all__ = ["Sandbox", "SandboxTask", "serve"]
