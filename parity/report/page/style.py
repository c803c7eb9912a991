"""The look of report.html: two palettes, and a style sheet that knows colours only by name."""

# A pass is teal and a failure vermilion, which every kind of colour vision tells apart; both also
# have a symbol. The series are Okabe and Ito's colours, darkened or lightened for contrast.
LIGHT = {
    "page": "#ffffff",
    "surface": "#f4f6f8",
    "ink": "#1a1f26",
    "muted": "#545d68",
    "line": "#cbd2da",
    "link": "#0a58a8",
    "pass": "#0a5443",
    "pass-fill": "#d5eee7",
    "fail": "#8a2a00",
    "fail-fill": "#fddfd1",
    "blue": "#0072b2",
    "orange": "#b45a00",
    "green": "#0f7a5a",
    "purple": "#a33f7d",
}
DARK = {
    "page": "#12161c",
    "surface": "#1c222b",
    "ink": "#e7ebf0",
    "muted": "#a7b1bd",
    "line": "#3a4450",
    "link": "#84bdf5",
    "pass": "#93e3cd",
    "pass-fill": "#123f36",
    "fail": "#ffc4a8",
    "fail-fill": "#5c2613",
    "blue": "#5cb8ee",
    "orange": "#eba31a",
    "green": "#31c79d",
    "purple": "#e394c5",
}


def css() -> str:
    """The whole style sheet."""
    return (
        f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n{_RULES}"
    )


def _variables(palette: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in palette.items())


_RULES = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 16px; max-width: 1240px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.05rem; margin: 0 0 8px; color: var(--muted); font-weight: 600; }
h2 { font-size: 1.3rem; margin: 44px 0 6px; }
h3 { font-size: 1rem; margin: 0 0 6px; overflow-wrap: anywhere; }
p { margin: 6px 0 10px; max-width: 78ch; }
a { color: var(--link); }
code { font: 0.92em ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { overflow-wrap: anywhere; }
.note { color: var(--muted); font-size: 0.9rem; }
.pass { background: var(--pass-fill); color: var(--pass); }
.fail { background: var(--fail-fill); color: var(--fail); }

.verdict { border-radius: 8px; padding: 16px 18px; font-size: 1.05rem; }
.verdict strong { display: block; font-size: 1.9rem; line-height: 1.2; }
.facts {
  display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 14px 0 0;
  font-size: 0.88rem;
}
.facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 14px 0 0; font-size: 0.92rem; }
nav a { padding: 4px 0; }

.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); }
.cards { gap: 14px; align-items: start; }
.card {
  background: var(--surface); border: 1px solid var(--line); border-left: 5px solid var(--fail);
  border-radius: 6px; padding: 12px 14px; min-width: 0;
}
.card h3 span { border-radius: 4px; padding: 1px 7px; margin-right: 4px; }
.card p { margin: 6px 0 0; overflow-wrap: anywhere; }
.path { display: flex; flex-wrap: wrap; align-items: stretch; gap: 8px; margin: 10px 0; }
.path > div {
  flex: 1 1 170px; border: 1px solid var(--line); border-radius: 6px; padding: 8px 10px;
  background: var(--page); overflow-wrap: anywhere; font-size: 0.92rem;
}
.path > div.fail { background: var(--fail-fill); border-color: var(--fail); }
.path .what { display: block; font-size: 0.8rem; }
.path .arrow { flex: none; border: 0; padding: 0; background: none; align-self: center; }

.scroll {
  overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; max-width: 100%;
  width: fit-content;
}
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: left; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; }
td.number, th.number { text-align: right; }
td.long { white-space: normal; min-width: 420px; overflow-wrap: anywhere; }
td.medium { white-space: normal; min-width: 170px; }
tbody tr, tbody + tbody { border-top: 1px solid var(--line); }
thead th { background: var(--surface); vertical-align: bottom; }
tbody th { background: var(--page); }
tr > th:first-child { position: sticky; left: 0; z-index: 1; border-right: 1px solid var(--line); }
tr.group th { background: var(--surface); border-right: 0; }
tr.group span { position: sticky; left: 10px; }
tr.group small { font-weight: 400; color: var(--muted); }
tr:target td, tr:target th { background: var(--surface); outline: 2px solid var(--link); }
tr:target { scroll-margin-top: 40px; }
.mark { border-radius: 4px; padding: 1px 7px; white-space: nowrap; }
.none { color: var(--muted); }

.ladder td { padding: 5px; vertical-align: middle; }
.ladder th { vertical-align: middle; }
.ladder thead th { font-size: 0.8rem; }
.split { display: flex; gap: 2px; }
.split > * {
  flex: 1; min-width: 40px; padding: 5px 4px; text-align: center; text-decoration: none;
  border-radius: 4px; font-size: 0.78rem; line-height: 1.25;
}
.split b { display: block; font-size: 1rem; line-height: 1.1; }
.split a:hover, .split a:focus-visible { outline: 2px solid var(--link); }
.split .none { border: 1px dashed var(--line); padding: 4px 3px; }
.key { display: flex; flex-wrap: wrap; gap: 6px 16px; margin: 8px 0; font-size: 0.85rem; }

.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr)); }
.plots { gap: 20px 24px; margin-top: 12px; }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figcaption { font-size: 0.88rem; margin: 0 0 4px; }
.plot { overflow-x: auto; }
.plot svg { display: block; width: 100%; height: auto; }
.plot svg * { stroke-linejoin: round; }
.plot text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
details { margin: 4px 0 0; font-size: 0.9rem; }
summary { cursor: pointer; color: var(--link); padding: 4px 0; }
details .scroll { max-height: 340px; overflow: auto; }
.tally { display: flex; flex-wrap: wrap; gap: 8px; margin: 10px 0 12px; padding: 0; }
.tally li {
  list-style: none; background: var(--surface); border: 1px solid var(--line); border-radius: 6px;
  padding: 6px 12px; font-size: 0.88rem;
}
.tally b { display: block; font-size: 1.15rem; }
.reading dt { font-weight: 600; margin-top: 10px; }
.reading dd { margin: 2px 0 0; max-width: 78ch; }
@media (max-width: 600px) {
  tbody th[scope="row"] { white-space: normal; min-width: 110px; overflow-wrap: anywhere; }
  .path { flex-direction: column; }
  .path > div { flex: none; }
  .path .arrow { transform: rotate(90deg); }
}
@media print { .scroll, .plot { overflow: visible; } body { max-width: none; } }
"""
