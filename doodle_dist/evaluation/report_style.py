"""The style sheet of a report: a phone's width first, light and dark as the reader's system asks for."""

STYLE = """
:root {
  --paper: #ffffff; --ink: #1b1d21; --soft: #5a616b; --line: #d6dae0; --raised: #f4f6f8; --accent: #1857b6;
  --bad: #b3261e; --shade: #00000033;
  --c0: #1857b6; --c1: #b8480d; --c2: #177a3c; --c3: #7a2bb5; --c4: #8a6100; --c5: #b0246e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --ink: #e8eaed; --soft: #a4abb6; --line: #3a404a; --raised: #1e2228; --accent: #7db4ff;
    --bad: #ff9b8f; --shade: #ffffff33;
    --c0: #7db4ff; --c1: #ff9f66; --c2: #64d28b; --c3: #cf9dff; --c4: #ecc95a; --c5: #ff8fc4;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.25rem 1rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { max-width: 46rem; margin: .6rem 0; overflow-wrap: anywhere; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
code { font: .9em ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin: 1rem 0 0; padding: 0; list-style: none; }
nav a { display: inline-block; padding: .3rem 0; }
.soft { color: var(--soft); }
.bad { color: var(--bad); }
dl { display: grid; gap: 0; margin: .5rem 0 1rem; }
dl > div { display: grid; grid-template-columns: minmax(0, 9.5rem) minmax(0, 1fr); gap: .75rem;
  padding: .35rem 0; border-bottom: 1px solid var(--line); }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 30rem) { dl > div { grid-template-columns: minmax(0, 1fr); gap: 0; } }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem;
  margin: 1.1rem 0 0; padding: 0; list-style: none; }
.cards li { background: var(--raised); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
.cards strong { display: block; font-size: 1.3rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.cards span { color: var(--soft); font-size: .9rem; }
figure { margin: 1rem 0; min-width: 0; }
figcaption { color: var(--soft); font-size: .95rem; margin: .4rem 0; max-width: 46rem; }
figcaption strong { color: var(--ink); }
img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); }
img.pixels { image-rendering: pixelated; background: #000; }
.scroll img { max-width: none; }
/* A shade at the side where more is to be seen: the lids before it move with what is scrolled. */
.scroll { overflow-x: auto; margin: .75rem 0;
  background: linear-gradient(to right, var(--paper) 40%, transparent) 0 0 / 2rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 40%, transparent) 100% 0 / 2rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) 0 0 / .8rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) 100% 0 / .8rem 100% no-repeat scroll; }
.moments { display: flex; gap: 1rem; }
.moments figure { flex: none; margin: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: .5rem 1.5rem;
  align-items: end; }
.charts.few { max-width: 48rem; }
.chart { margin: .5rem 0; max-width: 30rem; }
.chart > svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--soft); }
svg .rule { stroke: var(--line); stroke-width: 1; fill: none; }
svg .dashed { stroke: var(--soft); stroke-dasharray: 4 4; fill: none; }
.curve path { fill: none; stroke-width: 2; stroke-linejoin: round; }
.c0 path { stroke: var(--c0); } .c0 circle { fill: var(--c0); }
.c1 path { stroke: var(--c1); stroke-dasharray: 7 3; } .c1 circle { fill: var(--c1); }
.c2 path { stroke: var(--c2); stroke-dasharray: 2 3; } .c2 circle { fill: var(--c2); }
.c3 path { stroke: var(--c3); stroke-dasharray: 9 3 2 3; } .c3 circle { fill: var(--c3); }
.c4 path { stroke: var(--c4); stroke-dasharray: 12 4; } .c4 circle { fill: var(--c4); }
.c5 path { stroke: var(--c5); stroke-dasharray: 4 2; } .c5 circle { fill: var(--c5); }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; margin: .2rem 0 0; padding: 0; list-style: none; }
.key { width: 22px; height: 10px; margin-right: .4rem; vertical-align: middle; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: 0 0 .5rem; max-width: min(46rem, calc(100vw - 2rem)); }
th, td { padding: .35rem .7rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody th { font-weight: 600; min-width: 6.5rem; }
th:first-child, td:first-child { padding-left: 0; }
.figure { text-align: right; }
td.figure { white-space: nowrap; }
.starts tbody th { min-width: 0; }
.starts td:nth-child(2) { min-width: 9rem; max-width: 30rem; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  th, td { padding: .35rem .4rem; font-size: .92rem; }
  td.figure { white-space: normal; }
  tbody th { overflow-wrap: break-word; }
}
.matrix th, .matrix td { padding: .25rem .3rem; border: 0; text-align: center; font-size: .9rem; min-width: 2.1rem; }
.matrix tbody th { text-align: right; padding-right: .6rem; white-space: nowrap; position: sticky; left: 0;
  background: var(--paper); font-weight: 400; min-width: 0; }
.matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: 400; text-align: left;
  vertical-align: top; margin: 0 auto; }
/* Half of the accent at most: the figure stays readable (4.5 : 1) on every shade, light and dark. */
.matrix td { background: color-mix(in srgb, var(--accent) calc(var(--share) / 2), var(--raised));
  border: 1px solid var(--paper); }
details { margin: .75rem 0; }
summary { cursor: pointer; padding: .35rem 0; color: var(--accent); }
pre { overflow-x: auto; background: var(--raised); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem;
  font: .875rem/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
@media print { details > * { display: block; } nav { display: none; } }
"""
