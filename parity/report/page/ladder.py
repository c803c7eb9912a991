"""The section of report.html that shows the whole run at a glance: rungs by models."""

from collections.abc import Iterable, Sequence

from parity.report.page import parts
from parity.report.page.markup import Markup, tag
from parity.report.page.parts import Content, Section

RUNGS = (
    "data", "init", "init_exact", "order_exact", "forward", "loss", "gradients", "batch_stats",
    "optimizer", "optimizers", "trajectory", "replay", "recipe", "processes", "eval_after_training",
    "accuracy",
)  # fmt: skip
OF_A_SEED = "init_exact", "order_exact", "replay", "recipe", "processes"
"""Only this project's own models have these, or who asks: they are not shown as missing."""

DTYPES = {"float64": "64", "float32": "32", "bfloat16": "b16"}
EVERY_MODEL = "all"  # the model of a result that holds for each of them

Numbered = tuple[int, Content]


def section(results: Sequence[Content]) -> Section | None:
    """A row for each rung, a column for each model, and in a cell each precision."""
    if not results:
        return None
    given = list(dict.fromkeys(result["rung"] for result in results))
    known = [rung for rung in RUNGS if rung in given or rung not in OF_A_SEED]
    rungs = [*known, *(rung for rung in given if rung not in RUNGS)]
    names = list(dict.fromkeys(result["model"] for result in results))
    models = [name for name in names if name != EVERY_MODEL] or names
    rows = [
        tag("tr", tag("th", rung, scope="row"), *(_cell(results, model, rung) for model in models))
        for rung in rungs
    ]
    table = parts.table(["rung", *models], rows, "The ladder", class_="ladder")
    return Section("ladder", "The ladder", [_key(), table])


def _key() -> Markup:
    return tag(
        "div",
        tag("span", tag("span", "✓", class_="mark pass"), " within its tolerance"),
        tag("span", tag("span", "✗", class_="mark fail"), " not within it"),
        tag("span", tag("span", "–", class_="mark none"), " not run, or not compared"),
        tag("span", ", ".join(DTYPES.values()), ": ", ", ".join(DTYPES)),
        class_="key",
    )


def _cell(results: Sequence[Content], model: str, rung: str) -> Markup:
    of_rung = [item for item in enumerate(results) if item[1]["rung"] == rung]
    mine = [item for item in of_rung if item[1]["model"] in (model, EVERY_MODEL)]
    dtypes = _ordered(result["dtype"] for _, result in of_rung)  # those in which any model did it
    pieces = [_piece(dtype, [i for i in mine if i[1]["dtype"] == dtype]) for dtype in dtypes]
    return tag(
        "td", tag("div", *pieces or [_not_run("not run", f"{rung}: not run")], class_="split")
    )


def _piece(dtype: str, results: Sequence[Numbered]) -> Markup:
    short = DTYPES.get(dtype, dtype)
    if not results:
        return _not_run(short, f"{dtype}: not run")
    failed = [(number, result) for number, result in results if result["passed"] is False]
    if all(result["passed"] is None for _, result in results):
        return _not_run(short, f"{dtype}: {results[0][1]['detail']}")
    says = [
        f"{dtype} {'FAILED' if result['passed'] is False else 'passed'}: {parts.measured(result)}"
        for _, result in results
    ]
    return tag(
        "a",
        tag("b", "✗" if failed else "✓"),
        short,
        class_="fail" if failed else "pass",
        href=f"#result-{(failed or results)[0][0]}",
        title="\n".join(says),
        aria_label="; ".join(says),
    )


def _not_run(short: str, name: str) -> Markup:
    return tag("span", tag("b", "–"), short, class_="none", title=name)


def _ordered(dtypes: Iterable[str]) -> list[str]:
    given = list(dict.fromkeys(dtypes))
    return [*(d for d in DTYPES if d in given), *(d for d in given if d not in DTYPES)]
