"""Variants of renders that look otherwise and keep their pose: enhancers, the batch, review."""
