"""Where heads come from: parametric models (anny, ict), scans (scan) and posed captures (capture).

Generated heads and scans become a :class:`~splathead.subjects.base.HeadMesh`; ``writer`` turns one into the
files that the later stages read.
"""
