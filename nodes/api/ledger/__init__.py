"""The record of every submission: written before the POST and after its answer, never deleted.

Knows no HTTP. It is told what was sent and what came back.
"""
