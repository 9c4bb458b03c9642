"""Runs every config that has a reference, and says what came out beside it."""
