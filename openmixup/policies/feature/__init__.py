"""Policies that mix hidden stages of the network."""
