"""Policies for vision transformers: their labels or their pictures follow tokens."""
