"""What the contact sheet adds to the reports' style sheet, whose colours it uses."""

from targets.style import CSS as COMMON

CSS = (
    COMMON
    + """
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(15.5rem, 1fr)); gap: 1.1rem;
  margin: 1rem 0 0; padding: 0; list-style: none; }
.sheet li { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px;
  overflow: hidden; display: flex; flex-direction: column; break-inside: avoid; }
.sheet .frame { height: 12rem; display: flex; align-items: center; justify-content: center;
  background: var(--rule); }
.sheet img { width: 100%; height: 100%; object-fit: contain; }
.sheet img.tiny { image-rendering: pixelated; }
.sheet .said { padding: .7rem .85rem .8rem; display: grid; gap: .6rem; }
.sheet dl { margin: 0; display: grid; gap: .5rem; }
.sheet dt { color: var(--soft); font-size: .76rem; }
.sheet dd { margin: 0; display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 .6rem;
  font-size: .92rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
.sheet dd.right { font-weight: 600; }
.sheet dd b { font-weight: inherit; overflow-wrap: anywhere; }
.sheet dd.right b::after { content: " ✓"; color: var(--accent); }
.sheet .track { grid-column: 1 / -1; height: .3rem; border-radius: 2px; background: var(--rule);
  margin-top: .2rem; }
.sheet .fill { display: block; height: 100%; border-radius: 2px; background: var(--mark); }
.sheet dd.right .fill { background: var(--accent); }
.sheet dd.kept { color: var(--soft); font-size: .82rem; margin-top: .25rem; }
.sheet .foot { display: flex; flex-wrap: wrap; gap: .2rem .5rem; align-items: baseline;
  font-size: .8rem; color: var(--soft); }
.sheet .foot .tag { margin: 0; }
.sheet .foot .file { overflow-wrap: anywhere; flex-basis: 100%; }
.tag.won { background: var(--accent-soft); color: var(--accent); }
.tag.both { background: var(--rule); color: var(--soft); }
@media print { .sheet .frame { height: 8rem; } }
"""
)
