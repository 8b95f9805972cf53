"""Conversations with adapted tasks."""
