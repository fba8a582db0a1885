"""The sections of an experiment's configuration: dataclasses whose field documentation is the flags' help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

CONFIG_SCHEMA = 1


@dataclass
class SubjectsConfig:
    """Stage 01: where heads come from and what is rendered of them."""

    source: str = "anny"
    """anny | ict | ict+anny (every other head) | scan | capture | photos (checked and cropped, then FaceLift) | facelift
    (photos as they are)"""
    count: int = 16
    """number of identities to sample (anny, ict)"""
    path: str = ""
    """folder or file of the source: ICT-FaceKit folder or npz, scan mesh(es), capture folder(s), photos (or
    kaggle:<owner>/<slug>)"""
    val: int = 2
    """identities for validation"""
    test: int = 6
    """identities for testing; the rest trains"""
    splits: list[str] = field(default_factory=lambda: ["train", "val", "test"])
    """anny, ict: make the heads of these splits only (test: nothing will be trained here)"""
    test_only: bool = False
    """captures and scans: every subject is a test subject"""
    repeats: int = 1
    """scan: subjects made of each scan, with light, views and start of the fit of their own; all are one identity"""
    fit_size: int = 256
    """side of the images that are fitted, pixels (generated subjects)"""
    fit_views: int = 24
    heldout_views: int = 4
    """views that are never fitted, for PSNR/SSIM/LPIPS"""
    map_size: int = 1024
    """side of the high-resolution maps, pixels"""
    map_yaws: list[float] = field(default_factory=lambda: [-40.0, -15.0, 15.0, 40.0])
    """yaw of each map view in degrees, jittered per subject"""
    hair_fraction: float = 0.4
    collar_fraction: float = 0.4
    init_points: int = 6000
    """points of the noisy sparse cloud that fits start from"""
    up: str = "y"
    """scan: axis that points up (x, y, z, -x, -y, -z)"""
    front: str = "z"
    """scan: axis that points out of the face"""
    size_mm: float = 0.0
    """scan: height in millimetres; 0 = the file's units are millimetres"""
    flip_v: bool = False
    """scan: turn a texture that comes out upside down"""
    image_size: int = 0
    """capture: resize images so that the longer side has this many pixels; 0 = keep"""
    capture_up: str = "auto"
    """capture: axis that points up, or auto (from the cameras)"""
    capture_front: str = "auto"
    """capture: axis that points out of the face, or the name of a view that looks at the face, or auto (first view)"""
    capture_mm_per_unit: float = 0.0
    """capture: millimetres per unit of the cameras' world; 0 = a nominal size"""


@dataclass
class PhotosConfig:
    """Stage 01, source photos: what a photo must be like to become a head. Frontality, border, background and the mask's
    limits are the published study's."""

    face_px: float = 100.0
    """smallest face (mean of its box's width and height), pixels; FaceLift sees it at 194"""
    other_face: float = 0.4
    """another face of at least this share of the largest one's size is one too many"""
    frontality: float = 0.55
    """smallest ratio of the nose tip's distances from the two eyes: 1 looks straight ahead, 0.55 is about 11 degrees of yaw"""
    border: float = 0.05
    """smallest distance of the face from the photo's border, as a share of the photo's side"""
    blur: float = 0.8
    """largest blur of the face, 0 sharp to 1; 0.8 is a blur of 2 to 3 pixels where the face has 194"""
    background: float = 70.0
    """largest standard deviation of the background's colours (8-bit steps); 128 = any"""
    mask_area_min: float = 0.15
    """smallest share of FaceLift's canvas that the person fills"""
    mask_area_max: float = 0.85
    mask_offset: float = 0.25
    """largest distance of the person's centroid from the canvas's centre, as a share of its side"""
    near_duplicate: float = 0.12
    """photos whose perceptual hashes differ in at most this share of bits are one photo; 0 = the same hash only"""
    download_dir: str = "data/kaggle"
    """where kaggle:<owner>/<slug> is downloaded to"""


@dataclass
class FitConfig:
    """3D Gaussian splatting optimisation (Kerbl et al. 2023) of one subject."""

    presets: list[str] = field(default_factory=lambda: ["regularised"])
    """which fits to make of each subject: vanilla, regularised"""
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
    fit: FitConfig = field(default_factory=FitConfig)


@dataclass
class RenderConfig:
    """Stage 03: maps rendered from the Gaussians."""

    backend: str = "auto"
    """auto | cpu | gsplat | inria | reference"""
    modes: list[str] = field(default_factory=lambda: ["classic"])
    """classic and/or antialiased rasterisation"""
    lr_size: int = 256
    """side of the low-resolution render (rendered, not resampled)"""
    median: bool = True
    """also render median depth"""


@dataclass
class PostprocessConfig:
    """Stage 04: clean-up of the rendered maps. Sizes in pixels hold at 1024 and scale with the map."""

    alpha_threshold: float = 0.5
    closing_px: int = 5
    """diameter of the morphological closing of the mask"""
    min_component_px: int = 100
    """smaller detached parts of the mask are dropped"""
    min_component_share: float = 0.02
    """so are detached parts smaller than this share of the largest one: floaters beside and behind the head"""
    fill_holes_px: int = 5000
    """holes up to this area are filled smoothly"""
    large_holes: str = "leave"
    """larger holes: leave (seen through a loop of hair, say) or nearest (fill from the nearest pixel, as published)"""
    floater_mm: float = 30.0
    """components whose median depth is farther than this in front of the main one's nearest are removed"""
    align: bool = False
    """photos: align renders to the photo by landmarks and ECC"""
    nose_relative: bool = False
    """also write depth relative to the nose tip"""
    bilateral: bool = False
    """smooth normals from depth by a joint bilateral filter"""


@dataclass
class PairsConfig:
    """Stage 05: high-/low-resolution pairs."""

    lr_mode: str = "classic"
    """rasterisation mode of the pairs: variants rendered in it are used, high and low resolution alike"""
    lr_bits: list[int] = field(default_factory=lambda: [8, 16])
    """bit depths of the low-resolution input, 2 to 16 each"""
    interior_px: int = 8
    jump_mm: float = 4.0


@dataclass
class ModelConfig:
    """The network of stage 06. A network takes what its architecture has of these."""

    name: str = "unet"
    """unet | edsr | srresnet | swinir | sgnet | splathead, or none: baselines only"""
    base_ch: int = 32
    """channels of the first level (32: 7,765,409 parameters, as published)"""
    base: str = "bicubic"
    """interpolation that the residual is added to: bicubic (published) or bilinear; splathead: bicubic or spline"""
    zero_init: bool = False
    """zero-initialised output layer, so that training starts at the base"""
    icnr: bool = False
    """edsr, srresnet: ICNR initialisation of the sub-pixel convolutions (no checkerboard at the start)"""
    residual: bool = True
    """swinir: add the network's output to the base; false is the published form, which collapses"""
    normal_head: bool = False
    """unet: also predict normals, see train.normal_target"""
    guides: list[str] = field(default_factory=lambda: ["own"])
    """unet, sgnet, splathead: maps of the view that it sees (cover, slope, spread, alpha, rgb, normal); own = its usual ones"""


@dataclass
class TrainConfig:
    """Stage 06: training of a depth super-resolution network."""

    model: ModelConfig = field(default_factory=ModelConfig)
    method: str = ""
    """name of the result in tables; empty = the model's name"""
    target: str = "surface"
    """surface (true geometry) or render (the splats' own 1024 depth)"""
    lr_input: str = "8bit"
    """low-resolution input: <n>bit (the rendered map with n = 2 to 16 bits) or a degradation of the high-resolution
    render (bicubic, bicubic_noise, bicubic_8bit, area, area_8bit, bicubic_antialiased, ...)"""
    normal_target: str = ""
    """normals that a normal head learns: surface (true), splat, splat_bilateral or dsine; empty = none"""
    normal_loss_weight: float = 0.05
    epochs: int = 100
    steps: int = 0
    """train for this many optimiser steps instead of epochs"""
    full_frame_share: float = 0.0
    """last part of the steps that sees full frames instead of crops, as many pixels in each step"""
    max_seconds: float = 0.0
    """end training after this many seconds in all; a larger limit later resumes it; 0 = no limit"""
    batch_size: int = 2
    grad_accum: int = 4
    crop: int = 0
    """side of random high-resolution training crops; 0 = full frames"""
    crops_per_view: int = 1
    """random crops per view and epoch"""
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    """optimiser steps over which the learning rate rises to its full value"""
    weight_decay: float = 1e-4
    lr_mixture: list[str] = field(default_factory=list)
    """train each view on one of these inputs instead of lr_input; validation keeps lr_input"""
    gradient_loss_weight: float = 0.5
    gradient_strides: list[int] = field(default_factory=lambda: [1])
    """pixels over which the gradient loss compares depth; 1 is published"""
    scale_loss_weight: float = 0.1
    """splathead: weight of the likelihood of its errors, from which it learns to predict their scale"""
    loss_scale: str = "range"
    """unit of the loss: range (depth in [0, 1] of near..far, published) or lsb (8-bit code steps)"""
    amp: bool = True
    """fp16 autocast with GradScaler on CUDA; no effect on CPU"""
    compile: bool = False
    """torch.compile the network for training (CUDA; needs a C compiler)"""
    deterministic: bool = False
    max_gpu_memory_gb: float = 8.0
    checkpoint_every: int = 1
    """epochs between checkpoints"""
    validate_every: int = 1
    """epochs between validations, which choose the weights that are kept"""
    val_views: int = 0
    """views (spread evenly) that a validation uses; 0 = all"""
    apply: bool = True
    """write predictions after training"""
    only_apply: bool = False
    """write predictions with the weights of an earlier training; train nothing"""
    weights: str = ""
    """apply these weights (.safetensors with its .json), or every network in this folder (runs/paper/06_train_depth_sr),
    and train nothing"""
    dornet_weights: str = ""
    """baseline dornet_nyu: DORNet-T's published NYU x4 weights (NYU_T_X4.pth); empty = $SPLATHEAD_DORNET"""
    baselines: list[str] = field(default_factory=lambda: ["nearest", "bilinear", "bicubic", "bilinear_offset", "raw_splat"])


@dataclass
class EvaluateConfig:
    """Stages 07 and 08."""

    splits: list[str] = field(default_factory=lambda: ["test"])
    targets: list[str] = field(default_factory=lambda: ["surface", "render"])
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
    """also copy the run's result files to eval/<name>_*.csv"""
    readme: str = ""
    """also write the main tables into this Markdown file, between two markers"""
    readme_block: str = "results"
    """markers <!-- NAME:begin --> and <!-- NAME:end -->"""


@dataclass
class Config:
    """One experiment."""

    schema: int = CONFIG_SCHEMA
    name: str = "quick"
    """name of the run: results go to runs/<name>"""
    description: str = ""
    seed: int = 0
    device: str = "auto"
    """auto | cpu | cuda"""
    time_limit: float = 0.0
    """seconds after which a stage stops starting new work and ends; run it again to resume; 0 = no limit"""
    finished_only: bool = False
    """stages 06, 09 and 10 train nothing and go on with the trainings that are finished; a later run trains the rest"""
    runs_dir: str = "runs"
    jobs: int = 0
    """subjects processed in parallel; 0 = one per core"""
    stages: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5, 6, 7, 8, 11, 12])
    subjects: SubjectsConfig = field(default_factory=SubjectsConfig)
    photos: PhotosConfig = field(default_factory=PhotosConfig)
    reconstruct: ReconstructConfig = field(default_factory=ReconstructConfig)
    render: RenderConfig = field(default_factory=RenderConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    trainings: list[dict] = field(default_factory=list)
    """stage 06 of a study: each entry is ``train`` with these keys changed (and ``seed``), trained on its own;
    empty = ``train`` itself, once"""
    cross: CrossConfig = field(default_factory=CrossConfig)
    ablations: AblationsConfig = field(default_factory=AblationsConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    fuse: FuseConfig = field(default_factory=FuseConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    @property
    def run_folder(self) -> Path:
        """runs/<name>."""
        return Path(self.runs_dir) / self.name
