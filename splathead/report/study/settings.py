r"""Settings that the paper's text names, as macros: ``\ConfigTrainSteps`` is ``train.steps`` of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from splathead.config import Config
from splathead.method_names import OURS


def setting_numbers(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Parts of a macro's name and its LaTeX text, for each number of the sections and the length of each list."""
    sections = {
        "subjects": config.subjects, "fit": config.reconstruct.fit, "render": config.render, "pairs": config.pairs,
        "train": config.train, "model": config.train.model, "evaluate": config.evaluate,
    }  # fmt: skip
    for name, section in sections.items():
        for field in fields(section):
            value = getattr(section, field.name)
            if isinstance(value, list):
                yield ("config", name, field.name, "count"), str(len(value))
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                yield ("config", name, field.name), tex_number(value)
    yield ("config", "trainings", "count"), str(len(config.trainings))
    ours = next((entry for entry in config.trainings if entry.get("method") == OURS), {})
    for name, value in ours.items():  # what sets our network's training apart from the others'
        if isinstance(value, list):
            yield ("config", "ours", name), ", ".join(map(tex_number, value))
        elif isinstance(value, (int, float)):
            yield ("config", "ours", name), tex_number(value)


def tex_number(value: float) -> str:
    """A setting in LaTeX: thin spaces between thousands, small numbers with an exponent."""
    if float(value).is_integer():
        return f"{int(value):,}".replace(",", r"\,")
    text = f"{value:g}" if abs(value) >= 1e-3 else f"{value:.3e}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return rf"\ensuremath{{{float(mantissa):g}\times 10^{{{int(exponent)}}}}}"
