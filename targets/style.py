"""The style sheet of report.html: light, dark, phone and paper; system typefaces only."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fdfdfc; --panel: #f5f6f5; --ink: #1b1f23; --soft: #59636b; --rule: #dcdfe0;
  --accent: #0a6a5c; --accent-soft: #d8ebe6; --mark: #7a8790; --warn: #93500b; --warn-soft: #f7ead9;
  --other: #6250b4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --panel: #1c2024; --ink: #e7eaec; --soft: #a0abb3; --rule: #343a40;
    --accent: #5cc9b4; --accent-soft: #17382f; --mark: #84919a; --warn: #e5b073;
    --warn-soft: #3a2b17; --other: #ab9ff0;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 70rem; padding: 2.5rem 1.5rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
header p.where { color: var(--soft); margin: 0; }
h1 { font-size: 1.15rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; font-weight: 650; margin: 3rem 0 .3rem; letter-spacing: -.005em; }
h2 + p, .smaller p { margin-top: 0; color: var(--soft); max-width: 48rem; }
.smaller p { margin: 0 0 .4rem; overflow-wrap: anywhere; }
.smoke { margin: 1.2rem 0 0; padding: .6rem .9rem; border-radius: 6px; font-weight: 550;
  background: var(--warn-soft); color: var(--warn); }
.verdict { margin: 1.6rem 0 1rem; padding-left: 1.1rem; border-left: 4px solid var(--accent); }
.verdict p.first {
  font-size: 1.45rem; line-height: 1.35; font-weight: 550; letter-spacing: -.012em;
  margin: 0; max-width: 50rem; overflow-wrap: anywhere; text-wrap: pretty;
}
.verdict ul { margin: .7rem 0 0; padding: 0; list-style: none; color: var(--soft); }
.verdict li { margin: .15rem 0; overflow-wrap: anywhere; }
.verdict.none { border-color: var(--warn); }
details { margin: .9rem 0 0; max-width: 50rem; }
summary { cursor: pointer; color: var(--accent); width: fit-content; }
details p, details ul { color: var(--soft); margin: .4rem 0; }
details ul { padding-left: 1.2rem; }
.figures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1px; margin: 1.8rem 0 0;
  background: var(--rule); border: 1px solid var(--rule); border-radius: 8px; overflow: hidden; }
.figures div { background: var(--paper); padding: .8rem 1rem; }
.figures dt { color: var(--soft); font-size: .82rem; }
.figures dd { margin: 0; }
.figures dd.big { font-size: 1.5rem; font-weight: 600; letter-spacing: -.02em; line-height: 1.3; }
.figures dd.than { color: var(--soft); font-size: .82rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; margin-top: .8rem; }
th, td { text-align: right; padding: .5rem .6rem; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
th:first-child, td:first-child, .l { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--soft); font-weight: 500; font-size: .8rem; vertical-align: bottom;
  border-bottom-color: var(--mark); }
tbody th { font-weight: 550; overflow-wrap: anywhere; }
td { white-space: nowrap; }
caption { text-align: left; font-weight: 550; padding: .4rem 0; overflow-wrap: anywhere; }
.accounts thead th { max-width: 6rem; white-space: normal; }
.files th[scope=row] { min-width: 13rem; }
.int8 th[scope=row] { min-width: 12rem; }
.words th[scope=row] { min-width: 11rem; }
.words td.wrap { overflow-wrap: break-word; }
.steps th[scope=row] { white-space: nowrap; }
.files tbody td:nth-child(2) { white-space: normal; }
td.wrap { white-space: normal; overflow-wrap: anywhere; }
small { display: block; color: var(--soft); font-size: .8rem; font-weight: 400; }
tr.ship { background: linear-gradient(var(--accent-soft), var(--accent-soft)); }
tr.ship th:first-child { box-shadow: -10px 0 0 var(--accent-soft); }
tr.ship td:last-child { box-shadow: 10px 0 0 var(--accent-soft); }
.tag { display: inline-block; font-size: .72rem; font-weight: 600; line-height: 1.5;
  padding: 0 .45em; border-radius: 4px; margin-left: .35em; white-space: nowrap; }
.tag.ship { background: var(--accent); color: var(--paper); }
.tag.warn { background: var(--warn-soft); color: var(--warn); }
.none-yet { color: var(--soft); }
.charts { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 0 3rem; }
figure { margin: 0; }
figure h3 { font-size: .92rem; font-weight: 550; margin: 1rem 0 0; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; margin-top: .8rem; overflow: visible;
  font-family: inherit; }
svg.on-narrow { display: none; }
svg text { fill: var(--ink); font-size: 11px; }
svg .tick, svg .axis, svg .note { fill: var(--soft); font-size: 10.5px; }
svg .label { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
svg .label.ship, svg .label.first, svg .value.ship { fill: var(--accent); font-weight: 650; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .floor { stroke: var(--warn); stroke-width: 1; stroke-dasharray: 4 3; }
svg .interval { stroke: var(--mark); stroke-width: 1.2; }
svg .leader { stroke: var(--mark); stroke-width: .7; }
svg .mark { fill: var(--paper); stroke: var(--mark); stroke-width: 2; }
svg .mark.ship { fill: var(--accent); stroke: var(--accent); }
svg .mark.smaller { stroke: var(--other); }
svg .label.smaller { fill: var(--other); }
svg .curve.smaller { stroke: var(--other); stroke-dasharray: 5 3; }
svg .bar { fill: var(--mark); } svg .bar.ship { fill: var(--accent); }
svg .bar.gone { fill: var(--rule); }
svg .bar.saved { fill: var(--accent); } svg .bar.cost { fill: var(--warn); }
svg .curve { fill: none; stroke: var(--mark); stroke-width: 1.4; }
svg .point { fill: var(--mark); } svg .point.first { fill: var(--accent); }
svg .curve.first { stroke: var(--accent); stroke-width: 2.4; }
svg .dot { fill: var(--mark); opacity: .45; } svg .dot.ship { fill: var(--accent); }
svg .whisker { stroke: var(--soft); stroke-width: 1.2; }
svg .box { fill: var(--paper); fill-opacity: .75; stroke: var(--soft); stroke-width: 1.2; }
svg .median { stroke: var(--ink); stroke-width: 2.2; }
svg .whisker.ship, svg .box.ship, svg .median.ship { stroke: var(--accent); }
.bar-cell { min-width: 9rem; }
.bar-cell span.track { display: inline-block; width: calc(100% - 4.2rem); height: .55rem;
  border-radius: 2px; background: var(--rule); vertical-align: baseline; }
.bar-cell span.fill { display: block; height: 100%; border-radius: 2px; background: var(--mark); }
.bar-cell span.said { display: inline-block; width: 3.9rem; text-align: right; }
code { font: .92em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr));
  gap: .6rem 2rem; margin: .8rem 0 0; font-size: .88rem; }
dl.facts dt { color: var(--soft); font-size: .8rem; }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
ul.gaps { padding-left: 1.1rem; font-size: .88rem; }
ul.gaps li { margin: .25rem 0; overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 1px solid var(--rule);
  color: var(--soft); font-size: .82rem; overflow-wrap: anywhere; }
@media screen and (max-width: 46rem) {
  body { padding: 1.4rem 1rem 3rem; }
  .charts { grid-template-columns: minmax(0, 1fr); }
  .figures { grid-template-columns: 1fr 1fr; }
  .verdict p.first { font-size: 1.2rem; }
  svg.on-wide { display: none; }
  svg.on-narrow { display: block; }
  table.cards thead { position: absolute; width: 1px; height: 1px; overflow: hidden;
    clip-path: inset(50%); }
  table.cards, table.cards tbody, table.cards tr, table.cards th, table.cards td {
    display: block; }
  table.cards tr { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr));
    gap: .35rem .8rem; padding: .8rem 0; border-bottom: 1px solid var(--rule); }
  table.cards th, table.cards td { border: 0; padding: 0; text-align: left; white-space: normal; }
  table.cards th, table.cards td.full { grid-column: 1 / -1; }
  .bar-cell { min-width: 0; }
  .bar-cell span.track { width: 100%; }
  .bar-cell span.said { text-align: left; width: auto; display: block; }
  table.cards td[data-of]::before { content: attr(data-of); display: block; color: var(--soft);
    font-size: .76rem; }
  tr.ship { background: none; }
  tr.ship th:first-child, tr.ship td:last-child { box-shadow: none; }
}
@media print {
  :root {
    color-scheme: light;
    --paper: #fff; --panel: #fff; --ink: #000; --soft: #444; --rule: #ccc; --accent: #0a6a5c;
    --accent-soft: #e3f0ec; --mark: #7a8790; --warn: #93500b; --warn-soft: #f7ead9;
    --other: #6250b4;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  table { font-size: 8pt; }
  small, thead th { font-size: 7pt; }
  th, td { padding: .25rem .35rem; }
  tr, figure, .verdict, .figures { break-inside: avoid; }
  h2 { break-after: avoid; margin-top: 1.6rem; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
