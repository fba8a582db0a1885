"""Looking at what was made of a head: the report and the viewer of a result folder, its turntable, a picture of several.

The turntable's module is not imported here: worker processes draw meshes for the report and need no torch, which alone takes
seconds.
"""

from splathead.result_view.folder import ResultFolder, open_result
from splathead.result_view.report import write_report

__all__ = ["ResultFolder", "open_result", "write_report"]
