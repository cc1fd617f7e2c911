"""Policies that learn how to mix: a small network, trained beside the classifier, makes the masks."""
