"""Policies that look at pixels only, or not even at them."""
