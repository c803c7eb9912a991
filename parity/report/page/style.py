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
h2 { font-size: 1.3rem; margin: 36px 0 6px; }
header + section h2 { margin-top: 18px; }
h3 { font-size: 1rem; margin: 0 0 6px; overflow-wrap: anywhere; }
p { margin: 6px 0 10px; max-width: 78ch; }
a { color: var(--link); }
code { font: 0.92em ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { overflow-wrap: anywhere; }
.note { color: var(--muted); font-size: 0.9rem; }
.pass { background: var(--pass-fill); color: var(--pass); }
.fail { background: var(--fail-fill); color: var(--fail); }

.verdict { border-radius: 8px; padding: 12px 18px; font-size: 1.05rem; }
.verdict strong { display: block; font-size: 1.9rem; line-height: 1.2; }
.verdict .about { font-size: 0.88rem; overflow-wrap: anywhere; }
.facts {
  display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 14px 0 0;
  font-size: 0.88rem;
}
.facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 0 16px; margin: 8px 0 0; font-size: 0.92rem; }
nav a { padding: 4px 0; }

.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); }
.cards { gap: 14px; align-items: start; }
.cards.only { grid-template-columns: 1fr; }
.card .cause { font-size: 1.1rem; }
.followers { margin: 14px 0 0; padding: 0 0 0 20px; overflow-wrap: anywhere; }
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
td.long { white-space: normal; min-width: 240px; overflow-wrap: anywhere; }
td.medium { white-space: normal; min-width: 120px; }
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

.ladder td { padding: 3px 5px; vertical-align: middle; }
.ladder th { vertical-align: middle; padding: 3px 10px; }
.ladder thead th { white-space: normal; overflow-wrap: anywhere; min-width: 90px; }
.split { display: flex; gap: 2px; }
.split > * {
  flex: 1; min-width: 52px; padding: 2px 6px; text-align: center; text-decoration: none;
  border-radius: 4px; font-size: 0.8rem; line-height: 1.4; white-space: nowrap;
}
.split b { margin-right: 3px; }
.split a:hover, .split a:focus-visible { outline: 2px solid var(--link); }
.split .none { border: 1px dashed var(--line); padding: 1px 5px; }
.key { display: flex; flex-wrap: wrap; gap: 6px 16px; margin: 8px 0; font-size: 0.85rem; }

.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr)); }
.plots { gap: 20px 24px; margin-top: 12px; }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figcaption { font-size: 0.88rem; margin: 0 0 4px; overflow-wrap: anywhere; }
.plot { overflow-x: auto; }
.plot svg { display: block; width: 100%; height: auto; }
.plot svg * { stroke-linejoin: round; }
.plot text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
details { margin: 4px 0 0; font-size: 0.9rem; }
summary { cursor: pointer; color: var(--link); padding: 4px 0; }
details .scroll { max-height: 340px; overflow: auto; }
.folded { margin-top: 20px; font-size: 1rem; }
.folded h2 { display: inline; color: var(--ink); }
.folded .scroll { max-height: none; }
.tally { display: flex; flex-wrap: wrap; gap: 8px; margin: 10px 0 12px; padding: 0; }
.tally li {
  list-style: none; background: var(--surface); border: 1px solid var(--line); border-radius: 6px;
  padding: 6px 12px; font-size: 0.88rem;
}
.tally b { display: block; font-size: 1.15rem; }
.reading dt { font-weight: 600; margin-top: 10px; }
.reading dd { margin: 2px 0 0; max-width: 78ch; }
@media (max-width: 600px) {
  .ladder th { padding: 3px 6px; font-size: 0.78rem; }
  .ladder thead th { min-width: 60px; }
  .ladder td { padding: 2px; }
  .ladder tbody th[scope="row"] { min-width: 0; white-space: nowrap; }
  .split > * { min-width: 30px; padding: 2px 1px; font-size: 0.72rem; }
  .split .none { padding: 1px 0; }
  .split b { margin-right: 1px; }
  tbody th[scope="row"] { white-space: normal; min-width: 110px; overflow-wrap: anywhere; }
  .scroll:has(.stacked) { width: auto; }
  .stacked, .stacked tbody, .stacked tr, .stacked td, .stacked th[scope="row"] { display: block; }
  .stacked thead { display: none; }
  .stacked td { display: flex; justify-content: space-between; gap: 14px; padding: 1px 10px; }
  .stacked td, .stacked td.long { white-space: normal; min-width: 0; text-align: right; }
  .stacked td::before { content: attr(data-label); color: var(--muted); text-align: left; }
  .stacked td.long { display: block; text-align: left; padding-bottom: 8px; }
  .stacked td.long::before { content: ""; }
  .stacked tbody tr > th[scope="row"] { border-right: 0; padding: 8px 10px 2px; }
  .path { flex-direction: column; }
  .path > div { flex: none; }
  .path .arrow { transform: rotate(90deg); }
}
@media print { .scroll, .plot { overflow: visible; } body { max-width: none; } }
"""
