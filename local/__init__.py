"""The whole kit on one machine, as real processes: `python -m local demo|up|down`."""
