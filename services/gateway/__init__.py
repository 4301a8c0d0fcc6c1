"""The Tornado web front."""
