"""A gateway on this computer, for demos, tests and offline work. It judges bodies without the pack's models."""

from .gateway import Sandbox
from .serve import serve
from .task import SandboxTask

__all__ = ["Sandbox", "SandboxTask", "serve"]
