"""Sections of the configuration: what is measured, fused and reported.

Field documentation is the help of the flags.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class EvaluateConfig:
    """Stages 07 and 08."""

    splits: list[str] = field(default_factory=lambda: ["test"])
    targets: list[str] = field(default_factory=lambda: ["surface", "render"])
    fits: list[str] = field(default_factory=list)
    """fits (reconstruct.fit.presets, import, facelift) that stage 06 predicts and that are scored; empty = all"""
    frontal_yaw_deg: float = 20.0
    bootstrap: int = 2000
    mesh_samples: int = 100_000
    """area-uniform samples of the true surface for recall"""
    mesh_stride: int = 1
    """evaluate every n-th pixel as a predicted vertex (1 = all)"""
    mesh_views: int = 0
    """views per subject that the mesh evaluation uses; 0 = all"""
    error_budget: bool = False
    """stage 07 also measures where splat depth's error comes from (error_budget.csv)"""
    uncertainty: list[str] = field(default_factory=list)
    """methods of ``trainings`` whose predicted errors stage 07 compares with the actual ones (uncertainty.csv)"""
    interval_truth: list[str] = field(default_factory=list)
    """inputs (as train.lr_input) of which stage 07 measures how often true depth contradicts their code's intervals, for every
    forward operator of train.interval (interval_truth.csv)"""
    f_score_audit: bool = False
    """stage 08 also scores with the published study's two settings (f_score_audit.csv)"""
    lpips_weights: str = ""
    """folder with lpips_alex.safetensors / lpips_vgg.safetensors; empty = $SPLATHEAD_LPIPS, else its own download"""


@dataclass
class CrossConfig:
    """Stage 09: networks trained on one degradation, applied to all others."""

    degradations: list[str] = field(
        default_factory=lambda: [
            "bicubic", "bicubic_noise", "bicubic_8bit", "16bit", "8bit", "bicubic_antialiased", "area",
        ]
    )  # fmt: skip
    """train.lr_input values; 16bit and 8bit are the real low-resolution render"""
    targets: list[str] = field(default_factory=lambda: ["render"])
    networks: list[str] = field(default_factory=list)
    """methods of ``trainings`` whose networks, as stage 06 trained them, are applied to all degradations as well"""
    train: bool = True
    """train a UNet on each degradation; false: only ``networks`` and bilinear interpolation are compared"""


@dataclass
class AblationsConfig:
    """Stage 10: normal supervision and bit depth of the input."""

    normals: list[str] = field(default_factory=lambda: ["splat", "splat_bilateral", "surface", "dsine"])
    """train.normal_target values, beside none"""
    bits: list[int] = field(default_factory=lambda: [6, 7, 8, 9, 10, 16])
    """bit depths of the input"""
    dsine_dir: str = ""
    """installed DSINE checkout with its weights (else $DSINE_DIR); without it the row says so"""


@dataclass
class FuseConfig:
    """Stage 11: fusion of depth maps into one mesh."""

    methods: list[str] = field(default_factory=lambda: ["raw_splat", "bilinear", "unet"])
    voxel_mm: float = 1.0
    truncation_voxels: float = 4.0
    target_faces: int = 200_000
    formats: list[str] = field(default_factory=lambda: ["ply", "glb"])
    subjects: int = 0
    """number of (test) subjects to fuse; 0 = all"""


@dataclass
class ReportConfig:
    """Stage 12: tables, figures, report.html."""

    formats: list[str] = field(default_factory=lambda: ["png", "pdf"])
    views: int = 4
    """views shown in the report"""
    subjects: int = 1
    """heads in the report's mesh viewer"""
    mesh_faces: int = 20_000
    """faces of the meshes embedded in the report's viewer"""
    from_eval: str = ""
    """make tables and figures from the committed results <folder>/<name>_*.csv instead of the run's"""
    out: str = ""
    """folder for tables/ and figures/ with from_eval; empty = the current folder"""
    publish: bool = False
    """also write the run's results, without rows that nothing reads, to eval/<name>_*.csv"""
    readme: str = ""
    """also write the main tables into this Markdown file, between two markers"""
    readme_block: str = "results"
    """markers <!-- NAME:begin --> and <!-- NAME:end -->"""
