"""Looking at what was made of a head: the report, the turntable and the viewer of a result folder."""

from splathead.result_view.folder import ResultFolder, open_result
from splathead.result_view.report import write_report
from splathead.result_view.turntable import turntable

__all__ = ["ResultFolder", "open_result", "turntable", "write_report"]
