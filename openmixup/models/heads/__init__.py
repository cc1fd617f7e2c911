"""Heads: from a backbone's vectors to logits."""

from openmixup.models.heads.linear import LinearHead

__all__ = ['LinearHead']
