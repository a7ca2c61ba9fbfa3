"""Generalised zero-shot evaluation: arrays of distances and labels in, numbers out; nothing here knows a model."""
