"""smdebug's notebook charts on today's bokeh.

smdebug draws with names that bokeh 3 no longer has, and bokeh 2 fails with numpy 2. Only smdebug's own modules are changed; a notebook that
uses bokeh itself sees it as it is. Standard library only: see ``imports``.
"""

import functools
from types import ModuleType

PACKAGE = "smdebug.profiler.analysis.notebook_utils"
CHARTS = tuple(f"{PACKAGE}.{name}" for name in ("heatmap", "metrics_histogram", "step_histogram", "step_timeline_chart", "timeline_charts"))
RENAMED = {"plot_height": "height", "plot_width": "width"}  # bokeh 2.4 had both, bokeh 3 has the new ones
MENDED = "_opml_mended"


def mend(module: ModuleType) -> None:
    """Make one of smdebug's chart modules draw with bokeh 3; with bokeh 2 nothing changes.

    Two renamed arguments of ``figure``; and ``Circle``, which needs a radius in the units of an axis today: what it was is ``Scatter`` now.
    """
    import bokeh.models.glyphs

    if int(bokeh.__version__.split(".")[0]) < 3 or getattr(module, MENDED, False):
        return
    setattr(module, MENDED, True)
    module.figure = _with_new_names(module.figure)
    if hasattr(module, "Circle"):
        module.Circle = bokeh.models.glyphs.Scatter


def _with_new_names(figure):
    @functools.wraps(figure)
    def drawn(*arguments, **named):
        return figure(*arguments, **{RENAMED.get(name, name): value for name, value in named.items()})

    return drawn


def mend_when_imported(once_imported) -> None:
    """Have all chart modules mended by ``imports.once_imported``, whichever a notebook imports."""
    for name in CHARTS:
        once_imported(name, mend)
