"""Speed measurements behind ``scripts/90_benchmark.py``: ours, and peers where installed, in the same run."""

FLOAT32_LOOP = "published loop, float32"
"""Method of the rows of the published training without mixed precision: a claim reads them"""
