"""The files that Gaussians come in, one module a format; ``splathead.splat_files`` picks the right one.

``builder`` is where they all end; ``ply_header`` is PLY below the Gaussians. The plain 3DGS PLY, which SplatHead also
writes, is ``splathead.ply``.
"""
