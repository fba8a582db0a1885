"""The evaluator: zones, depth measures, surface distances, image metrics, consistency and statistics."""
