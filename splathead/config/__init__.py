"""Experiment configuration: a tree of dataclasses read from one YAML file per experiment.

Every key has a type and a default; command-line flags of the numbered scripts override their own section
(see ``splathead.cli``).
"""

from splathead.config.loading import ConfigError, build_section, load_config, validate
from splathead.config.sections import (
    CONFIG_SCHEMA,
    AblationsConfig,
    Config,
    CrossConfig,
    EvaluateConfig,
    FitConfig,
    FuseConfig,
    ModelConfig,
    PairsConfig,
    PhotosConfig,
    PostprocessConfig,
    ReconstructConfig,
    RenderConfig,
    ReportConfig,
    SubjectsConfig,
    TrainConfig,
)

__all__ = [
    "CONFIG_SCHEMA", "AblationsConfig", "Config", "ConfigError", "CrossConfig", "EvaluateConfig", "FitConfig", "FuseConfig",
    "ModelConfig", "PairsConfig", "PhotosConfig", "PostprocessConfig", "ReconstructConfig", "RenderConfig", "ReportConfig",
    "SubjectsConfig", "TrainConfig", "build_section", "load_config", "validate",
]  # fmt: skip
