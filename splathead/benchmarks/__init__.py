"""Speed measurements behind ``scripts/90_benchmark.py``: ours, and peers where installed, in the same run."""
