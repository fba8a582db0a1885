"""Stages 09 and 10: what a network's training input, its supervision by normals and the bits of its input are worth."""
