"""Work-arounds for the packaging of libraries we depend on. Each says when it may be deleted."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from types import ModuleType


def import_torchvision() -> ModuleType:
    """torchvision, also where its compiled operators do not fit the installed torch.

    A CPU-only torch beside the index's CUDA build of torchvision fails at import with "operator
    torchvision::nms does not exist": torchvision registers fake kernels for operators that its library,
    which did not load, would have defined. We use no compiled operator (transforms, models and image
    grids are plain torch), so we declare the missing names and import again. Delete this when
    torchvision guards that registration itself.
    """
    import torch

    declared = []
    while True:
        try:
            import torchvision
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None or missing[1] in declared:
                raise
            declared.append(missing[1])
            # torch keeps what a Library declares only as long as the object lives
            _DECLARATIONS.append(torch.library.Library("torchvision", "FRAGMENT"))
            _DECLARATIONS[-1].define(f"{missing[1]}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
        else:
            return torchvision


_DECLARATIONS: list = []


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV without its own lines on the terminal, for a caller that says itself what is wrong with a file.

    The functions for that moved between OpenCV 4 and 5: delete the choice when 4 is no longer accepted.
    """
    import cv2

    module = cv2.utils.logging if hasattr(cv2.utils, "logging") else cv2
    level = module.setLogLevel(0)
    try:
        yield
    finally:
        module.setLogLevel(level)
