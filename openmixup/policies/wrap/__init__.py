"""Policies around another policy: they add views, losses or rules for the labels to what it makes."""
