"""The study's tables, figures and numbers, from the committed results of a configuration with several trainings."""
