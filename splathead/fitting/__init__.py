"""3D Gaussian splatting optimisation of one subject from posed images."""
