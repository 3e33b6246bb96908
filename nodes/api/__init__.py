"""Kling's text-to-video over HTTP. Knows nothing of ComfyUI.

A request passes through the rooms in this order: ``request`` checks it, ``submit`` claims a row in the ``ledger``,
``gateway`` sends it and reads the answer, ``video`` waits for the result and downloads it. ``running`` holds how nodes
wait and what they show while they do.
"""
