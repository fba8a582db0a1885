"""Sections of the configuration: where the Gaussians come from, and how they are fitted.

Field documentation is the help of the flags.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FitConfig:
    """3D Gaussian splatting optimisation (Kerbl et al. 2023) of one subject."""

    presets: list[str] = field(default_factory=lambda: ["regularised"])
    """which fits to make of each subject: vanilla, regularised, few_views (vanilla, of few of the fit views), few_gaussians
    (regularised, of few Gaussians)"""
    few_views: int = 8
    """preset few_views: fit views that it sees, spread evenly over their list; all where a subject has fewer. The initial cloud
    is that of all fit views"""
    few_gaussians: int = 4000
    """preset few_gaussians: its upper bound, in place of a larger max_gaussians"""
    start: str = "discs"
    """opaque discs in the plane of neighbouring points, or balls: transparent and round, as published. The preset vanilla
    always starts from balls"""
    iterations: int = 400
    max_gaussians: int = 12000
    """upper bound: the start and densification stay below it"""
    sh_degree: int = 0
    """view-dependent colour, 0 to 3; one more degree at equal intervals over the first half of the fit"""
    background: str = "random"
    """colour behind the subject while fitting: random (a new one each step), black or white"""
    ssim_weight: float = 0.2
    lr_means: float = 1e-3
    """learning rate of positions, as a fraction of half the frame's width at the subject (226 mm on FaceLift's rig)"""
    lr_means_final: float = 0.05
    """positions: fraction of the learning rate that is left at the end (exponential decay)"""
    lr_scales: float = 1.5e-2
    lr_rotations: float = 6e-3
    lr_opacities: float = 5e-2
    lr_colours: float = 2e-2
    """learning rate of the base colour's harmonic; the higher ones have a twentieth of it"""
    lr_final: float = 0.1
    """all others: fraction of the learning rate that is left at the end (exponential decay)"""
    densify: bool = True
    densify_from: float = 0.1
    """fraction of the iterations after which densification starts"""
    densify_until: float = 0.6
    densify_every: int = 40
    densify_grad: float = 3e-4
    """grow where the mean gradient of the projected centre (in normalised device units, as in 3DGS) exceeds this"""
    split_scale: float = 5e-3
    """larger Gaussians are split, smaller ones cloned; fraction of half the frame's width at the subject"""
    opacity_reset_every: int = 0
    """iterations between opacity resets; 0 = never"""
    prune_opacity: float = 0.02
    scale_regulariser: float = 0.0
    """weight of the mean standard deviation, as a fraction of half the frame's width at the subject"""
    opacity_regulariser: float = 0.0
    """weight of the mean opacity"""
    depth_variance_regulariser: float = 3e-3
    """weight of the depth standard deviation along the ray (mm), `regularised` preset only"""
    depth_from: float = 0.13
    """fraction of the iterations after which the depth regulariser starts"""


@dataclass
class ReconstructConfig:
    """Stage 02: where the Gaussians come from."""

    source: str = "fit"
    """fit | import | facelift"""
    import_path: str = ""
    """import: a splat file (PLY, .splat, .spz) or a folder of them, one per subject"""
    import_up: str = "auto"
    """import: axis that points up, or auto (FaceLift files z, others y)"""
    import_front: str = "auto"
    """import: axis that points out of the face, or auto (FaceLift files -y, others z)"""
    import_mm_per_unit: float = 0.0
    """import: millimetres per unit of the file; 0 = worked out from the file, or a nominal size"""
    max_gaussians: int = 5_000_000
    """larger imports are refused"""
    facelift_dir: str = ""
    """facelift: folder of an installed FaceLift checkout (else $FACELIFT_DIR)"""
    facelift_python: str = ""
    """facelift: its Python interpreter (else $FACELIFT_PYTHON, else this one)"""
    fits: str = ""
    """fit: stage 02's folder of another run, whose fits (<subject>/<preset>) are taken where it has them; the others are made.
    Fits of a GPU are not the same to the bit from run to run: this keeps a study's test heads"""
    fit: FitConfig = field(default_factory=FitConfig)
