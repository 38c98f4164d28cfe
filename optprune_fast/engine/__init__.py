"""Fitness of many masks of one network: the evaluator, its data, its objectives."""
