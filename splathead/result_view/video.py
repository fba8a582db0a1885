"""Videos: H.264 by the ffmpeg program that the package imageio-ffmpeg brings along, run as a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np


def load_encoder() -> ModuleType:
    """The module imageio_ffmpeg, whose program runs; ImportError or RuntimeError with one sentence when it does not."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise ImportError(f"the turntable needs the package imageio-ffmpeg: pip install imageio-ffmpeg ({error})") from error
    imageio_ffmpeg.get_ffmpeg_exe()
    return imageio_ffmpeg


def write_video(path: Path, frames: Iterator[np.ndarray], fps: int) -> None:
    """Frames [H, W, 3] uint8 (even sides) to ``path`` as H.264, yuv420p, playable while it loads."""
    encoder, first = load_encoder(), next(frames)
    height, width = first.shape[:2]
    quality = ["-crf", "17", "-preset", "fast", "-movflags", "+faststart", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
    writer = encoder.write_frames(
        str(path), (width, height), fps=fps, codec="libx264", pix_fmt_out="yuv420p", quality=None, bitrate=None,
        macro_block_size=2, ffmpeg_log_level="error", output_params=quality,
    )  # fmt: skip
    writer.send(None)
    try:
        writer.send(np.ascontiguousarray(first))
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()
    if not path.is_file() or not path.stat().st_size:
        raise RuntimeError(f"{path}: the encoder wrote no video")
