"""Sections of the configuration: networks and their training.

Field documentation is the help of the flags.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ModelConfig:
    """The network of stage 06. A network takes what its architecture has of these."""

    name: str = "unet"
    """unet | edsr | srresnet | swinir | sgnet | splathead, or none: baselines only"""
    base_ch: int = 32
    """channels of the first level (32: 7,765,409 parameters, as published)"""
    base: str = "bicubic"
    """interpolation that the residual is added to: bicubic (published) or bilinear; splathead: bicubic, spline or
    limited (bicubic, smoothed where that moves it by a fraction of a code step)"""
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
    range_mm: float = 0.0
    """splathead: depth that it takes for its unit, whatever the range of the input's code is; 0 = that range"""


@dataclass
class IntervalConfig:
    """Predictions made to agree with the intervals of their input's depth code, see ``splathead.intervals``."""

    methods: list[str] = field(default_factory=list)
    """methods (called as in ``splathead.predictors.Predictor.is_called``) whose predictions are also written as
    <method>_interval"""
    operator: str = "area"
    """what a low-resolution pixel reads of high-resolution depth: area, antialiased (a splat render's footprint) or classic
    (the same and a constant fitted on training heads)"""
    max_violation: float = 0.2
    """a kind of fit whose true depth contradicts more of the training heads' intervals is left as it is; 1 = never"""


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
    init_weights: str = ""
    """weights (.safetensors with its .json) of the same network that training starts from, which a later run of the stage needs
    again; empty = random ones"""
    fits: list[str] = field(default_factory=list)
    """fits (reconstruct.fit.presets, import, facelift) whose views are trained and validated on; empty = all"""
    normal_target: str = ""
    """normals that a normal head learns: surface (true), splat, splat_bilateral or dsine; empty = none"""
    normal_loss_weight: float = 0.05
    epochs: int = 100
    steps: int = 0
    """train for this many optimiser steps, rounded up to a multiple of epochs, instead of whole passes over the data"""
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
    interval: IntervalConfig = field(default_factory=IntervalConfig)
    multiview: list[str] = field(default_factory=list)
    """methods (called as in ``splathead.predictors.Predictor.is_called``) whose views are also fused (fuse.voxel_mm) and moved
    to the fused surface: predictions <method>_fused, and for a network <method>_multiview, predicted again from its input moved
    likewise"""
