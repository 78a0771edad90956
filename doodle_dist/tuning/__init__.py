"""Searches for better settings: what runs in a trial, what ends or changes trials, and what came of it."""
