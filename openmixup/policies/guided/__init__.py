"""Policies that look at saliency, gradients or feature maps to decide where to mix."""
