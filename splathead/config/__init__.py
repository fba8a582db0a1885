"""Experiment configuration: a tree of dataclasses read from one YAML file per experiment.

Every key has a type and a default; command-line flags of the numbered scripts override their own section
(see ``splathead.cli``).
"""

from splathead.config.evaluation import AblationsConfig, CrossConfig, EvaluateConfig, FuseConfig, ReportConfig
from splathead.config.experiment import CONFIG_SCHEMA, Config
from splathead.config.loading import ConfigError, build_section, load_config, validate
from splathead.config.maps import PairsConfig, PostprocessConfig, RenderConfig
from splathead.config.reconstruction import FitConfig, ReconstructConfig
from splathead.config.subjects import PhotosConfig, SubjectsConfig
from splathead.config.training import IntervalConfig, ModelConfig, TrainConfig

__all__ = [
    "CONFIG_SCHEMA", "AblationsConfig", "Config", "ConfigError", "CrossConfig", "EvaluateConfig", "FitConfig", "FuseConfig",
    "IntervalConfig", "ModelConfig", "PairsConfig", "PhotosConfig", "PostprocessConfig", "ReconstructConfig", "RenderConfig",
    "ReportConfig", "SubjectsConfig", "TrainConfig", "build_section", "load_config", "validate",
]  # fmt: skip
