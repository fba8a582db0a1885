"""Maps of a head: clean-up, quantisation, degradations, normals from depth."""
