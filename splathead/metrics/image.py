"""Image metrics: PSNR, SSIM, LPIPS."""

from __future__ import annotations

import logging
import math
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

MAX_PSNR_DB = 150.0
"""PSNR of (nearly) equal signals: float32 cannot tell errors further below the peak, and results must be finite."""
SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
LPIPS_FOLDER_VARIABLE = "SPLATHEAD_LPIPS"
DOWNLOAD_TIMEOUT_S = 20.0

logger = logging.getLogger(__name__)


def psnr_from_rmse(rmse: float, peak: float) -> float:
    """Peak signal-to-noise ratio in dB, at most ``MAX_PSNR_DB``; NaN for a NaN ``rmse``."""
    if not peak > 0:
        raise ValueError(f"PSNR with peak {peak}, expected > 0")
    return 20.0 * math.log10(peak / max(rmse, peak * 10 ** (-MAX_PSNR_DB / 20))) if not math.isnan(rmse) else math.nan


def psnr(image: np.ndarray, reference: np.ndarray, peak: float = 1.0) -> float:
    """PSNR in dB of ``image`` against ``reference`` (same shape, any) over all values; ``peak`` is the data range."""
    _check_same(image, reference)
    error = image.astype(np.float64) - reference.astype(np.float64)
    return psnr_from_rmse(math.sqrt(float(np.mean(error**2))), peak)


@dataclass(frozen=True)
class SsimReference:
    """A reference image's part of SSIM; built once with :meth:`build`, compared with many images by :meth:`map`."""

    image: np.ndarray  # [H, W] or [H, W, C] float64
    mean: np.ndarray
    variance: np.ndarray
    peak: float

    @classmethod
    def build(cls, image: np.ndarray, peak: float = 1.0) -> SsimReference:
        """Check ``image`` [H, W] or [H, W, C], at least 11 pixels on a side, and compute its local moments."""
        if min(image.shape[:2]) < SSIM_WINDOW_PX:
            raise ValueError(
                f"SSIM of an image of {image.shape[1]}x{image.shape[0]}, expected at least {SSIM_WINDOW_PX} on a side"
            )
        image = image.astype(np.float64)
        mean = _blur(image)
        return cls(image, mean, _blur(image * image) - mean**2, peak)

    def map(self, image: np.ndarray) -> np.ndarray:
        """Structural similarity of ``image`` at each pixel (and channel), float64 of the reference's shape.

        Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004: 11x11
        Gaussian window with sigma 1.5, K1 = 0.01, K2 = 0.03, population variances; mirrored at the border.
        """
        _check_same(image, self.image)
        x = image.astype(np.float64)
        mean = _blur(x)
        variance, covariance = _blur(x * x) - mean**2, _blur(x * self.image) - mean * self.mean
        c1, c2 = (0.01 * self.peak) ** 2, (0.03 * self.peak) ** 2
        luminance = (2 * mean * self.mean + c1) / (mean**2 + self.mean**2 + c1)
        return luminance * (2 * covariance + c2) / (variance + self.variance + c2)


def _blur(values: np.ndarray) -> np.ndarray:
    size = (SSIM_WINDOW_PX, SSIM_WINDOW_PX)
    return cv2.GaussianBlur(values, size, SSIM_SIGMA_PX, borderType=cv2.BORDER_REFLECT).reshape(values.shape)


def ssim_map(image: np.ndarray, reference: np.ndarray, peak: float = 1.0) -> np.ndarray:
    """Structural similarity at each pixel (and channel), see :meth:`SsimReference.map`."""
    _check_same(image, reference)
    return SsimReference.build(reference, peak).map(image)


def ssim(image: np.ndarray, reference: np.ndarray, peak: float = 1.0) -> float:
    """Mean of :func:`ssim_map` over the pixels whose window lies inside the image (and over channels)."""
    margin = SSIM_WINDOW_PX // 2
    return float(ssim_map(image, reference, peak)[margin:-margin, margin:-margin].mean())


def _check_same(image: np.ndarray, reference: np.ndarray) -> None:
    if image.shape != reference.shape:
        raise ValueError(f"images of shapes {image.shape} and {reference.shape}, expected the same")
    if not (np.isfinite(image).all() and np.isfinite(reference).all()):
        raise ValueError("image with NaN or infinite values")


class LPIPSMetric:
    """Learned perceptual image patch similarity (Zhang et al., 2018), version 0.1. Make one with :func:`lpips_model`."""

    def __init__(self, module: object, device: str) -> None:
        self._module = module.to(device).eval()
        self._device = device

    def __call__(self, image: np.ndarray, reference: np.ndarray) -> float:
        """LPIPS of RGB images [H, W, 3] with values in 0..1; 0 = equal."""
        import torch

        _check_same(image, reference)
        in_range = min(image.min(), reference.min()) >= 0 and max(image.max(), reference.max()) <= 1
        if image.ndim != 3 or image.shape[2] != 3 or not in_range:
            raise ValueError(f"LPIPS of an image of shape {image.shape}, expected [H, W, 3] with values in 0..1")
        pair = np.stack([image, reference]).astype(np.float32).transpose(0, 3, 1, 2)
        with torch.no_grad():
            batch = torch.from_numpy(np.ascontiguousarray(pair)).to(self._device)
            return float(self._module(batch[:1], batch[1:], normalize=True))


def lpips_model(weights_dir: Path | None = None, net: str = "alex", device: str = "cpu") -> LPIPSMetric | None:
    """The LPIPS metric, or None (with the reason logged) where its weights cannot be had: print "not measured" then.

    Args:
        weights_dir: folder with ``lpips_<net>.safetensors``, the backbone's convolutions under the lpips
            package's own names. None: the folder that $SPLATHEAD_LPIPS names; without it, torchvision's
            copy from torch's download cache or the internet. A folder that lacks the file is an error.
        net: backbone, ``alex`` or ``vgg``.
        device: torch device.
    """
    if net not in ("alex", "vgg"):
        raise ValueError(f"LPIPS backbone {net!r}, expected 'alex' or 'vgg'")
    if weights_dir is None and os.environ.get(LPIPS_FOLDER_VARIABLE):
        weights_dir = Path(os.environ[LPIPS_FOLDER_VARIABLE])
    path = None if weights_dir is None else Path(weights_dir) / f"lpips_{net}.safetensors"
    if path is not None and not path.is_file():
        raise FileNotFoundError(f"{path}: no such LPIPS weights file")
    try:
        from splathead.compat import import_torchvision

        import_torchvision()
        import lpips
    except ImportError as error:
        logger.warning("LPIPS is not measured: %s; pip install lpips torchvision", error)
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision with arguments that it calls deprecated
        if path is not None:
            return LPIPSMetric(_load_backbone(lpips.LPIPS(net=net, pnet_rand=True, verbose=False), path), device)
        try:
            with _download_timeout():
                return LPIPSMetric(lpips.LPIPS(net=net, verbose=False), device)
        except (OSError, RuntimeError) as error:
            logger.warning(
                "LPIPS is not measured: its %s weights are neither cached nor downloadable (%s); set $%s to a folder with "
                "lpips_%s.safetensors", net, error, LPIPS_FOLDER_VARIABLE, net,
            )  # fmt: skip
            return None


def _load_backbone(module: object, path: Path) -> object:
    """Load every backbone convolution from a safetensors file; one that is missing or of another shape is an error."""
    from safetensors.torch import load_file

    weights = {name: value.float() for name, value in load_file(path).items()}
    expected = {name: value.shape for name, value in module.state_dict().items() if name.startswith("net.")}
    found = {name: value.shape for name, value in weights.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ValueError(f"{path}: not the weights of this LPIPS backbone; missing, unknown or of another shape: {wrong}")
    module.load_state_dict(weights, strict=False)  # its linear layers come with the package
    return module


@contextmanager
def _download_timeout() -> Iterator[None]:
    """Give up on a network that swallows packets; torch's downloader sets no timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
