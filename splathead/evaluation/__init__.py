"""Stages 07 and 08: every method's predictions through the one evaluator, views to rows with intervals over people."""
