"""report.html: the report's content as one page, without scripts or anything from elsewhere."""

from collections.abc import Sequence

from parity.report.page import comparison, failures, figures, ladder
from parity.report.page import mutants as planted
from parity.report.page import results as tables
from parity.report.page.markup import Markup, join, tag
from parity.report.page.parts import Content, Section, document


def to_html(content: Content) -> str:
    """The page; `content` is the report's JSON, schema 4.

    The answer comes first: what failed, or how the models compare. A section without data is left
    out.
    """
    results, rows, mutants = (content[key] for key in ("results", "comparison", "mutants"))
    sections = (
        failures.section(results),
        comparison.section(rows),
        ladder.section(results),
        figures.depth(results),
        figures.trajectory(results),
        figures.losses(results),
        tables.table(results),
        _environment(content),
        planted.section(mutants or []),
        _reading(content),
    )
    title = f"{'PASSED' if _passed(content) else 'FAILED'}: parity report"
    return document(title, *_body(content, [s for s in sections if s]))


def _body(content: Content, sections: Sequence[Section]) -> list[Markup]:
    links = (tag("a", section.title, href=f"#{section.name}") for section in sections)
    header = tag(
        "header",
        tag("h1", "Parity report: JAX against PyTorch"),
        _verdict(content),
        tag("nav", *links, aria_label="Sections"),
    )
    return [header, *map(_shown, sections)]


def _shown(section: Section) -> Markup:
    heading = tag("h2", section.title)
    if section.folded:
        body = [tag("details", tag("summary", heading), *section.body, class_="folded")]
    else:
        body = [heading, *section.body]
    return tag("section", *body, id=section.name, aria_label=section.title)


def _passed(content: Content) -> bool:
    good = all(result["passed"] is not False for result in content["results"])
    return good and not content["stopped"]


def _verdict(content: Content) -> Markup:
    verdicts = [result["passed"] for result in content["results"]]
    count, failed = sum(verdict is not None for verdict in verdicts), verdicts.count(False)
    if _passed(content):
        word, class_, says = "✓ PASSED", "pass", f"All {count} checks are within their tolerance."
    else:
        says = f"{failed} of {count} checks are not within their tolerance."
        word, class_ = "✗ FAILED", "fail"
    if content["stopped"]:
        says = f"Stopped by {content['stopped']}: {failed} of {count} checks until then failed."
    if count < len(verdicts):
        says += f" {len(verdicts) - count} more were not compared."
    data = content["data"]["reason"].removeprefix("data: ")
    about = tag("div", f"Data: {data}", class_="about")
    return tag("div", tag("strong", word), tag("div", says), about, class_=f"verdict {class_}")


def _environment(content: Content) -> Section:
    facts = {"data": content["data"]["reason"].removeprefix("data: "), **content["environment"]}
    packages = (f"{name} {version}" for name, version in facts["packages"].items())
    facts["command"] = tag("code", facts["command"])
    facts["packages"] = ", ".join(packages)
    return Section("environment", "Environment and command", [_terms(facts, "facts")], folded=True)


def _reading(content: Content) -> Section:
    terms = {
        "Rung": "One check of a model, from its data to its accuracy. Each rung builds on those "
        "before it, so look at the first that fails.",
        "float64": "Rounding is all but gone, so what differs is a difference of the programs. "
        "Measured is the largest relative error.",
        "float32 and bfloat16": "What trainings use. Measured is the difference in units of the "
        "frameworks' own rounding, that is of how far each is from its float64 result.",
        "Tolerance": "The largest number that passes, in the unit beside it.",
        "Not finite": "Infinity or NaN.",
        "Colours and dashes": "JAX is blue and PyTorch orange, everywhere; float32 is drawn solid, "
        "float64 dashed and bfloat16 dotted.",
    }
    if any(result["diagnosis"] for result in content["results"]):
        terms["Diagnosis"] = (
            "The first module, in the order of execution, whose output is wrong although its "
            "input is right; and the kind of bug that would explain it."
        )
    return Section("reading", "How to read it", [_terms(terms, "reading")], folded=True)


def _terms(terms: Content, class_: str) -> Markup:
    pairs = (
        join((tag("dt", term), tag("dd", text if isinstance(text, str) else str(text))))
        for term, text in terms.items()
    )
    return tag("dl", *pairs, class_=class_)
