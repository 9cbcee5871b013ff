"""The problems of ``benchmark.py``, the programs that compute them, and how they are timed and judged."""
