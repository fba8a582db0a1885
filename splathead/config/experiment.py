"""One experiment: every section of its configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from splathead.config.evaluation import AblationsConfig, CrossConfig, EvaluateConfig, FuseConfig, ReportConfig
from splathead.config.maps import PairsConfig, PostprocessConfig, RenderConfig
from splathead.config.reconstruction import ReconstructConfig
from splathead.config.subjects import PhotosConfig, SubjectsConfig
from splathead.config.training import TrainConfig

CONFIG_SCHEMA = 1


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
