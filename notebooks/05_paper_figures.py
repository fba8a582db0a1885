# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The paper's figures
#
# Every figure of `paper/`, drawn by the functions that `python scripts/12_make_tables.py` uses, from the committed
# results in `eval/` and nothing else. Where the study's files (`eval/paper_*.csv`) are absent, the quick run's
# (`eval/quick_*.csv`) stand in: one data set, one kind of fit, few test heads and a small network, enough to show what a
# figure looks like.

# %%
from pathlib import Path

from IPython.display import Image, Markdown, display

from splathead.report.data import CEILING, Results, load_results, published_files
from splathead.report.figures import comparison_figure, figure_bytes
from splathead.report.study.build import study_tables
from splathead.report.study.data import load_study
from splathead.report.study.matrix_figures import FIGURES
from splathead.report.typeset import markdown

EVAL = Path("../eval")
MAKES = {
    "error_budget": "07_evaluate_depth", "f_curves": "08_evaluate_mesh", "cross_degradation": "09_cross_degradation",
    "bits": "10_ablate_normals_and_bits", "cost": "06_train_depth_sr", "paired": "07_evaluate_depth",
    "f_audit": "08_evaluate_mesh",
}  # fmt: skip
name = "paper" if list(EVAL.glob("paper_*.csv")) else "quick"
study = load_study(EVAL, name)
tables = {table.key: table for table in study_tables(study)}
print(f"results of configs/{name}.yaml: " + ", ".join(sorted(path.name for path in EVAL.glob(f"{name}_*.csv"))))


def show_figure(key):
    """One of the paper's figures, or the command that makes its rows."""
    figure = FIGURES[key](study)
    if figure is None:
        print(f"No rows for {key} in eval/{name}_*.csv. They are made by")
        print(f"  python scripts/{MAKES[key]}.py --config configs/paper.yaml")
    else:
        display(Image(figure_bytes(figure, "png"), width=760))


def show_table(key):
    """One of the paper's tables, where its rows are there."""
    if key in tables:
        display(Markdown(markdown(tables[key], intervals=False)))


# %% [markdown]
# ## Error budget
#
# Where does the error of splat depth come from? Two chains of maps, each link with one fault more: from the true surface,
# only resolution and code; from the Gaussians, their bias and noise as well. A bar that is long already at the start of
# its chain cannot be shortened by better upsampling.

# %%
show_figure("error_budget")
show_table("error_budget")

# %% [markdown]
# ## The main comparison
#
# Interior error of every method, averaged over test heads, with bootstrap intervals over heads. *Bias* above zero is
# behind the true surface. Splat depth against itself (`render`) is another question than splat depth against the head
# (`surface`): a method can be the best at one and useless for the other.

# %%
if name == "quick":  # with the study's methods, fits and targets it would be too long a figure
    rows = load_results(published_files(EVAL, name)).first_seed().rows
    methods = Results(tuple(row for row in rows if row.method != CEILING))
    display(Image(figure_bytes(comparison_figure(methods, "surface"), "png"), width=860))
show_table("main_surface")
show_table("main_render")

# %% [markdown]
# ## F over the threshold
#
# F-scores of the meshes against every threshold up to 2 mm. Where curves cross, a single threshold can rank methods
# either way; where one lies above another everywhere, the order is safe.

# %%
show_figure("f_curves")

# %% [markdown]
# ## Paired differences
#
# The same heads and views, method minus reference: what all methods find hard cancels, and intervals become narrow enough
# to tell methods apart. An interval that excludes zero is a difference.

# %%
show_figure("paired")

# %% [markdown]
# ## What it costs
#
# Error over parameters and over the time of one map. A method is worth its cost only where nothing to its left is as low.

# %%
show_figure("cost")

# %% [markdown]
# ## Cross-degradation
#
# Drop in PSNR of a network that was trained on one input and tested on another, against the one trained for the test.
# `03_degradation_ablation` shows the inputs.

# %%
show_figure("cross_degradation")
show_table("cross_causes")

# %% [markdown]
# ## Bits of the input, and normals to learn from
#
# `04_normals_and_quantisation` shows what the steps look like, and what normals a network may learn from.

# %%
show_figure("bits")
show_table("bits")
show_table("normals")

# %% [markdown]
# ## The F-score audit
#
# The published study prints one column of F-scores that two scripts filled with different thresholds. The same
# predictions are scored here with both settings: on the left as printed, each row with its own script's threshold; on the
# right both thresholds for every row. A gap that is there on the left and gone on the right is a gap between scripts.

# %%
show_figure("f_audit")
show_table("f_audit")

# %% [markdown]
# ## Claims
#
# The published claims, our value of each with its interval, and the verdict, by rules that are the same for all claims of
# a kind. They need the study's results: the quick run's would judge a small network trained for minutes.

# %%
if name == "paper":
    show_table("claims")
else:
    print("Claims are judged on eval/paper_*.csv, which are made by\n  python run_pipeline.py --config configs/paper.yaml")

# %% [markdown]
# ## As files
#
# ```
# python scripts/12_make_tables.py                                                           # paper/, from eval/paper_*.csv
# python scripts/12_make_tables.py --config configs/quick.yaml --from_eval eval --out .      # the quick run's
# ```
