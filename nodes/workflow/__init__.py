"""Workflow files without ComfyUI: what would run, and running the Kling part of it.

    file.py -> graph.py, editor.py -> prompt.py -> values.py -> plan.py, check.py -> run.py

Knows node classes by the attributes that ComfyUI reads, and nothing of Kling.
"""

from .file import LARGEST_FILE, Workflow, load, parse, read
from .plan import make_plan
from .prompt import WorkflowError
from .values import set_values

__all__ = ["LARGEST_FILE", "Workflow", "WorkflowError", "load", "make_plan", "parse", "read", "set_values"]
