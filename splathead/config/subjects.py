"""Sections of the configuration: where heads come from, and what photos must be like.

Field documentation is the help of the flags.
"""

from __future__ import annotations

from dataclasses import dataclass, field


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
    map_elevations: list[float] = field(default_factory=lambda: [0.0])
    """anny, ict, scan: elevations of the map views in degrees; a subject's views have one after another, and each yaw has every
    elevation from subject to subject"""
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
